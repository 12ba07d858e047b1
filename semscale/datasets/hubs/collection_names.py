"""Helpers for loaders of named datasets: ``NAME[:split]``, optional packages, a per-process cache."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeVar

from semscale.common.errors import DatasetError, SemscaleError
from semscale.common.filesystem import TransientReadError

K = TypeVar("K")
T = TypeVar("T")


def name_and_split(rest: str, option: str | None) -> tuple[str, str | None]:
    """Return the name and the requested split of a spec without its scheme."""
    name, _, split = rest.partition(":")
    if split and option not in (None, split):
        raise DatasetError("two splits are requested", where=rest, found=f"split: {option}", expected="one of them")
    return name, split or option


def import_package(name: str, scheme: str) -> Any:
    """Import the package of a scheme; the extra that installs it has the scheme's name."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        what, hint = f"datasets that begin with {scheme}: need a package", f'pip install "semscale[{scheme}]"'
        raise DatasetError(what, where=f"{scheme}:", found=str(error), hint=hint) from error


def cached_for_readers(n: int) -> Callable[[Callable[[K], T]], Callable[[K], T]]:
    """Cache the last n results of a function per process, and its errors, raised as TransientReadError.

    Readers are unpickled for every chunk of images, so that they cannot hold the cache; no chunk retries an error.
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
                raise TransientReadError(str(result))  # not a fault of a single image
            return result

        return call

    return decorate
