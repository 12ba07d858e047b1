"""Reader of ladder files; every mistake is reported with the file and the step."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from semscale.categories.checks import check_classes, check_texts
from semscale.categories.ladder import Ladder, LadderStep
from semscale.errors import SemscaleError


def read_ladder(path: Path) -> Ladder:
    """Read and check a ladder file.

    Raises:
        SemscaleError: when the file cannot be read, is no JSON, or is no ladder (see :func:`parse_ladder`).
    """
    return parse_ladder(read_json(path), str(path))


def read_json(path: Path) -> object:
    """Read the content of a ladder file, unchecked.

    Raises:
        SemscaleError: when the file cannot be read or is no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        found = error.strerror or str(error)
        raise SemscaleError("cannot read the ladder file", where=str(path), found=found) from error
    except ValueError as error:
        raise SemscaleError("the ladder file is no JSON", where=str(path), found=str(error)) from error


def parse_ladder(content: object, where: str) -> Ladder:
    """Return the ladder of a file's content.

    Needed are `dataset`, `classes` and `steps` with `n_categories` and `categories`; `scale` (else the size
    of the largest class), `strategy` (else "file"), `order` (else 0), `repeats` (else false), `provenance` and
    `notes` are optional, other keys are ignored.

    Args:
        content: what the JSON file holds.
        where: the file, for messages.

    Raises:
        SemscaleError: for a missing or wrong key, wrong classes, an empty, repeated or doubly owned text, a
            wrong `n_categories`, scales that do not rise, or a step that adds nothing or lacks a text of the
            step before.
    """
    top = as_mapping(content, where)
    classes = as_texts(required(top, "classes", where), f"{where}: classes")
    check_classes(classes, where)
    rows = required(top, "steps", where)
    if not isinstance(rows, list) or not rows:
        raise SemscaleError("a ladder needs a list of steps", where=where, found=type(rows).__name__)
    repeats = top.get("repeats", False)
    if not isinstance(repeats, bool):
        raise SemscaleError("repeats must be true or false", where=where, found=repr(repeats))
    steps: list[LadderStep] = []
    for number, row in enumerate(rows, start=1):
        at = f"{where}: step {number} of {len(rows)}"
        step = _parse_step(row, classes, repeats, at)
        if steps:
            _check_nested(steps[-1], step, at)
        steps.append(step)
    provenance = {
        name: tuple(as_texts(texts, f"{where}: provenance"))
        for name, texts in as_mapping(top.get("provenance", {}), f"{where}: provenance").items()
    }
    if provenance and {name: len(sources) for name, sources in provenance.items()} != {
        name: len(texts) for name, texts in steps[-1].categories.items()
    }:
        raise SemscaleError("provenance does not fit the texts", where=where, expected="one for each text")
    return Ladder(
        dataset=str(required(top, "dataset", where)),
        strategy=str(top.get("strategy", "file")),
        order=as_integer(top.get("order", 0), "order", where),
        classes=tuple(classes),
        steps=tuple(steps),
        provenance=provenance,
        repeats=repeats,
        notes=tuple(as_texts(top.get("notes", []), f"{where}: notes")),
    )


def _parse_step(row: object, classes: Sequence[str], repeats: bool, at: str) -> LadderStep:
    entry = as_mapping(row, at)
    given = as_mapping(required(entry, "categories", at), f"{at}: categories")
    if set(given) != set(classes):
        odd = sorted(set(given) ^ set(classes))
        raise SemscaleError(
            "the classes of a step are not those of the ladder", where=at, found=", ".join(map(repr, odd))
        )
    categories = {name: tuple(as_texts(given[name], f"{at}: {name}")) for name in classes}
    for name, texts in categories.items():
        if not texts:
            raise SemscaleError("a class has no category", where=at, found=repr(name))
    check_texts(categories, at, repeats=repeats)
    count = sum(map(len, categories.values()))
    claimed = as_integer(required(entry, "n_categories", at), "n_categories", at)
    if claimed != count:
        raise SemscaleError(
            "n_categories is not the number of texts", where=at, found=str(claimed), expected=str(count)
        )
    scale = as_integer(entry.get("scale", max(map(len, categories.values()))), "scale", at)
    return LadderStep(scale, count, categories)


def _check_nested(before: LadderStep, step: LadderStep, at: str) -> None:
    for name, texts in before.categories.items():
        lost = list(Counter(texts) - Counter(step.categories[name]))
        if lost:
            raise SemscaleError(
                "the ladder is not nested: a step lacks texts of the step before",
                where=at,
                found=f"class {name!r} without {', '.join(map(repr, lost))}",
                expected="every step to keep all texts and to add some",
            )
    if step.n_categories <= before.n_categories:
        raise SemscaleError("a step adds no category", where=at, expected="every step to add some")
    if step.scale <= before.scale:
        raise SemscaleError(
            "the scales of a ladder must rise",
            where=at,
            found=f"{step.scale} after {before.scale}",
            expected="a larger scale",
        )


def as_mapping(value: object, where: str) -> Mapping[str, object]:
    """Return the value if it is a JSON object."""
    if not isinstance(value, dict):
        raise SemscaleError("expected an object with keys", where=where, found=type(value).__name__)
    return value


def required(entry: Mapping[str, object], key: str, where: str) -> object:
    """Return the value of a key that must be there."""
    if key not in entry:
        raise SemscaleError(f"the key {key!r} is missing", where=where, found=", ".join(entry) or "no keys")
    return entry[key]


def as_texts(value: object, where: str) -> list[str]:
    """Return the value if it is a list of strings."""
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise SemscaleError("expected a list of texts", where=where, found=type(value).__name__)
    return value


def as_integer(value: object, key: str, where: str) -> int:
    """Return the value if it is an integer."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise SemscaleError(f"{key} must be a whole number", where=where, found=repr(value))
    return value
