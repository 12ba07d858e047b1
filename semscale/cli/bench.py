"""``semscale bench``: the project's benchmarks against their targets."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from semscale.bench.table import BENCHMARKS
from semscale.cli.group import main
from semscale.cli.output import json_option


@main.command()
@click.option("--quick", is_flag=True, help="Small sizes, one round: shows that everything runs.")
@click.option("--only", multiple=True, type=click.Choice(list(BENCHMARKS)), help="This one; repeatable.  [all]")
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), help="Also write bench.md and bench.json here."
)
@json_option("as in bench.json")
def bench(quick: bool, only: tuple[str, ...], out: Path | None, as_json: bool) -> None:
    """Measure what semscale costs, and hold it against the targets.

    Everything is compared with bare means on the same machine, in turn: encoding with clip-client and open_clip, the
    plain matrix product, Pillow. Needs the server packages. Leave the machine alone meanwhile: figures from a busy one
    are worth nothing. A benchmark that fails does not stop the others; the exit status is then 1.

    \b
    semscale bench --out bench
    semscale bench --quick --only kernel --only study
    """
    from semscale.bench.machine import describe, load
    from semscale.bench.run import Outcome, run_benchmark
    from semscale.bench.table import document, markdown
    from semscale.bench.write import make_folder, write
    from semscale.study.progress import open_console, reporter

    if out is not None:
        make_folder(out)
    console = open_console(stderr=True)
    report = reporter(console)
    machine, start = describe(), load()
    outcomes: dict[str, Outcome] = {}
    found = document(outcomes, machine, start, start, quick)
    for name in [name for name in BENCHMARKS if not only or name in only]:
        if not console.is_terminal:
            report.note(f"{name}: measuring")
        try:
            with report.stage(name):
                outcomes[name] = run_benchmark(name, quick)
        except KeyboardInterrupt:
            click.echo(
                f"Stopped in {name}; what was measured before is in {out}." if out and outcomes else "Stopped.",
                err=True,
            )
            sys.exit(130)
        if outcomes[name].error is not None:
            report.note(f"{name}: failed: {outcomes[name].error}")
        found = document(outcomes, machine, start, load(), quick)
        # after each one: a full run takes long, and a stop should lose nothing
        if out is not None:
            write(out, {"bench.md": markdown(found) + "\n", "bench.json": json.dumps(found, indent=1) + "\n"})
    click.echo(json.dumps(found, indent=1) if as_json else markdown(found))
    sys.exit(any(outcome.error is not None for outcome in outcomes.values()))
