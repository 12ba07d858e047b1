"""``semscale datasets``: what a dataset can be, and what one holds."""

from __future__ import annotations

from semscale.cli.group import main


@main.group()
def datasets() -> None:
    """Look at datasets before anything is encoded."""
