"""MLflow: experiment > study run > curve runs > trial runs, each recorded once however often a sweep is repeated."""
