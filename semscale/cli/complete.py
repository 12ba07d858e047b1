"""Names that the shell offers for arguments and options when the tab key is pressed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

import click
from click.shell_completion import CompletionItem

Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def _completer(names: Callable[[], Iterable[str]], otherwise: str | None = None) -> Completer:
    """Offer the names that begin with a word; where none does, what the shell has of a kind: `file` or `dir`."""

    def complete(context: click.Context, parameter: click.Parameter, word: str) -> list[CompletionItem]:
        items = [CompletionItem(name) for name in names() if name.startswith(word)]
        return items or ([CompletionItem(word, type=otherwise)] if otherwise else [])

    return complete


def _aggregations() -> Iterable[str]:
    from semscale.scoring import AGGREGATIONS

    return AGGREGATIONS


def _datasets() -> list[str]:
    from semscale.datasets.bundled import BUNDLED
    from semscale.datasets.registry import schemes

    return [*BUNDLED, *(f"{scheme}:" for scheme in schemes())]


def _all_strategies() -> Iterable[str]:
    from semscale.categories.registry import strategy_names

    return strategy_names()


def _controls() -> Iterable[str]:
    from semscale.categories.registry import control_names

    return control_names()


def _runs() -> list[str]:
    """Return the run directories, the newest first."""
    folder = os.environ.get("SEMSCALE_RUNS") or "semscale-runs"
    files = [] if "://" in folder else Path(folder).expanduser().glob("*/study.yaml")
    return [str(file.parent) for file in sorted(files, key=lambda file: -file.stat().st_mtime)]


aggregations = _completer(_aggregations)
all_strategies = _completer(_all_strategies)
controls = _completer(_controls)
datasets = _completer(_datasets)
specs = _completer(_datasets, "file")
models = _completer(lambda: ("semscale-mini", "hf-hub:"))  # open_clip's own list would cost the import of torch
orders = _completer(lambda: map(str, range(5)))
runs = _completer(_runs, "dir")
strategies = _completer(lambda: [name for name in _all_strategies() if name not in set(_controls())])
