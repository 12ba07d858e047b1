"""Ladder files as others have left them: read leniently, for what was offered is what has to be looked up.

Published ladders need not be nested, and `n_categories` may be what a file was called, not how many texts it held;
:mod:`semscale.categories.files` reads the ladders of our own studies and refuses both.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from semscale.errors import SemscaleError
from semscale.replay.text import fold


@dataclass(frozen=True)
class ReplayStep:
    """One step of a published ladder.

    Attributes:
        n_categories: the name of the step, also of its column of predictions.
        scale: categories per class: as the file says, else n_categories over the number of classes, rounded.
        owner: class index (into the ladder's classes) by folded category text; a text under two classes
            belongs to the first.
        shared: texts under more than one class.
        published_accuracy: percent as printed by its authors, or None.
        usable: False for a run that is broken at the source.
        issue: what is known to be wrong with it, or None.
    """

    n_categories: int
    scale: int
    owner: dict[str, int]
    shared: tuple[str, ...]
    published_accuracy: float | None
    usable: bool
    issue: str | None


@dataclass(frozen=True)
class ReplayLadder:
    """A published ladder: names, steps and classes, different ones when folded; `family` is our strategy."""

    dataset: str
    family: str
    classes: tuple[str, ...]
    steps: tuple[ReplayStep, ...]


def read_published_ladder(path: Path) -> ReplayLadder:
    """Read a ladder file: `classes` and `steps` with `n_categories` and `categories`; all else may be missing.

    Raises:
        SemscaleError: when the file cannot be read, is no JSON, or lacks what is needed.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SemscaleError(
            "cannot read the ladder file", where=str(path), found=error.strerror or str(error)
        ) from error
    except ValueError as error:
        raise SemscaleError("the ladder file is no JSON", where=str(path), found=str(error)) from error
    top = _of_type(content, dict, "the ladder", str(path))
    classes = _texts(_get(top, "classes", str(path)), f"{path}: classes")
    rows = _of_type(_get(top, "steps", str(path)), list, "steps", str(path))
    if not classes or not rows:
        raise SemscaleError("a ladder needs classes and steps", where=str(path))
    classes = _with_classes_of_steps(classes, rows)
    steps = tuple(
        _step(row, classes, f"{path}: step {number} of {len(rows)}") for number, row in enumerate(rows, start=1)
    )
    names = [step.n_categories for step in steps]
    if len(set(names)) < len(names):
        raise SemscaleError("two steps have the same n_categories", where=str(path), found=", ".join(map(str, names)))
    return ReplayLadder(
        dataset=str(top.get("dataset") or path.parent.name),
        family=_family(top),
        classes=tuple(classes),
        steps=steps,
    )


def _with_classes_of_steps(classes: list[str], rows: list[Any]) -> list[str]:
    """Return the classes and after them those that only a step names: what was offered decides."""
    known: dict[str, str] = {}
    for name in classes:
        known.setdefault(fold(name), name)
    for row in rows:
        given = row.get("categories") if isinstance(row, dict) else None
        for name in given if isinstance(given, dict) else ():
            known.setdefault(fold(name), name)
    return list(known.values())


def _family(top: dict[str, Any]) -> str:
    if "family" in top:
        return str(top["family"])
    strategy, order = str(top.get("strategy", "")), top.get("order", 0)
    return f"{strategy} order {order}" if order else strategy


def _step(row: object, classes: list[str], at: str) -> ReplayStep:
    entry = _of_type(row, dict, "a step", at)
    count = _of_type(_get(entry, "n_categories", at), int, "n_categories", at)
    categories = _of_type(_get(entry, "categories", at), dict, "categories", at)
    # the order of the classes decides who owns a shared text, whatever the order in the file
    place = {fold(name): index for index, name in enumerate(classes)}
    owner: dict[str, int] = {}
    shared: dict[str, None] = {}
    for name in sorted(categories, key=lambda name: place[fold(name)]):
        index = place[fold(name)]
        for text in _texts(categories[name], f"{at}: {name}"):
            if owner.setdefault(fold(text), index) != index:
                shared[text] = None
    scale = entry.get("scale", max(1, round(count / len(classes))))
    published = entry.get("published_accuracy")
    if published is not None and (isinstance(published, bool) or not isinstance(published, int | float)):
        raise SemscaleError("published_accuracy must be a percentage or null", where=at, found=repr(published))
    issue = entry.get("issue")
    return ReplayStep(
        n_categories=count,
        scale=_of_type(scale, int, "scale", at),
        owner=owner,
        shared=tuple(shared),
        published_accuracy=None if published is None else float(published),
        usable=_of_type(entry.get("usable", True), bool, "usable", at),
        issue=None if issue is None else str(issue),
    )


def _get(entry: dict[str, Any], key: str, where: str) -> Any:
    if key not in entry:
        raise SemscaleError(f"the key {key!r} is missing", where=where, found=", ".join(entry) or "no keys")
    return entry[key]


def _of_type(value: Any, kind: type, name: str, where: str) -> Any:
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        words = {dict: "an object with keys", list: "a list", int: "a whole number", bool: "true or false"}
        raise SemscaleError(f"{name} must be {words[kind]}", where=where, found=repr(value)[:80])
    return value


def _texts(value: object, where: str) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise SemscaleError("expected a list of texts", where=where, found=repr(value)[:80])
    return value
