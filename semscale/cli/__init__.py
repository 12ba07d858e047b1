"""The command line: parse, call, print. Imports of the heavy engines stay inside the commands."""

from semscale.cli import categories, datasets, examine, replay, serve, sweep
from semscale.cli.group import main

__all__ = ["categories", "datasets", "examine", "main", "replay", "serve", "sweep"]
