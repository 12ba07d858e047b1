"""MLflow tracking store: a tracking server, a database, or an sqlite file beside the run directories."""

from __future__ import annotations

import fcntl
import logging
import os
import re
import shlex
import sqlite3
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy
import tenacity
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.store.db.db_types import DATABASE_ENGINES
from mlflow.store.db.utils import create_sqlalchemy_engine
from mlflow.store.tracking import DEFAULT_LOCAL_FILE_AND_ARTIFACT_PATH
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE

from semscale.common.errors import SemscaleError, TrackingError
from semscale.common.files import database_file, sqlite_uri
from semscale.common.redact import mask_url, scrub
from semscale.tracking.descriptions import EXPERIMENT_NOTE
from semscale.tracking.retry import is_transient

_MAX_REASON = 300


@dataclass(frozen=True)
class TrackingStore:
    """A store and its experiment; the URI may contain a password and is printed only redacted."""

    uri: str
    experiment_id: str
    experiment: str

    @property
    def is_file(self) -> bool:
        """Return whether the store is an SQLite file, which has one writer at a time."""
        return self.uri.startswith("sqlite")

    def client(self) -> Any:
        """Return a client for this store; one per process and thread."""
        # MLflow would print the address of every finished run, including the password
        os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
        return MlflowClient(tracking_uri=self.uri)

    def ui_command(self, run: Path | None) -> str:
        """Return the command that opens the runs in a browser; `run` is None for a run in an object store."""
        if self.uri.startswith(("http://", "https://")):
            return f"open {mask_url(self.uri)} in a browser"
        if run is not None:
            return f"semscale ui {shlex.quote(str(_relative(run)))}"
        file = database_file(self.uri)
        uri = sqlite_uri(_relative(file)) if file else mask_url(self.uri)
        return f"mlflow ui --backend-store-uri {shlex.quote(uri)}"


def _relative(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def open_store(uri: str | None, experiment: str, folder: Path, artifacts: str | None = None) -> TrackingStore:
    """Return the store with the experiment, both created if missing.

    The default is ``mlflow.db`` with ``mlartifacts`` in the folder; `artifacts` is another artifact location. The file
    has write-ahead logging, which makes concurrent writes two to three times faster.

    Raises:
        TrackingError: the store cannot be opened, or the experiment has another artifact location.
    """
    requested, in_folder = artifacts, uri is None
    # messages about new tables; errors are raised
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    if uri is None:
        folder.mkdir(parents=True, exist_ok=True)
        uri = sqlite_uri(folder.resolve() / "mlflow.db")
        artifacts = artifacts or (folder.resolve() / "mlartifacts").as_uri()
    database = database_file(uri)
    try:
        if database:
            _make_database(database)
        if re.split("[:+]", uri)[0] in DATABASE_ENGINES:
            # MLflow itself would retry silently for minutes
            engine = create_sqlalchemy_engine(uri)
            sqlalchemy.inspect(engine)
            engine.dispose()
        opened = _experiment(MlflowClient(tracking_uri=uri), experiment, artifacts)
        _check_experiment(opened, mask_url(uri), requested)
    except SemscaleError:
        raise
    except Exception as error:  # SQLAlchemy, missing drivers and invalid URLs raise different kinds
        reason = scrub(str(error) or type(error).__name__, uri)[:_MAX_REASON]
        hint = "move it away, or name another store with --tracking-uri"
        if not in_folder:
            option = "--tracking-uri, or tracking: uri in the study file"
            hint = f"check {option}; without it the runs go to mlflow.db beside the run directory"
        if isinstance(error, MlflowException) and error.get_http_status_code() in (401, 403):
            hint = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD (or MLFLOW_TRACKING_TOKEN)"
        raise TrackingError("MLflow's store cannot be opened", where=mask_url(uri), found=reason, hint=hint) from error
    if database:
        with closing(sqlite3.connect(database)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
    return TrackingStore(uri, str(opened.experiment_id), experiment)


def _make_database(path: Path) -> None:
    """Create an empty MLflow database atomically: MLflow's migrations cannot be resumed after an interruption.

    Of several processes one creates it and the others wait.
    """
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder")
    if path.exists():
        return
    folder = os.open(path.resolve().parent, os.O_RDONLY)
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(folder, fcntl.LOCK_EX)
        if path.exists():
            return
        partial = path.resolve().with_name(f"{path.name}.partial")
        for file in (partial, partial.with_name(f"{partial.name}-journal")):
            file.unlink(missing_ok=True)
        SqlAlchemyStore(sqlite_uri(partial), DEFAULT_LOCAL_FILE_AND_ARTIFACT_PATH).engine.dispose()
        os.replace(partial, path)
    finally:
        os.close(folder)


@tenacity.retry(
    # the response was lost, or another sweep created it: the next attempt finds it
    retry=tenacity.retry_if_exception(
        lambda error: is_transient(error) or getattr(error, "error_code", "") == "RESOURCE_ALREADY_EXISTS"
    ),
    stop=tenacity.stop_after_attempt(3),
    wait=tenacity.wait_fixed(1),
    reraise=True,
)
def _experiment(client: Any, name: str, artifacts: str | None) -> Any:
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        # without this kind the UI shows prompts and traces
        tags = {"mlflow.experimentKind": "custom_model_development", MLFLOW_RUN_NOTE: EXPERIMENT_NOTE}
        experiment = client.get_experiment(client.create_experiment(name, artifact_location=artifacts, tags=tags))
    return experiment


def _check_experiment(experiment: Any, where: str, artifacts: str | None) -> None:
    if experiment.lifecycle_stage == "deleted":
        hint = "restore it in MLflow, or choose another name under tracking.experiment"
        raise TrackingError("the MLflow experiment is deleted", where=where, found=experiment.name, hint=hint)
    if artifacts is not None and experiment.artifact_location.rstrip("/") != artifacts.rstrip("/"):
        what = "the MLflow experiment has another artifact location"
        hint = "it cannot be changed; choose another name under tracking.experiment"
        location, expected = mask_url(experiment.artifact_location), mask_url(artifacts)
        raise TrackingError(what, where=experiment.name, found=location, expected=expected, hint=hint)
