"""Messages for a study with mistakes: pydantic's own, each with its line or option and the nearest known name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from semscale.common.errors import ConfigError
from semscale.common.parsing import Fault, Location
from semscale.common.redact import shown
from semscale.config.schema import DatasetConfig, StrategyConfig, StudyConfig

_MOST_FAULTS = 50
_LONGEST = 80


def faults_of(error: ValidationError, tree: Any) -> list[Fault]:
    """Return what pydantic found wrong with a tree, one fault for each value; alternatives of a union are joined."""
    messages: dict[Location, dict[str, None]] = {}
    for detail in error.errors(include_url=False):
        location = _within(detail["loc"], tree)
        if detail["type"] == "extra_forbidden":
            message = f"unknown key {_name(location)!r}; {nearest(str(location[-1]), _known_keys(location[:-1]))}"
        elif detail["type"] == "missing":
            location, message = (*location, detail["loc"][-1]), "is missing"
        elif detail["type"] == "value_error":
            message = str(detail["msg"]).removeprefix("Value error, ")
        else:
            message = f"{detail['msg']} (found {quoted(detail['input'])})"
        messages.setdefault(location, {})[message] = None
    return [(location, "; or: ".join(found)) for location, found in messages.items()]


def raise_faults(faults: Iterable[Fault], positions: Mapping[Location, int | str], where: str | None) -> None:
    """Raise one SemscaleError with a line for every fault, in the order of the file; nothing without faults.

    Args:
        faults: what is wrong where.
        positions: the line of the file, or the option of the command, where a part of the study was given.
        where: the file.
    """
    rows: set[tuple[bool, bool, int | str, str]] = set()  # lines first, then options, then what has no position
    for location, message in faults:
        ends = (location[:end] for end in range(len(location), 0, -1))
        position = next((positions[end] for end in ends if end in positions), "")
        parts = [f"line {position}" if isinstance(position, int) else position]
        parts += ["" if message.startswith("unknown key") else _name(location), message]
        rows.add((isinstance(position, str), not position, position, f"  - {': '.join(filter(None, parts))}"))
    lines = [row[-1] for row in sorted(rows)]
    if lines:
        count = "a mistake" if len(lines) == 1 else f"{len(lines)} mistakes"
        more = [f"  - and {len(lines) - _MOST_FAULTS} more"] if len(lines) > _MOST_FAULTS else []
        raise ConfigError("\n".join([f"the study has {count}:", *lines[:_MOST_FAULTS], *more]), where=where)


def nearest(name: str, known: Sequence[str]) -> str:
    """Return advice on an unknown name: the nearest known one, or all of them.

    >>> nearest("templats", ["templates", "prompts"]), nearest("x", ["templates", "prompts"])
    ("did you mean 'templates'?", 'there are: templates, prompts')
    """
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(known)}"


def quoted(value: object) -> str:
    """Return a value as it may stand in a message: short, printable, and without passwords.

    >>> quoted("https://ann:pw@host/?sig=1"), quoted("a" * 100)[-6:], quoted([1])
    ("'https://***@host/?***'", "aa...'", 'a list')
    """
    if not isinstance(value, str):
        kinds = {list: "a list", tuple: "a list", dict: "a mapping", type(None): "nothing"}
        return kinds.get(type(value)) or str(value)[:_LONGEST]
    text = _short(value)
    return repr(text) if text.isprintable() else ascii(text)


def _short(text: str) -> str:
    text = shown(text)
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "..."


def _name(location: Location) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in _short(".".join(map(str, location))))


def _within(location: Location, tree: Any) -> Location:
    """Return the part of pydantic's location that a tree has, which is without the names of a union's members."""
    for number, part in enumerate(location):
        items = dict(enumerate(tree)) if isinstance(tree, (list, tuple)) else tree
        if not isinstance(items, Mapping) or part not in items:
            return location[:number]
        tree = items[part]
    return location


def _known_keys(section: Location) -> list[str]:
    models: dict[str, Any] = {key: field.annotation for key, field in StudyConfig.model_fields.items()}
    models |= {"datasets": DatasetConfig, "strategies": StrategyConfig}
    return list((models[str(section[0])] if section else StudyConfig).model_fields)
