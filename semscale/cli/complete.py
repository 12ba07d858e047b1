"""What the shell offers when the tab key is pressed: names of what there is, of the kind that an option takes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

import click
from click.shell_completion import CompletionItem

Offer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]

# the study's own names; a fifth order is as good as a hundredth
_AGGREGATIONS = ("max", "mean-embedding", "mean-similarity", "logsumexp", "top-3-mean")
_ORDERS = tuple(map(str, range(5)))
# open_clip's own list would cost the import of torch
_MODELS = ("semscale-mini", "hf-hub:")


def _names(known: Callable[[], Iterable[str]]) -> Offer:
    """Offer those of the names that begin with the word."""

    def offer(context: click.Context, parameter: click.Parameter, word: str) -> list[CompletionItem]:
        return [CompletionItem(name) for name in known() if name.startswith(word)]

    return offer


def _or(kind: str, offer: Offer) -> Offer:
    """Offer names, and where none fits what the shell has of a kind: `file` or `dir`."""

    def both(context: click.Context, parameter: click.Parameter, word: str) -> list[CompletionItem]:
        return offer(context, parameter, word) or [CompletionItem(word, type=kind)]

    return both


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


def _strategies() -> list[str]:
    controls = set(_controls())
    return [name for name in _all_strategies() if name not in controls]


def _runs() -> list[str]:
    """Return the run directories, the newest first."""
    given = os.environ.get("SEMSCALE_RUNS") or "semscale-runs"
    folder = Path(given).expanduser()
    files = [] if "://" in given else sorted(folder.glob("*/study.yaml"), key=lambda file: -file.stat().st_mtime)
    return [str(file.parent) for file in files]


aggregations = _names(lambda: _AGGREGATIONS)
all_strategies = _names(_all_strategies)
controls = _names(_controls)
datasets = _names(_datasets)
specs = _or("file", datasets)
models = _names(lambda: _MODELS)
orders = _names(lambda: _ORDERS)
runs = _or("dir", _names(_runs))
strategies = _names(_strategies)
