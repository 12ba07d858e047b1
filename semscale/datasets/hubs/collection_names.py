"""Helpers of the loaders of named collections: ``NAME[:split]``, missing packages, one opening per process."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeVar

from semscale.common.errors import DatasetError, SemscaleError
from semscale.common.filesystem import PassingError

K = TypeVar("K")
T = TypeVar("T")


def name_and_split(rest: str, option: str | None) -> tuple[str, str | None]:
    """Return the name and the wanted split of what follows the scheme."""
    name, _, split = rest.partition(":")
    if split and option not in (None, split):
        raise DatasetError("two splits are asked for", where=rest, found=f"split: {option}", expected="one of them")
    return name, split or option


def import_package(name: str, scheme: str) -> Any:
    """Import the package that a scheme needs; the extra has the scheme's name."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        what, hint = f"datasets that begin with {scheme}: need a package", f'pip install "semscale[{scheme}]"'
        raise DatasetError(what, where=f"{scheme}:", found=str(error), hint=hint) from error


def opened_once(n: int) -> Callable[[Callable[[K], T]], Callable[[K], T]]:
    """Cache the last n results of a function for readers, and its errors, raised as PassingError.

    Readers cannot cache it themselves, being unpickled anew for every chunk of images, none of which is to try again.
    """

    def decorate(function: Callable[[K], T]) -> Callable[[K], T]:
        lock = threading.Lock()

        @lru_cache(maxsize=n)
        def cached(key: K) -> T | OSError:
            try:
                return function(key)
            except SemscaleError as error:
                return OSError(f"{error.what}: {error.found}")

        def call(key: K) -> T:
            with lock:
                result = cached(key)
            if isinstance(result, OSError):
                raise PassingError(str(result))  # it says nothing about a single image
            return result

        return call

    return decorate
