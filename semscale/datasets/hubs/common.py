"""Helpers of the loaders of named collections: ``NAME[:split]``, missing packages, one opening per process."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import lru_cache, wraps
from typing import ParamSpec, TypeVar

from semscale.datasets.paths import choose_split
from semscale.datasets.source import Notes
from semscale.errors import SemscaleError

P = ParamSpec("P")
T = TypeVar("T")

_MOST_CHARACTERS = 300


def name_and_split(rest: str, option: str | None) -> tuple[str, str | None]:
    """Return the name and the wanted split of what follows the scheme.

    Raises:
        SemscaleError: the spec and the option ``split`` disagree.

    >>> name_and_split("food101:test", None), name_and_split("food101", "train")
    (('food101', 'test'), ('food101', 'train'))
    """
    name, _, split = rest.partition(":")
    if split and option is not None and split != option:
        raise SemscaleError("two splits are asked for", where=rest, found=f"split: {option}", expected="one of them")
    return name, split or option


def splits_to_read(available: Sequence[str], wanted: str | None, notes: Notes, where: str) -> tuple[str, ...]:
    """Return the splits to read: the wanted one, every one for ``all``, or the one that `choose_split` picks.

    Raises:
        SemscaleError: the wanted split does not exist.
    """
    return tuple(available) if wanted == "all" else (choose_split(available, wanted, notes, where),)


def missing_package(scheme: str, error: ImportError) -> SemscaleError:
    """Return the error for a scheme whose package is not installed; the extra has the scheme's name."""
    return SemscaleError(
        f"datasets that begin with {scheme}: need a package",
        where=f"{scheme}:",
        found=str(error),
        hint=f'pip install "semscale[{scheme}]"',
    )


def short(error: BaseException) -> str:
    """Return the message of a library's exception as one line of at most 300 characters.

    >>> short(ValueError("no\\n  such thing"))
    'no such thing'
    """
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= _MOST_CHARACTERS else f"{text[:_MOST_CHARACTERS]}..."


def opened_once(n: int) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Cache the last n results of a function that opens something; threads that want the same one wait for it.

    Readers cannot cache it themselves: they are unpickled anew for every chunk of images.
    """

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        cached, lock = lru_cache(maxsize=n)(function), threading.Lock()

        @wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> T:
            with lock:
                return cached(*args, **kwargs)  # type: ignore[arg-type]

        return call

    return decorate
