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
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        found = error.strerror or str(error)
        raise SemscaleError("cannot read the ladder file", where=str(path), found=found) from error
    except ValueError as error:
        raise SemscaleError("the ladder file is no JSON", where=str(path), found=str(error)) from error
    return parse_ladder(content, str(path))


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
    top = _mapping(content, where)
    classes = _strings(_get(top, "classes", where), f"{where}: classes")
    check_classes(classes, where)
    rows = _get(top, "steps", where)
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
        name: tuple(_strings(texts, f"{where}: provenance"))
        for name, texts in _mapping(top.get("provenance", {}), f"{where}: provenance").items()
    }
    if provenance and {name: len(sources) for name, sources in provenance.items()} != {
        name: len(texts) for name, texts in steps[-1].categories.items()
    }:
        raise SemscaleError("provenance does not fit the texts", where=where, expected="one for each text")
    return Ladder(
        dataset=str(_get(top, "dataset", where)),
        strategy=str(top.get("strategy", "file")),
        order=_integer(top.get("order", 0), "order", where),
        classes=tuple(classes),
        steps=tuple(steps),
        provenance=provenance,
        repeats=repeats,
        notes=tuple(_strings(top.get("notes", []), f"{where}: notes")),
    )


def _parse_step(row: object, classes: Sequence[str], repeats: bool, at: str) -> LadderStep:
    entry = _mapping(row, at)
    given = _mapping(_get(entry, "categories", at), f"{at}: categories")
    if set(given) != set(classes):
        odd = sorted(set(given) ^ set(classes))
        raise SemscaleError(
            "the classes of a step are not those of the ladder", where=at, found=", ".join(map(repr, odd))
        )
    categories = {name: tuple(_strings(given[name], f"{at}: {name}")) for name in classes}
    for name, texts in categories.items():
        if not texts:
            raise SemscaleError("a class has no category", where=at, found=repr(name))
    check_texts(categories, at, repeats=repeats)
    count = sum(map(len, categories.values()))
    claimed = _integer(_get(entry, "n_categories", at), "n_categories", at)
    if claimed != count:
        raise SemscaleError(
            "n_categories is not the number of texts", where=at, found=str(claimed), expected=str(count)
        )
    scale = _integer(entry.get("scale", max(map(len, categories.values()))), "scale", at)
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


def _mapping(value: object, where: str) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise SemscaleError("expected an object with keys", where=where, found=type(value).__name__)
    return value


def _get(entry: Mapping[str, object], key: str, where: str) -> object:
    if key not in entry:
        raise SemscaleError(f"the key {key!r} is missing", where=where, found=", ".join(entry) or "no keys")
    return entry[key]


def _strings(value: object, where: str) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise SemscaleError("expected a list of texts", where=where, found=type(value).__name__)
    return value


def _integer(value: object, key: str, where: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise SemscaleError(f"{key} must be a whole number", where=where, found=repr(value))
    return value
