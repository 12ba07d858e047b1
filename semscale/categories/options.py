"""Reading a strategy's options: plain values from a study file, each refused with its name when it does not fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from semscale.errors import SemscaleError


def text_option(options: Mapping[str, object], name: str, default: str | None, where: str) -> str:
    """Return an option that is a text; without a default it is needed.

    Raises:
        SemscaleError: when it is missing or no text.

    >>> text_option({"of": "prompts"}, "of", "templates", "strategy duplicates")
    'prompts'
    """
    value = options.get(name, default)
    if value is None:
        raise _missing(name, where, "a text")
    if not isinstance(value, str):
        raise _wrong(name, where, value, "a text")
    return value


def texts_option(options: Mapping[str, object], name: str, default: Sequence[str] | None, where: str) -> list[str]:
    """Return an option that is a list of texts, at least one; without a default it is needed.

    Raises:
        SemscaleError: when it is missing, empty or no list of texts.
    """
    value = options.get(name, default)
    if value is None:
        raise _missing(name, where, "a list of texts")
    if isinstance(value, str) or not isinstance(value, Sequence) or not all(isinstance(item, str) for item in value):
        raise _wrong(name, where, value, "a list of texts")
    if not value and default is None:
        raise SemscaleError(f"the option {name!r} is empty", where=where, expected="a list of texts")
    return list(value)


def mapping_option(options: Mapping[str, object], name: str, where: str) -> dict[str, object]:
    """Return an option that is a mapping with names as keys; empty when it is not given.

    Raises:
        SemscaleError: when it is something else.
    """
    value = options.get(name)
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise _wrong(name, where, value, "a mapping")
    # YAML reads digits as numbers: {7: seven.n.01} means the class "7"
    return {str(key): item for key, item in value.items()}


def path_option(options: Mapping[str, object], name: str, where: str) -> Path:
    """Return an option that is the path of a file; it is needed.

    Raises:
        SemscaleError: when it is missing or no path.
    """
    value = options.get(name)
    if isinstance(value, Path):
        return value
    return Path(text_option(options, name, None, where)).expanduser()


def _missing(name: str, where: str, expected: str) -> SemscaleError:
    return SemscaleError(f"the strategy needs the option {name!r}", where=where, expected=expected)


def _wrong(name: str, where: str, value: object, expected: str) -> SemscaleError:
    return SemscaleError(f"the option {name!r} does not fit", where=where, found=repr(value), expected=expected)
