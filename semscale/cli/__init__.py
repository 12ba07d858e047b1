"""Command-line interface: parse options, call the package, print. Heavy engines are imported inside the commands."""

from semscale.cli import categories, datasets, label, results, serve, submit, sweep
from semscale.cli.group import main

__all__ = ["categories", "datasets", "label", "main", "results", "serve", "submit", "sweep"]
