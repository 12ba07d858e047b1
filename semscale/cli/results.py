"""``semscale compare`` and ``semscale replay``: finished runs side by side, and published predictions re-scored."""

from __future__ import annotations

from pathlib import Path

import click

from semscale.cli.complete import runs as runs_
from semscale.cli.group import main
from semscale.cli.output import json_option, only_json, print_json


@main.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN RUN [RUN ...]", shell_complete=runs_)
@json_option("runs, curves, differs, same, comparisons (shares), n_tests, alone")
def compare(runs: tuple[str, ...], as_json: bool) -> None:
    """Put finished studies side by side.

    Shows what differs between them (models, weights, images, aggregation, categories), their curves, and for curves of
    the same name what each later RUN has more or less than the first one: with the class names alone, at the last scale
    that both have, and each at its own peak. Where both have the same images the difference is paired, with exact
    McNemar tests; where not, it is that of two samples, and said. RUN is a run directory, also s3://BUCKET/PREFIX.

    \b
    semscale compare semscale-runs/small-1bfe32d8 semscale-runs/large-07c1e44a
    semscale compare semscale-runs/max-0f3a semscale-runs/mean-11be --json
    """
    if len(runs) < 2:
        raise click.UsageError("give two run directories or more")
    from semscale.cli.show_compare import show_compared
    from semscale.runs.compare import compare as run
    from semscale.study.progress import open_console, reporter

    with only_json(as_json), reporter(open_console(stderr=True)).stage("reading runs", unit="curves") as advance:
        found = run(runs, advance)
    if as_json:
        print_json(found.to_json())
    else:
        show_compared(open_console(least=120), found)


@main.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="PATH [PATH ...]")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Also write the steps: .csv or .parquet.")
@click.option("--format", "form", default="table", show_default=True, type=click.Choice(["table", "json"]))
@json_option("steps, curves (rows; percent and points), as with --format json")
def replay(paths: tuple[Path, ...], out: Path | None, form: str, as_json: bool) -> None:
    """Re-score predictions that others published.

    PATH holds ladder.json and predictions.parquet, or is a run directory, or a folder of such folders. Every predicted
    text is looked up in the categories offered at its step. Accuracies are in percent, changes in points. With --out
    FILE the curves go to FILE-curves beside the steps.

    \b
    semscale replay published/ --out rescored.csv
    semscale replay semscale-runs/quickstart --format json
    """
    from semscale.cli.show_replay import as_json as document
    from semscale.cli.show_replay import check_ending, show_replay, write_tables
    from semscale.runs.published import replay as run
    from semscale.runs.sources import find_sources
    from semscale.study.progress import open_console, reporter

    if out is not None:
        check_ending(out)
    as_json = as_json or form == "json"
    with only_json(as_json):
        total = len(find_sources(paths))
        with reporter(open_console(stderr=True)).stage("re-scoring", total, "curves") as advance:
            result = run(paths, progress=advance)
    if as_json:
        click.echo(document(result))
    else:
        show_replay(open_console(least=120), result)
    if out is not None:
        steps, curves = write_tables(result, out)
        click.echo(f"steps   {steps}\ncurves  {curves}", err=as_json)
