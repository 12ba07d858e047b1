"""``semscale encode``, ``semscale score``, ``semscale report``: parts of a study by themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from semscale.cli.complete import runs as runs_
from semscale.cli.group import main
from semscale.cli.output import json_option, only_json, print_json
from semscale.cli.study import RESULT_KEYS, place_options, read_options, study_options

_STUDY = click.argument(
    "study", required=False, type=click.Path(dir_okay=False, path_type=Path), metavar="[STUDY.yaml]"
)


@main.command()
@_STUDY
@place_options
@study_options
@click.option("--quiet", is_flag=True, help="No progress, only the counts.")
@json_option("run, store (places), images_sent, texts_sent, quarantined (counts)")
def encode(study: Path | None, out: str | None, runs: str | None, quiet: bool, as_json: bool, **options: Any) -> None:
    """Encode a study's images and texts and stop there.

    Fills the embedding store, so that `semscale sweep` with the same study, or `semscale score` where no server is,
    goes on from it. The run directory gets the ladders and the quarantine.

    \b
    semscale encode study.yaml --server grpc://gpu1:51000 --store /shared/embeddings
    """
    from semscale.study.arms import make_arms
    from semscale.study.progress import open_console, reporter

    config = read_options(study, options)
    console = open_console(stderr=as_json)
    progress = reporter(console, quiet=quiet)
    with only_json(as_json):
        arms = make_arms(config, progress)
    from semscale.study.documents import filled_document
    from semscale.study.fill import fill_store
    from semscale.study.rundir import out_of
    from semscale.study.show import show_filled

    with only_json(as_json):
        filled = fill_store(config, out_of(config, out, runs), progress, arms)
    if as_json:
        print_json(filled_document(filled))
    else:
        show_filled(console, filled)


@main.command()
@_STUDY
@place_options
@study_options
@click.option("--quiet", is_flag=True, help="No progress, only the table.")
@json_option(RESULT_KEYS)
def score(study: Path | None, out: str | None, runs: str | None, quiet: bool, as_json: bool, **options: Any) -> None:
    """Run a study whose embeddings are all in the store.

    Everything of `semscale sweep` but the servers: none is asked or started. What the store lacks is said.

    \b
    semscale score study.yaml --store /shared/embeddings
    """
    from semscale.study.arms import make_arms
    from semscale.study.progress import open_console, reporter

    config = read_options(study, options)
    console = open_console(stderr=as_json)
    progress = reporter(console, quiet=quiet)
    with only_json(as_json):
        arms = make_arms(config, progress)
    from semscale.study.documents import result_document
    from semscale.study.rundir import out_of
    from semscale.study.show import show_result
    from semscale.study.study import sweep

    with only_json(as_json):
        result = sweep(config, out_of(config, out, runs), progress, arms, stored=True)
    if as_json:
        print_json(result_document(result))
    else:
        show_result(console, result)


@main.command()
@click.argument("run", metavar="RUN", shell_complete=runs_)
@json_option("report (its place)")
def report(run: str, as_json: bool) -> None:
    """Write the report.html of a finished run directory again, from its tables.

    \b
    semscale report semscale-runs/quickstart-1bfe32d8
    """
    from semscale.study.progress import open_console, reporter
    from semscale.study.rewrite import rewrite_report

    with only_json(as_json), reporter(open_console(stderr=True)).stage("writing the report"):
        written = rewrite_report(run)
    if as_json:
        print_json({"report": written if written.is_remote else written.local})
    else:
        click.echo(f"report   {written}")
