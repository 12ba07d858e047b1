"""MLflow: experiment > study run > curve runs > trial runs, each recorded once however often a sweep is repeated."""

import os

# before MLflow is imported: it reports usage unless told not to
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "true")
