"""Faults of a study as sentences: what pydantic found, in plain words, each with its line or its option."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from semscale.config.study import DatasetConfig, StrategyConfig, StudyConfig
from semscale.config.tree import Fault, Location
from semscale.errors import SemscaleError
from semscale.redact import shown

Places = Mapping[Location, int | str]
"""Where a part of the study was given: the line of the file, or the option of the command."""

_MOST_FAULTS = 50
_LONGEST = 80

_WORDS = {
    "int_type": "expected a whole number",
    "int_parsing": "expected a whole number",
    "int_from_float": "expected a whole number",
    "float_type": "expected a number",
    "float_parsing": "expected a number",
    "finite_number": "expected a finite number",
    "bool_type": "expected true or false",
    "bool_parsing": "expected true or false",
    "string_type": "expected a text",
    "tuple_type": "expected a list",
    "list_type": "expected a list",
    "dict_type": "expected a mapping of keys to values",
    "model_type": "expected a mapping of keys to values",
    "model_attributes_type": "expected a mapping of keys to values",
    "missing": "is missing",
    "string_too_short": "is empty",
    "string_pattern_mismatch": "expected letters, digits, '.', '_' and '-', a letter or digit first",
}
# a value that fits none of several types would be reported once for each of them
_UNIONS = {
    "aggregation": "expected the name of an aggregation such as max, or a list of names",
    "scales": "expected linear, exponential, or a list of whole numbers such as [1, 2, 4]",
    "classes": "expected a mapping of labels to names, a list of names, or the path of a file with either",
}


def faults_of(error: ValidationError, tree: Any) -> list[Fault]:
    """Return the faults that pydantic found in a tree, each once, at the last part of its place that the tree has."""
    found: dict[Location, str] = {}
    for detail in error.errors(include_url=False):
        location = tuple(detail["loc"])
        union = next((i for i, part in enumerate(location) if part in _UNIONS), None)
        if union is not None and detail["type"] not in ("value_error", "extra_forbidden"):
            location, message = location[: union + 1], _UNIONS[str(location[union])]
            message += _found(_at(tree, location))
        else:
            message = _sentence(detail, location)
        found.setdefault(location, message)
    return list(found.items())


def raise_faults(faults: Iterable[Fault], places: Places, where: str | None) -> None:
    """Raise one error for all faults of a study; none, no error.

    Raises:
        SemscaleError: with a line for every fault, in the order of the file.
    """
    told = dict.fromkeys((place_of(places, location), _said(location, message)) for location, message in faults)
    if not told:
        return
    ordered = sorted(told, key=lambda one: (one[0] is None, isinstance(one[0], str), one[0] or 0))
    lines = [f"  - {_prefix(place)}{said}" for place, said in ordered[:_MOST_FAULTS]]
    if len(ordered) > _MOST_FAULTS:
        lines.append(f"  - and {len(ordered) - _MOST_FAULTS} more")
    count = "a mistake" if len(ordered) == 1 else f"{len(ordered)} mistakes"
    raise SemscaleError(f"the study has {count}:\n" + "\n".join(lines), where=where)


def place_of(places: Places, location: Location) -> int | str | None:
    """Return where the innermost known part of a location was given.

    >>> place_of({("server",): 3, ("server", "urls"): "--server"}, ("server", "urls", 0))
    '--server'
    """
    for end in range(len(location), 0, -1):
        if location[:end] in places:
            return places[location[:end]]
    return None


def nearest(name: str, known: Sequence[str]) -> str:
    """Return advice on an unknown name: the nearest known one, or all of them.

    >>> nearest("templats", ["templates", "prompts"]), nearest("x", ["templates", "prompts"])
    ("did you mean 'templates'?", 'there are: templates, prompts')
    """
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(known)}"


def quoted(value: object) -> str:
    """Return a value as it may stand in a message: short, printable, and without passwords.

    >>> quoted("https://ann:pw@host/?sig=1"), quoted("a" * 100)[-6:]
    ("'https://***@host/?***'", "aa...'")
    """
    text = shown(value) if isinstance(value, str) else str(value)
    text = text if len(text) <= _LONGEST else text[:_LONGEST] + "..."
    if not isinstance(value, str):
        return text
    return repr(text) if text.isprintable() else ascii(text)


def _prefix(place: int | str | None) -> str:
    return "" if place is None else f"{place}: " if isinstance(place, str) else f"line {place}: "


def _said(location: Location, message: str) -> str:
    key = _name(location)
    return message if not key or message.startswith("unknown key") else f"{key}: {message}"


def _name(location: Location) -> str:
    text = ".".join(str(part) for part in location)
    text = shown(text)
    text = text if len(text) <= _LONGEST else text[:_LONGEST] + "..."
    return "".join(character if character.isprintable() else "?" for character in text)


def _sentence(detail: Any, location: Location) -> str:
    kind, found, context = detail["type"], detail.get("input"), detail.get("ctx", {})
    if kind == "extra_forbidden":
        return f"unknown key {_name(location)!r}; {nearest(str(location[-1]), _known_keys(location[:-1]))}"
    if kind == "missing":
        return "is missing"
    if kind == "value_error":
        return str(detail["msg"]).removeprefix("Value error, ")
    if kind == "literal_error":
        return f"expected {context['expected']}{_found(found)}"
    for limit, words in (("ge", "at least"), ("gt", "more than"), ("le", "at most"), ("lt", "less than")):
        if limit in context:
            return f"must be {words} {context[limit]}{_found(found)}"
    message = _WORDS.get(kind, detail["msg"])
    if kind == "string_type" and isinstance(found, (bool, int, float)):
        message += " (in quotes)"
    return f"{message}{_found(found)}"


def _found(value: object) -> str:
    if value is None:
        return " (found nothing)"
    if isinstance(value, (str, bool, int, float)):
        return f" (found {quoted(value)})"
    return f" (found a {'mapping' if isinstance(value, Mapping) else 'list'})"


def _at(tree: Any, location: Location) -> Any:
    for part in location:
        try:
            tree = tree[part]
        except (KeyError, IndexError, TypeError):
            return None
    return tree


def _known_keys(location: Location) -> list[str]:
    section: type[BaseModel] = StudyConfig
    for part in location:
        if part in ("datasets", "strategies"):
            section = DatasetConfig if part == "datasets" else StrategyConfig
        elif isinstance(part, str) and part in section.model_fields:
            annotation = section.model_fields[part].annotation
            if isinstance(annotation, type) and issubclass(annotation, BaseModel):
                section = annotation
    return list(section.model_fields)
