"""The registry of strategies: a strategy is one decorated function in one small file of `strategies/`.

To add one, put a file with a function decorated by :func:`strategy` there; nothing else has to know of it.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

from semscale.errors import SemscaleError


@dataclass(frozen=True, slots=True)
class Category:
    """One text offered to the model for a class.

    Attributes:
        text: what the model reads.
        provenance: where the text comes from, such as the template that made it.
    """

    text: str
    provenance: str


Strategy = Callable[[str, str], Sequence[Category]]
"""(class name, domain word) -> the class's ordered categories; the first one is the class name itself."""

_strategies: dict[str, Strategy] = {}


def strategy(name: str) -> Callable[[Strategy], Strategy]:
    """Register the decorated function as a strategy; the first line of its docstring describes it.

    Raises:
        ValueError: when the name is taken, which is a mistake in the program.
    """

    def register(function: Strategy) -> Strategy:
        if name in _strategies:
            raise ValueError(f"the strategy {name!r} is registered twice")
        _strategies[name] = function
        return function

    return register


@cache
def _discover() -> None:
    package = importlib.import_module("semscale.categories.strategies")
    for module in sorted(info.name for info in pkgutil.iter_modules(package.__path__)):
        importlib.import_module(f"{package.__name__}.{module}")


def strategy_names() -> tuple[str, ...]:
    """Return the names of all strategies, sorted.

    >>> {"templates", "templates-fixed"} <= set(strategy_names())
    True
    """
    _discover()
    return tuple(sorted(_strategies))


def strategy_description(name: str) -> str:
    """Return the first line of the strategy's docstring."""
    return (find_strategy(name).__doc__ or "").strip().partition("\n")[0]


def find_strategy(name: str) -> Strategy:
    """Return the strategy with this name.

    Raises:
        SemscaleError: for an unknown name, with the nearest known names.

    >>> [category.text for category in find_strategy("templates")("dog", "animal")][:3]
    ['dog', 'dogs', 'Large dog']
    """
    names = strategy_names()
    if name in _strategies:
        return _strategies[name]
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.4)
    raise SemscaleError(
        "unknown strategy",
        found=repr(name),
        expected=f"one of {', '.join(names)}",
        hint=f"did you mean {' or '.join(near)}?" if near else None,
    )
