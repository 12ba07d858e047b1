"""Validation messages for a study: pydantic's own, each with its line or option and the nearest known name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from semscale.common.errors import ConfigError
from semscale.common.parsing import KeyPath, ValidationIssue
from semscale.common.redact import mask_url
from semscale.config.schema import DatasetConfig, StrategyConfig, StudyConfig

_MAX_ISSUES = 50
_MAX_CHARACTERS = 80


def validation_issues(error: ValidationError, tree: Any) -> list[ValidationIssue]:
    """Return pydantic's errors as one issue per value, with the alternatives of a union joined."""
    messages: dict[KeyPath, dict[str, None]] = {}
    for detail in error.errors(include_url=False):
        path = _within(detail["loc"], tree)
        if detail["type"] == "extra_forbidden":
            message = f"unknown key {_name(path)!r}; {nearest(str(path[-1]), _known_keys(path[:-1]))}"
        elif detail["type"] == "missing":
            path, message = (*path, detail["loc"][-1]), "is missing"
        elif detail["type"] == "value_error":
            message = str(detail["msg"]).removeprefix("Value error, ")
        else:
            message = f"{detail['msg']} (found {quoted(detail['input'])})"
        messages.setdefault(path, {})[message] = None
    return [(path, "; or: ".join(alternatives)) for path, alternatives in messages.items()]


def raise_issues(issues: Iterable[ValidationIssue], positions: Mapping[KeyPath, int | str], where: str | None) -> None:
    """Raise one ConfigError with a line per issue, in the order of the file; return if there are none.

    Args:
        issues: the issues.
        positions: the line of the file, or the option of the command, that set a part of the study.
        where: the file.
    """
    rows: set[tuple[bool, bool, int | str, str]] = set()  # lines first, then options, then issues without a position
    for path, message in issues:
        prefixes = (path[:end] for end in range(len(path), 0, -1))
        position = next((positions[prefix] for prefix in prefixes if prefix in positions), "")
        parts = [f"line {position}" if isinstance(position, int) else position]
        parts += ["" if message.startswith("unknown key") else _name(path), message]
        rows.add((isinstance(position, str), not position, position, f"  - {': '.join(filter(None, parts))}"))
    lines = [row[-1] for row in sorted(rows)]
    if lines:
        count = "a mistake" if len(lines) == 1 else f"{len(lines)} mistakes"
        more = [f"  - and {len(lines) - _MAX_ISSUES} more"] if len(lines) > _MAX_ISSUES else []
        raise ConfigError("\n".join([f"the study has {count}:", *lines[:_MAX_ISSUES], *more]), where=where)


def nearest(name: str, known: Sequence[str]) -> str:
    """Return advice on an unknown name: the nearest known name, or all of them.

    >>> nearest("templats", ["templates", "prompts"]), nearest("x", ["templates", "prompts"])
    ("did you mean 'templates'?", 'expected one of templates, prompts')
    """
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"expected one of {', '.join(known)}"


def quoted(value: object) -> str:
    """Return a value for a message: short, printable, and without passwords.

    >>> quoted("https://ann:pw@host/?sig=1"), quoted("a" * 100)[-6:], quoted([1])
    ("'https://***@host/?***'", "aa...'", 'a list')
    """
    if not isinstance(value, str):
        kinds = {list: "a list", tuple: "a list", dict: "a mapping", type(None): "nothing"}
        return kinds.get(type(value)) or str(value)[:_MAX_CHARACTERS]
    text = _short(value)
    return repr(text) if text.isprintable() else ascii(text)


def _short(text: str) -> str:
    text = mask_url(text)
    return text if len(text) <= _MAX_CHARACTERS else text[:_MAX_CHARACTERS] + "..."


def _name(path: KeyPath) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in _short(".".join(map(str, path))))


def _within(path: KeyPath, tree: Any) -> KeyPath:
    """Return the part of pydantic's location that exists in a tree, without the names of a union's members."""
    for number, part in enumerate(path):
        items = dict(enumerate(tree)) if isinstance(tree, (list, tuple)) else tree
        if not isinstance(items, Mapping) or part not in items:
            return path[:number]
        tree = items[part]
    return path


def _known_keys(section: KeyPath) -> list[str]:
    models: dict[str, Any] = {key: field.annotation for key, field in StudyConfig.model_fields.items()}
    models |= {"datasets": DatasetConfig, "strategies": StrategyConfig}
    return list((models[str(section[0])] if section else StudyConfig).model_fields)
