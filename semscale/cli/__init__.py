"""The command line: parse, call, print. Imports of the heavy engines stay inside the commands."""

from semscale.cli import (
    categories,
    compare,
    datasets,
    examine,
    label,
    replay,
    serve,
    submit,
    sweep,
    ui,
)
from semscale.cli.group import main

__all__ = [
    "categories",
    "compare",
    "datasets",
    "examine",
    "label",
    "main",
    "replay",
    "serve",
    "submit",
    "sweep",
    "ui",
]
