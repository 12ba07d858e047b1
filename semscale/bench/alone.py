"""A benchmark on its own: ``python -m semscale.bench.NAME [--quick] [--rounds N]``."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from typing import Any

Measure = Callable[[bool, int | None], dict[str, Any]]


def run_alone(
    doc: str | None,
    quick: str,
    measure: Measure,
    markdown: Callable[[dict[str, Any]], str],
    arguments: list[str] | None,
) -> dict[str, Any]:
    """Measure, print Markdown and one line of JSON, and return the result.

    Args:
        doc: the benchmark's description, for the help.
        quick: what ``--quick`` measures, for the help.
        measure: takes quick or not, and the number of rounds.
        markdown: makes the table.
        arguments: of the command line; those of the process unless given.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help=quick)
    parser.add_argument("--rounds", type=int)
    options = parser.parse_args(arguments)
    result = measure(options.quick, options.rounds)
    print(markdown(result))
    print(json.dumps(result))
    return result
