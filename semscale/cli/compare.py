"""``semscale compare``: finished studies side by side."""

from __future__ import annotations

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
    from semscale.comparison.compare import compare as run
    from semscale.comparison.show import show_compared
    from semscale.study.progress import open_console, reporter

    with only_json(as_json), reporter(open_console(stderr=True)).stage("reading runs", unit="curves") as advance:
        found = run(runs, advance)
    if as_json:
        print_json(found.to_json())
    else:
        show_compared(open_console(least=120), found)
