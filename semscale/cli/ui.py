"""``semscale ui``: MLflow's pages for a run directory."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from semscale.cli.complete import runs
from semscale.cli.group import main
from semscale.errors import SemscaleError

_QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}


@main.command()
@click.argument("run", required=False, metavar="[RUN]", shell_complete=runs)
@click.option("--port", type=click.IntRange(1, 65535), default=5000, show_default=True, help="To listen on.")
@click.option("--tracking-uri", metavar="URI", help="MLflow's store.  [the one that the study was tracked in]")
def ui(run: str | None, port: int, tracking_uri: str | None) -> None:
    """Open MLflow for a run directory.

    RUN is a run directory; the default is the newest one in SEMSCALE_RUNS or semscale-runs. Runs `mlflow ui` on this
    machine only, with the database that the study was tracked in; Ctrl-C ends it. For a study that was tracked on a
    server, prints the server's address.

    \b
    semscale ui
    semscale ui semscale-runs/quickstart-1bfe32d8 --port 5001
    """
    from semscale.redact import redact

    run = run or _newest_run()
    uri = _tracking_uri(run, tracking_uri)
    if uri.startswith(("http://", "https://")):
        click.echo(f"{run}: {redact(uri)}")
        return
    click.echo(f"{run}: http://127.0.0.1:{port}")
    sys.stdout.flush()
    command = [sys.executable, "-m", "mlflow", "ui", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    # the store's address may hold a password, which everybody could read on a command line
    os.execve(sys.executable, command, {**os.environ, **_QUIET, "MLFLOW_BACKEND_STORE_URI": uri})


def _newest_run() -> str:
    folder = Path(os.environ.get("SEMSCALE_RUNS") or "semscale-runs")
    studies = list(folder.glob("*/study.yaml"))
    if not studies:
        raise SemscaleError(
            "there is no run directory",
            where=str(folder),
            expected="a study that semscale sweep has begun there",
            hint="name the run directory: semscale ui RUN",
        )
    return str(max(studies, key=lambda path: path.stat().st_mtime).parent)


def _tracking_uri(run: str, given: str | None) -> str:
    """Return the address of the MLflow store that a run was tracked in."""
    from semscale.config import load_study
    from semscale.encoding.folder import Folder
    from semscale.study.rundir import study_file

    uri, folder = given or load_study(study_file(run)).tracking.uri, Folder.of(run)
    if uri is None and folder.is_remote:
        raise SemscaleError("the study file names no MLflow server", where=str(folder), hint="give --tracking-uri")
    uri = uri or f"sqlite:///{folder.local.parent / 'mlflow.db'}"
    if not uri.startswith(("http://", "https://")) and ("://***@" in uri or uri.endswith("?***")):
        raise SemscaleError(
            "the run's study file holds no passwords, and MLflow's database needs one",
            where=f"{folder}/study.yaml",
            found=uri,
            hint="give the whole address with --tracking-uri",
        )
    file = Path(uri.removeprefix("sqlite:///").partition("?")[0])
    if uri.startswith("sqlite:///") and not file.is_file():
        raise SemscaleError("MLflow's database does not exist", where=str(file), hint="name it with --tracking-uri")
    return uri
