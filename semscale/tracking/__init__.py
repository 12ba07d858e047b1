"""MLflow tracking: experiment > study run > curve runs > trial runs, each recorded once, also by repeated sweeps."""

import os

# set before MLflow is imported: no usage reports
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "true")
# its own retries are silent and duplicate a run whose response was lost; semscale.tracking.retry replaces them
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
