"""MLflow: experiment > study run > curve runs > trial runs, each recorded once however often a sweep is repeated."""

import os

# before MLflow is imported: it reports usage unless told not to
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "true")
# its own retries are silent, and double a run whose answer was lost; those of semscale.tracking.retry do not
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
