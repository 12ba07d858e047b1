"""MLflow: experiment > study run > curve runs > trial runs, each recorded once however often a sweep is repeated."""

import os

# before MLflow is imported: it reports usage unless told not to
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "true")
# its own repeats say nothing, and make a second run where only the answer was lost; ours speak and look first
# (semscale.tracking.patience)
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
