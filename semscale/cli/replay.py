"""``semscale replay``: re-score published predictions."""

from __future__ import annotations

from pathlib import Path

import click

from semscale.cli.group import main


@main.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="PATH [PATH ...]")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Also write the steps: .csv or .parquet.")
@click.option("--format", "form", default="table", show_default=True, type=click.Choice(["table", "json"]))
def replay(paths: tuple[Path, ...], out: Path | None, form: str) -> None:
    """Re-score predictions that others published.

    PATH holds ladder.json and predictions.parquet, or is a run directory, or a folder of such folders. Every predicted
    text is looked up in the categories offered at its step. Accuracies are in percent, changes in points. With --out
    FILE the curves go to FILE-curves beside the steps.

    \b
    semscale replay published/ --out rescored.csv
    semscale replay semscale-runs/quickstart --format json
    """
    from rich.console import Console

    from semscale.replay.run import replay as run
    from semscale.replay.show import as_json, check_ending, show_replay, write_tables

    if out is not None:
        check_ending(out)
    result = run(paths)
    if form == "json":
        click.echo(as_json(result))
    else:
        # a narrow window wraps lines, which is easier to read than cells cut short
        show_replay(Console(width=max(Console().width, 120)), result)
    if out is not None:
        steps, curves = write_tables(result, out)
        click.echo(f"steps   {steps}\ncurves  {curves}", err=form == "json")
