"""Registry of strategies, each one decorated function in a module of `strategies/`, and readers of their options.

To add one, put a decorated function there, in a module of its own or beside its like. There are three kinds:
:func:`strategy` for lists that need the class name and the domain only, :func:`context_strategy` for lists that need
the other classes or options, and :func:`control` for arms that are made from another strategy's lists.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Annotated, Any

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from semscale.common.errors import CategoryError


@dataclass(frozen=True, slots=True)
class Category:
    """One text offered to the model for a class.

    Attributes:
        text: what the model reads.
        provenance: where the text comes from, such as the template that made it.
    """

    text: str
    provenance: str


@dataclass(frozen=True)
class StrategyContext:
    """All that a strategy may know.

    Attributes:
        classes: the class names, in the dataset's order.
        domain: the word for what all classes are.
        options: the strategy's own options, by name.
        seed: for controls, the order of the ladder; everything drawn is drawn from it.
    """

    classes: tuple[str, ...]
    domain: str
    options: Mapping[str, object] = field(default_factory=dict)
    seed: int = 0


Positions = Sequence[Category | None]
"""A class's ordered categories, the class name first; None where the class has nothing in this position."""

ClassStrategy = Callable[[str, str], Sequence[Category]]
ContextStrategy = Callable[[StrategyContext], Mapping[str, Positions]]
Control = Callable[[Mapping[str, Positions], StrategyContext], Mapping[str, Positions]]

MAPPING, TEXTS = dict[str, object], Annotated[list[str], Field(min_length=1)]
"""Kinds of options that several strategies take, see :func:`read_option`."""

_CONTROL_OPTIONS = ("of", "of_options")


@dataclass(frozen=True)
class Strategy:
    """A registered strategy.

    Attributes:
        name: how the study file calls it.
        description: one line.
        options: the names of the options that it takes.
        lists: (context) -> the ordered categories of each class; None for a control.
        control: (positions of the controlled strategy, context) -> positions with the same count per class; else None.
        aligned: whether a position means the same in every class (a template), so that an empty one stays empty; else
            the categories of a class close up.
        repeats: whether a class may be offered the same text again.
    """

    name: str
    description: str
    options: tuple[str, ...] = ()
    lists: ContextStrategy | None = None
    control: Control | None = None
    aligned: bool = True
    repeats: bool = False

    def __call__(self, class_name: str, domain: str, **options: object) -> list[Category]:
        """Return the categories of one class alone.

        Raises:
            CategoryError: for options that it does not take, and for a control, which needs all classes.
        """
        if self.lists is None:
            raise CategoryError("a control is made from the lists of all classes", found=self.name)
        check_options(self, options)
        made = self.lists(StrategyContext((class_name,), domain, options))
        return [category for category in made[class_name] if category is not None]


_strategies: dict[str, Strategy] = {}


def strategy(name: str) -> Callable[[ClassStrategy], ClassStrategy]:
    """Register (class name, domain) -> categories; the first line of the function's docstring describes it."""

    def register(function: ClassStrategy) -> ClassStrategy:
        def lists(context: StrategyContext) -> Mapping[str, Positions]:
            return {name: function(name, context.domain) for name in context.classes}

        _add(Strategy(name, _first_line(function.__doc__), lists=lists))
        return function

    return register


def context_strategy(
    name: str, *, options: Sequence[str] = (), aligned: bool = True
) -> Callable[[ContextStrategy], ContextStrategy]:
    """Register (context) -> the categories of each class; see :class:`Strategy` for `options` and `aligned`."""

    def register(function: ContextStrategy) -> ContextStrategy:
        _add(Strategy(name, _first_line(function.__doc__), tuple(options), lists=function, aligned=aligned))
        return function

    return register


def control(name: str, *, repeats: bool = False) -> Callable[[Control], Control]:
    """Register a control: an arm that offers as many categories per class as another strategy, with another meaning.

    Every control takes the options `of` (the strategy that it controls, `templates` unless given) and `of_options`.
    """

    def register(function: Control) -> Control:
        _add(Strategy(name, _first_line(function.__doc__), _CONTROL_OPTIONS, control=function, repeats=repeats))
        return function

    return register


def _add(entry: Strategy) -> None:
    if entry.name in _strategies:
        raise ValueError(f"the strategy {entry.name!r} is registered twice")
    _strategies[entry.name] = entry


def _first_line(text: str | None) -> str:
    return (text or "").strip().partition("\n")[0]


@cache
def _discover() -> None:
    package = importlib.import_module("semscale.categories.strategies")
    for module in sorted(info.name for info in pkgutil.iter_modules(package.__path__)):
        importlib.import_module(f"{package.__name__}.{module}")


def strategy_names() -> tuple[str, ...]:
    """Return the names of all strategies, controls included, sorted.

    >>> {"templates", "templates-fixed"} <= set(strategy_names())
    True
    """
    _discover()
    return tuple(sorted(_strategies))


def control_names() -> tuple[str, ...]:
    """Return the names of the controls, sorted.

    >>> control_names()
    ('duplicates', 'random-characters', 'random-words', 'shuffled', 'swapped')
    """
    return tuple(name for name in strategy_names() if _strategies[name].control is not None)


def strategy_description(name: str) -> str:
    """Return the first line of the strategy's docstring."""
    return find_strategy(name).description


def find_strategy(name: str) -> Strategy:
    """Return the strategy with this name.

    Raises:
        CategoryError: for an unknown name, with the nearest known names.

    >>> [category.text for category in find_strategy("templates")("dog", "animal")][:3]
    ['dog', 'dogs', 'Large dog']
    """
    names = strategy_names()
    if name in _strategies:
        return _strategies[name]
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.4)
    hint = f"did you mean {' or '.join(near)}?" if near else None
    raise CategoryError("unknown strategy", found=repr(name), expected=f"one of {', '.join(names)}", hint=hint)


def check_options(entry: Strategy, options: Mapping[str, object]) -> None:
    """Refuse options that the strategy does not take.

    Raises:
        CategoryError: naming the option, the nearest one and all that there are.
    """
    for name in options:
        if name not in entry.options:
            near = difflib.get_close_matches(name, entry.options, n=1)
            what = "the strategy does not take this option"
            expected = f"one of {', '.join(entry.options)}" if entry.options else "no options"
            hint = f"did you mean {near[0]}?" if near else None
            raise CategoryError(what, where=f"strategy {entry.name}", found=repr(name), expected=expected, hint=hint)


def read_option(options: Mapping[str, object], name: str, kind: Any, where: str, default: object = None) -> Any:
    """Return an option, validated as pydantic validates `kind`; without a default it is required.

    Raises:
        CategoryError: it is missing or does not fit.

    >>> read_option({"templates": ["a {c}"]}, "templates", list[str], "demo")
    ['a {c}']
    """
    value = options.get(name, default)
    if value is None:
        raise CategoryError(f"the strategy needs the option {name!r}", where=where)
    try:
        # YAML reads digits as numbers: {7: seven.n.01} means the class "7"
        return TypeAdapter(kind, config=ConfigDict(coerce_numbers_to_str=kind is MAPPING)).validate_python(value)
    except ValidationError as error:
        reason = error.errors()[0]["msg"]
        raise CategoryError(f"the option {name!r} does not fit: {reason}", where=where, found=repr(value)) from None
