"""``semscale encode``, ``semscale score``, ``semscale report``: parts of a study by themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from semscale.cli.group import main
from semscale.cli.study import console_of, place_options, read_options, study_options

_STUDY = click.argument(
    "study", required=False, type=click.Path(dir_okay=False, path_type=Path), metavar="[STUDY.yaml]"
)


@main.command()
@_STUDY
@place_options
@study_options
@click.option("--quiet", is_flag=True, help="No progress, only the counts.")
def encode(study: Path | None, out: str | None, runs: str | None, quiet: bool, **options: Any) -> None:
    """Encode a study's images and texts and stop there.

    Fills the embedding store, so that `semscale sweep` with the same study, or `semscale score` where no server is,
    goes on from it. The run directory gets the ladders and the quarantine.

    \b
    semscale encode study.yaml --server grpc://gpu1:51000 --store /shared/embeddings
    """
    from semscale.sweep.arms import make_arms

    config = read_options(study, options)
    arms = make_arms(config)
    from semscale.sweep.fill import fill_store
    from semscale.sweep.progress import reporter
    from semscale.sweep.show import show_filled
    from semscale.sweep.study import out_of

    console = console_of()
    show_filled(console, fill_store(config, out_of(config, out, runs), reporter(console, quiet=quiet), arms))


@main.command()
@_STUDY
@place_options
@study_options
@click.option("--quiet", is_flag=True, help="No progress, only the table.")
def score(study: Path | None, out: str | None, runs: str | None, quiet: bool, **options: Any) -> None:
    """Run a study whose embeddings are all in the store.

    Everything of `semscale sweep` but the servers: none is asked or started. What the store lacks is said.

    \b
    semscale score study.yaml --store /shared/embeddings
    """
    from semscale.sweep.arms import make_arms

    config = read_options(study, options)
    arms = make_arms(config)
    from semscale.sweep.progress import reporter
    from semscale.sweep.show import show_result
    from semscale.sweep.study import out_of, sweep

    console = console_of()
    show_result(console, sweep(config, out_of(config, out, runs), reporter(console, quiet=quiet), arms, stored=True))


@main.command()
@click.argument("run", metavar="RUN")
def report(run: str) -> None:
    """Write the report.html of a finished run directory again, from its tables.

    \b
    semscale report semscale-runs/quickstart-1bfe32d8
    """
    from semscale.sweep.rewrite import rewrite_report

    click.echo(f"report   {rewrite_report(run)}")
