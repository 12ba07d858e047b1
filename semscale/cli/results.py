"""Commands ``semscale compare``, ``replay`` and ``ui``: finished and published results."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from semscale.cli.group import main
from semscale.cli.options import FILE, completer, newest_runs
from semscale.cli.output import Result, json_option
from semscale.common.errors import ConfigError, TrackingError

_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    # uvicorn, which MLflow starts, would import modules from the working folder first
    "PYTHONSAFEPATH": "1", "UVICORN_APP_DIR": os.devnull,
}  # fmt: skip


@main.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN RUN [RUN ...]", shell_complete=completer("run", "dir"))
@json_option("runs, curves, differs, same, comparisons (shares), n_tests, alone")
def compare(runs: tuple[str, ...]) -> Result:
    """Compare finished studies.

    Shows the settings that differ (models, weights, images, aggregation, categories), the curves, and for curves of the
    same name the difference of each later RUN to the first: with the class names alone, at the last common scale, and
    each at its own peak. On the same images the difference is paired, with exact McNemar tests; on different images it
    is that of two independent samples. RUN is a run directory, also s3://BUCKET/PREFIX.

    \b
    semscale compare semscale-runs/small-1bfe32d8 semscale-runs/large-07c1e44a
    semscale compare semscale-runs/max-0f3a semscale-runs/mean-11be --json
    """
    if len(runs) < 2:
        raise click.UsageError("give two or more run directories")
    from semscale.cli.show_runs import show_comparison
    from semscale.common.progress import choose_reporter, open_console
    from semscale.runs.comparison import compare as run

    with choose_reporter(open_console(stderr=True)).stage("reading runs", unit="curves") as advance:
        comparison = run(runs, advance)
    return Result(comparison.to_json, lambda: show_comparison(open_console(min_width=120), comparison))


@main.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="PATH [PATH ...]")
@click.option("--out", type=FILE, help="Also write the steps: .csv or .parquet.")
@click.option("--format", "form", default="table", show_default=True, type=click.Choice(["table", "json"]))
@json_option("steps, curves (rows; percent and points), as with --format json")
def replay(paths: tuple[Path, ...], out: Path | None) -> Result:
    """Score published predictions again.

    PATH is a folder with ladder.json and predictions.parquet, a run directory, or a folder of such folders. Every
    predicted text is looked up in the categories of its step. Accuracies are in percent, changes in points. With --out
    FILE the curves are written to FILE-curves.

    \b
    semscale replay published/ --out rescored.csv
    semscale replay semscale-runs/quickstart --format json
    """
    from semscale.cli.show_runs import show_replay, write_tables
    from semscale.common.progress import choose_reporter, open_console
    from semscale.runs.published_folders import find_published
    from semscale.runs.replay import replay as run

    if out is not None and out.suffix.lower() not in (".csv", ".parquet"):
        raise ConfigError("the format of the table is unknown", where=str(out), expected="a .csv or .parquet file")
    n_curves = len(find_published(paths))
    with choose_reporter(open_console(stderr=True)).stage("re-scoring", n_curves, "curves") as advance:
        result = run(paths, progress=advance)
    files = () if out is None else write_tables(result, out)
    for name, file in zip(("steps", "curves"), files, strict=False):
        click.echo(f"{name:<7} {file}")
    document = {"steps": result.steps, "curves": result.curves}
    return Result(lambda: document, lambda: show_replay(open_console(min_width=120), result))


@main.command()
@click.argument("run", required=False, metavar="[RUN]", shell_complete=completer("run"))
@click.option("--port", type=click.IntRange(1, 65535), default=5000, show_default=True, help="Port to listen on.")
@click.option("--tracking-uri", metavar="URI", help="MLflow tracking store.  [that of the study]")
def ui(run: str | None, port: int, tracking_uri: str | None) -> None:
    """Open MLflow for a run directory.

    RUN is a run directory, by default the newest one in SEMSCALE_RUNS or semscale-runs. Runs `mlflow ui` on the
    loopback interface, with the study's tracking database, until Ctrl-C. For a study that was tracked on a server, it
    prints the server's address.

    \b
    semscale ui
    semscale ui semscale-runs/quickstart-1bfe32d8 --port 5001
    """
    from semscale.common.redact import mask_url

    run = run or next(iter(newest_runs()), None)
    if run is None:
        raise ConfigError("no run directory found", hint="name one (semscale ui RUN), or run semscale sweep first")
    uri = tracking_uri or _tracking_uri(run)
    if uri.startswith(("http://", "https://")):
        click.echo(f"{run}: {mask_url(uri)}")
        return
    from semscale.common.files import database_file

    file = database_file(uri)
    if file and not file.is_file():
        what = f"MLflow's database {'is a folder' if file.is_dir() else 'does not exist'}"
        raise TrackingError(what, where=str(file), hint="name it with --tracking-uri")
    click.echo(f"{run}: http://127.0.0.1:{port}")
    sys.stdout.flush()
    command = [sys.executable, "-m", "mlflow", "ui", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    # the address may contain a password, which all users could read on the command line
    os.execve(sys.executable, command, {**os.environ, **_ENVIRONMENT, "MLFLOW_BACKEND_STORE_URI": uri})


def _tracking_uri(run: str) -> str:
    """Return the address of the MLflow store that a run was tracked in."""
    from semscale.config import load_study
    from semscale.store.mirrored_directory import MirroredDirectory
    from semscale.study.run_directory import study_file

    uri, folder = load_study(study_file(run)).tracking.uri, MirroredDirectory.of(run)
    where, hint = f"{folder}/study.yaml", "give the whole address with --tracking-uri"
    if uri is None and folder.is_remote:
        raise TrackingError("the study file names no MLflow server", where=where, hint=hint)
    if uri is None:
        from semscale.common.files import sqlite_uri

        return sqlite_uri(folder.local.parent / "mlflow.db")
    if not uri.startswith("http") and ("://***@" in uri or uri.endswith("?***")):
        what = "the run's study file contains no passwords, and MLflow's database needs one"
        raise TrackingError(what, where=where, found=uri, hint=hint)
    return uri
