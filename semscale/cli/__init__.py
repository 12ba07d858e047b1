"""The command line: parse, call, print. Imports of the heavy engines stay inside the commands."""

from semscale.cli import categories, datasets, label, results, serve, submit, sweep
from semscale.cli.group import main

__all__ = ["categories", "datasets", "label", "main", "results", "serve", "submit", "sweep"]
