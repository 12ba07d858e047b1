"""Benchmarks of semscale against bare means on the same machine, each with its target.

    python -m tests.benchmarks [--quick] [--only NAME] [--format json]

Run it from the root of a checkout, with the server packages installed, on a machine that does nothing else: compared
are encoding with clip-client and open_clip, the plain matrix product, and Pillow, in turn within every round. A
benchmark that fails does not stop the others; the exit status is then 1.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import traceback
from dataclasses import asdict

from .harness import Row, markdown, run

PARTS = ("kernel", "encode", "study", "reading")


def main(arguments: list[str] | None = None) -> int:
    """Print the table and return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="small sizes, few rounds: shows that everything runs")
    parser.add_argument("--only", action="append", choices=PARTS, help="this one; repeatable")
    parser.add_argument("--format", choices=("table", "json"), default="table")
    options = parser.parse_args(arguments)
    load = os.getloadavg()[0]
    rows: list[Row] = []
    failed = False
    for part in options.only or PARTS:
        print(f"{part}: measuring", file=sys.stderr)
        try:
            rows += run(part, options.quick)
        except Exception:
            traceback.print_exc()
            failed = True
    if options.format == "json":
        print(json.dumps({"rows": [asdict(row) for row in rows]}))
    else:
        print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, load {load:.1f}")
        if load > 1:
            print("The machine was busy when this began (load above 1): these figures are not worth quoting.")
        print(f"\n{markdown(rows)}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
