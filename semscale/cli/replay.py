"""``semscale replay``: re-score published predictions."""

from __future__ import annotations

from pathlib import Path

import click

from semscale.cli.group import main
from semscale.cli.output import json_option, only_json


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
    from semscale.replay.run import replay as run
    from semscale.replay.show import as_json as document
    from semscale.replay.show import check_ending, show_replay, write_tables
    from semscale.replay.sources import find_sources
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
