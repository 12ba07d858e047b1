"""Registry of strategies, decorated functions in the modules of `strategies/`, and validation of their options.

To add one, write a decorated function there. There are three kinds: :func:`strategy` for lists that need the class name
and the domain only, :func:`context_strategy` for lists that need the other classes or options, and :func:`control` for
arms that are made from another strategy's lists.
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
    """One text that stands for a class.

    Attributes:
        text: the model's input.
        provenance: origin of the text, such as its template.
    """

    text: str
    provenance: str


@dataclass(frozen=True)
class StrategyContext:
    """Inputs of a strategy.

    Attributes:
        classes: the class names, as the dataset sorts them.
        domain: the common noun of all classes, such as "animal".
        options: the strategy's options, by name.
        seed: for controls, the order of the ladder, which seeds all random draws.
    """

    classes: tuple[str, ...]
    domain: str
    options: Mapping[str, object] = field(default_factory=dict)
    seed: int = 0


CategoryList = Sequence[Category | None]
"""A class's categories by position, the class name first; None where the class has no category."""

CategoryLists = Mapping[str, CategoryList]
"""The categories of each class."""

ClassStrategy = Callable[[str, str], Sequence[Category]]
ContextStrategy = Callable[[StrategyContext], CategoryLists]
Control = Callable[[CategoryLists, StrategyContext], CategoryLists]

MAPPING, TEXTS = dict[str, object], Annotated[list[str], Field(min_length=1)]
"""Types of options of several strategies, see :func:`read_option`."""

_CONTROL_OPTIONS = ("of", "of_options")


@dataclass(frozen=True)
class Strategy:
    """A registered strategy.

    Attributes:
        name: its name in the study file.
        description: one line.
        options: the names of its options.
        lists: (context) -> the categories of each class; None for a control.
        control: (lists of the controlled strategy, context) -> lists with as many categories in each class; else None.
        aligned: whether a position means the same in every class (a template), so that an empty one is kept; else empty
            positions are removed.
        repeats: whether a class may have the same text again.
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
            CategoryError: for unknown options, and for a control, which needs all classes.
        """
        if self.lists is None:
            raise CategoryError("a control is made from the lists of all classes", found=self.name)
        check_options(self, options)
        lists = self.lists(StrategyContext((class_name,), domain, options))
        return [category for category in lists[class_name] if category is not None]


_strategies: dict[str, Strategy] = {}


def strategy(name: str) -> Callable[[ClassStrategy], ClassStrategy]:
    """Register (class name, domain) -> categories; its description is the first line of the function's docstring."""

    def register(function: ClassStrategy) -> ClassStrategy:
        def lists(context: StrategyContext) -> CategoryLists:
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
    """Register a control: an arm with as many categories per class as another strategy, but another meaning.

    Every control has the options `of` (the strategy that it controls, default `templates`) and `of_options`.
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
        CategoryError: unknown name; the error suggests similar ones.

    >>> [category.text for category in find_strategy("templates")("dog", "animal")][:3]
    ['dog', 'dogs', 'Large dog']
    """
    names = strategy_names()
    if name in _strategies:
        return _strategies[name]
    similar = difflib.get_close_matches(name, names, n=3, cutoff=0.4)
    hint = f"did you mean {' or '.join(similar)}?" if similar else None
    raise CategoryError("unknown strategy", found=repr(name), expected=f"one of {', '.join(names)}", hint=hint)


def check_options(entry: Strategy, options: Mapping[str, object]) -> None:
    """Refuse options that the strategy does not take.

    Raises:
        CategoryError: naming the option, a similar one and all existing ones.
    """
    for name in options:
        if name not in entry.options:
            similar = difflib.get_close_matches(name, entry.options, n=1)
            what = "the strategy does not take this option"
            expected = f"one of {', '.join(entry.options)}" if entry.options else "no options"
            hint = f"did you mean {similar[0]}?" if similar else None
            raise CategoryError(what, where=f"strategy {entry.name}", found=repr(name), expected=expected, hint=hint)


def read_option(options: Mapping[str, object], name: str, kind: Any, where: str, default: object = None) -> Any:
    """Return an option, validated by pydantic as type `kind`; without a default it is required.

    Raises:
        CategoryError: the option is missing or invalid.

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
        raise CategoryError(f"the option {name!r} is invalid: {reason}", where=where, found=repr(value)) from None
