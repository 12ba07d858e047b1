"""The command line: parse, call, print. Imports of the heavy engines stay inside the commands."""

from semscale.cli import (
    bench,
    categories,
    compare,
    completion,
    datasets,
    examine,
    label,
    replay,
    serve,
    stages,
    submit,
    sweep,
    ui,
)
from semscale.cli.group import main

__all__ = [
    "bench",
    "categories",
    "compare",
    "completion",
    "datasets",
    "examine",
    "label",
    "main",
    "replay",
    "serve",
    "stages",
    "submit",
    "sweep",
    "ui",
]
