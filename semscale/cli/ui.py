"""``semscale ui``: MLflow's pages for a run directory."""

from __future__ import annotations

import os
import signal
import sys

import click

from semscale.cli.complete import runs
from semscale.cli.group import main


@main.command()
@click.argument("run", required=False, metavar="[RUN]", shell_complete=runs)
@click.option("--port", type=click.IntRange(1, 65535), help="To listen on.  [5000, or the next free one]")
@click.option("--tracking-uri", metavar="URI", help="MLflow's store.  [the one that the study was tracked in]")
@click.option("--open/--no-open", "opens", default=None, help="Open a browser.  [on a desktop]")
def ui(run: str | None, port: int | None, tracking_uri: str | None, opens: bool | None) -> None:
    """Open MLflow for a run directory.

    RUN is a run directory, without it the newest one in SEMSCALE_RUNS or semscale-runs. Starts `mlflow ui` on this
    machine only, with the database that the study was tracked in, and prints its address once it answers; Ctrl-C ends
    it. Of a study that was tracked on a server the address of that is printed.

    \b
    semscale ui
    semscale ui semscale-runs/quickstart-1bfe32d8 --port 5001 --no-open
    """
    from semscale.redact import redact
    from semscale.study.ui import free_port, mlflow_page, newest_run, tracked_in

    tracked = tracked_in(run or newest_run(), tracking_uri)
    opens = _has_desktop() if opens is None else opens
    if tracked.is_server:
        click.echo(f"{tracked.run}: {redact(tracked.uri)}")
        _open(tracked.uri.replace("***@", ""), opens)
        return
    port = free_port(port)
    click.echo(f"{tracked.run}: starting MLflow", err=True)
    # also where a shell has told its background jobs to ignore Ctrl-C
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        with mlflow_page(tracked, port) as (address, process):
            click.echo(f"{address}\nCtrl-C ends it.")
            sys.stdout.flush()
            _open(address, opens)
            status = process.wait()
    except KeyboardInterrupt:
        click.echo(err=True)  # closes the line on which the terminal shows ^C
        sys.exit(0)  # the way in which it is meant to end
    click.echo(f"Error: MLflow ended by itself, with status {status}", err=True)
    sys.exit(1)


def _has_desktop() -> bool:
    """Whether a browser can open beside this terminal; else it might open in it."""
    desktop = sys.platform == "darwin" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    return sys.stdout.isatty() and bool(desktop)


def _open(address: str, opens: bool) -> None:
    if opens:
        import webbrowser

        webbrowser.open(address)
