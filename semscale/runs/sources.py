"""Folders with predictions and their ladders, and the lenient reader of published ladders."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from semscale.categories.files import as_integer, as_mapping, as_texts, read_json, required
from semscale.errors import SemscaleError
from semscale.text import text_key

LADDER, PREDICTIONS = "ladder.json", "predictions.parquet"


@dataclass(frozen=True)
class Source:
    """Files of one curve, with the model and the aggregation in the name of a run's predictions file, else ""."""

    ladder: Path
    predictions: Path
    model: str = ""
    aggregation: str = ""


@dataclass(frozen=True)
class PublishedStep:
    """One step of a published ladder.

    Attributes:
        n_categories: the name of the step, also of its column of predictions; not always the number of its texts.
        scale: categories per class: as the file says, else n_categories over the number of classes, rounded.
        owners: class index by key of a category text; a text under two classes belongs to the first.
        shared: texts under more than one class.
        published_accuracy: percent as printed by its authors, or None.
        usable: False for a run that is broken at the source.
        issue: what is known to be wrong with it, or None.
    """

    n_categories: int
    scale: int
    owners: dict[str, int]
    shared: tuple[str, ...]
    published_accuracy: float | None
    usable: bool
    issue: str | None


@dataclass(frozen=True)
class PublishedLadder:
    """A published ladder, which need not be nested; `family` is our strategy."""

    dataset: str
    family: str
    classes: tuple[str, ...]
    steps: tuple[PublishedStep, ...]


def read_published_ladder(path: Path) -> PublishedLadder:
    """Read `classes` and `steps` with `n_categories` and `categories`; everything else may be missing.

    :func:`semscale.categories.files.read_ladder` reads the ladders of our own studies, and refuses ladders that are not
    nested or whose `n_categories` is not the number of texts.

    Raises:
        SemscaleError: when the file cannot be read, is no JSON, or lacks what is needed.
    """
    where = str(path)
    top = as_mapping(read_json(path), where)
    classes = as_texts(required(top, "classes", where), f"{where}: classes")
    rows = required(top, "steps", where)
    if not isinstance(rows, list):
        raise SemscaleError("steps must be a list", where=where, found=repr(rows)[:80])
    if not classes or not rows:
        raise SemscaleError("a ladder needs classes and steps", where=where)
    at = [f"{where}: step {number} of {len(rows)}" for number in range(1, len(rows) + 1)]
    entries = [as_mapping(row, place) for row, place in zip(rows, at, strict=True)]
    given = [entry.get("categories") for entry in entries]
    names: dict[str, str] = {}
    # a class that only a step names is a class
    for name in (*classes, *(name for texts in given if isinstance(texts, dict) for name in texts)):
        names.setdefault(text_key(name), name)
    index = {key: number for number, key in enumerate(names)}
    steps = tuple(_step(entry, index, place) for entry, place in zip(entries, at, strict=True))
    numbers = [step.n_categories for step in steps]
    if len(set(numbers)) < len(numbers):
        raise SemscaleError("two steps have the same n_categories", where=where, found=", ".join(map(str, numbers)))
    strategy, order = str(top.get("strategy", "")), top.get("order", 0)
    family = str(top.get("family", f"{strategy} order {order}" if order else strategy))
    return PublishedLadder(str(top.get("dataset") or path.parent.name), family, tuple(names.values()), steps)


def _step(entry: Mapping[str, object], classes: Mapping[str, int], at: str) -> PublishedStep:
    count = as_integer(required(entry, "n_categories", at), "n_categories", at)
    categories = as_mapping(required(entry, "categories", at), f"{at}: categories")
    owners: dict[str, int] = {}
    shared: dict[str, None] = {}
    # the order of the classes decides who owns a shared text, whatever the order in the file
    for name in sorted(categories, key=lambda name: classes[text_key(name)]):
        for text in as_texts(categories[name], f"{at}: {name}"):
            if owners.setdefault(text_key(text), classes[text_key(name)]) != classes[text_key(name)]:
                shared[text] = None
    published, usable, issue = (entry.get(key) for key in ("published_accuracy", "usable", "issue"))
    if published is not None and (isinstance(published, bool) or not isinstance(published, int | float)):
        raise SemscaleError("published_accuracy must be a percentage or null", where=at, found=repr(published))
    if not isinstance(usable, bool | None) or (usable is None and "usable" in entry):
        raise SemscaleError("usable must be true or false", where=at, found=repr(usable))
    return PublishedStep(
        n_categories=count,
        scale=as_integer(entry.get("scale", max(1, round(count / len(classes)))), "scale", at),
        owners=owners,
        shared=tuple(shared),
        published_accuracy=None if published is None else float(published),
        usable=usable is not False,
        issue=None if issue is None else str(issue),
    )


def find_sources(paths: Sequence[Path]) -> list[Source]:
    """Return the curves under the given folders, in the order of their names; each once.

    Raises:
        SemscaleError: for a path that is no folder or holds no predictions, and for a ladder without
            predictions or predictions without a ladder.
    """
    found: dict[Path, Source] = {}
    for path in paths:
        if not path.is_dir():
            raise SemscaleError(
                "there is no such folder" if not path.exists() else "this is a file",
                where=str(path),
                expected=f"a folder with {LADDER} and {PREDICTIONS}, a run directory, or a folder of such folders",
            )
        sources = list(_walk(path))
        if not sources:
            raise SemscaleError(
                "there is nothing to re-score in this folder",
                where=str(path),
                expected=f"{LADDER} and {PREDICTIONS}, here or in folders below",
            )
        for source in sources:
            found.setdefault(source.predictions.resolve(), source)
    return list(found.values())


def _walk(top: Path) -> Iterator[Source]:
    try:
        entries = sorted(os.scandir(top), key=lambda entry: entry.name)
    except OSError as error:
        raise SemscaleError("cannot read the folder", where=str(top), found=error.strerror or str(error)) from error
    names = {entry.name for entry in entries}
    if {"ladders", "predictions"} <= names:
        yield from _run_directory(top)
        return
    if LADDER in names or PREDICTIONS in names:
        for name, other in ((LADDER, PREDICTIONS), (PREDICTIONS, LADDER)):
            if name not in names:
                raise SemscaleError(f"{other} has no {name} beside it", where=str(top), expected="both files")
        yield Source(top / LADDER, top / PREDICTIONS)
    for entry in entries:
        if entry.is_dir() and not entry.name.startswith("."):
            yield from _walk(top / entry.name)


def _run_directory(top: Path) -> Iterator[Source]:
    """Pair predictions/DATASET__MODEL__STRATEGY__ORDER.parquet with ladders/DATASET__STRATEGY__ORDER.json.

    With several aggregations, theirs follows the order, which is a number.
    """
    ladders = sorted((top / "ladders").glob("*.json"))
    for predictions in sorted((top / "predictions").glob("*.parquet")):
        before, _, last = predictions.stem.rpartition("__")
        stem, aggregation = (predictions.stem, "") if re.fullmatch(r"\d+", last) else (before, last)
        for ladder in ladders:
            dataset, *arm = ladder.stem.rsplit("__", 2)
            head, tail = f"{dataset}__", "".join(f"__{part}" for part in arm)
            if stem.startswith(head) and stem.endswith(tail) and len(stem) > len(head) + len(tail):
                yield Source(ladder, predictions, stem[len(head) : -len(tail) or None], aggregation)
                break
        else:
            raise SemscaleError(
                "predictions without their ladder",
                where=str(predictions),
                expected=f"its categories in {top / 'ladders'}",
            )
