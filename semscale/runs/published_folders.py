"""Folders of published predictions with their ladders, and the lenient reader of these."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from semscale.categories.ladder_files import StepFile, parse_ladder_file, read_json
from semscale.common.errors import SemscaleError
from semscale.common.text import text_key

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
    """One step of a published ladder."""

    n_categories: int  # its name, also of its column of predictions; not always the number of its texts
    scale: int  # as the file says, else n_categories over the number of classes, rounded
    owners: dict[str, int]  # class index by key of a category text; a text under two classes belongs to the first
    shared: tuple[str, ...]  # texts under more than one class
    published_accuracy: float | None  # percent, as printed by its authors
    usable: bool  # whether the step is whole at the source
    issue: str | None


@dataclass(frozen=True)
class PublishedLadder:
    """A published ladder, which need not be nested; `family` is our strategy."""

    dataset: str
    family: str
    classes: tuple[str, ...]
    steps: tuple[PublishedStep, ...]


def read_published_ladder(path: Path) -> PublishedLadder:
    """Read a ladder that need not be nested; of a file only `classes`, and the texts of its steps are required."""
    where = str(path)
    file = parse_ladder_file(read_json(path), where)
    names: dict[str, str] = {}
    # a class that only a step names is a class
    for name in (*file.classes, *(name for step in file.steps for name in step.categories)):
        names.setdefault(text_key(name), name)
    index = {key: number for number, key in enumerate(names)}
    numbers = [step.n_categories for step in file.steps]
    if len(set(numbers)) < len(numbers):
        raise SemscaleError("two steps have the same n_categories", where=where, found=", ".join(map(str, numbers)))
    strategy = file.strategy or ""
    family = file.family or (f"{strategy} order {file.order}" if file.order else strategy)
    steps = tuple(_step(step, index) for step in file.steps)
    return PublishedLadder(file.dataset or path.parent.name, family, tuple(names.values()), steps)


def _step(step: StepFile, classes: Mapping[str, int]) -> PublishedStep:
    owners: dict[str, int] = {}
    shared: dict[str, None] = {}
    # the order of the classes decides who owns a shared text, whatever the order in the file
    for name in sorted(step.categories, key=lambda name: classes[text_key(name)]):
        for text in step.categories[name]:
            if owners.setdefault(text_key(text), classes[text_key(name)]) != classes[text_key(name)]:
                shared[text] = None
    return PublishedStep(
        n_categories=step.n_categories,
        scale=max(1, round(step.n_categories / len(classes))) if step.scale is None else step.scale,
        owners=owners,
        shared=tuple(shared),
        published_accuracy=step.published_accuracy,
        usable=step.usable,
        issue=step.issue,
    )


def find_sources(paths: Sequence[Path]) -> list[Source]:
    """Return the curves under the given folders, in the order of their names; each once."""
    found: dict[Path, Source] = {}
    expected = f"a folder with {LADDER} and {PREDICTIONS}, a run directory, or a folder of such folders"
    for path in paths:
        if not path.is_dir():
            what = "there is no such folder" if not path.exists() else "this is a file"
            raise SemscaleError(what, where=str(path), expected=expected)
        sources = list(_walk(path))
        if not sources:
            raise SemscaleError("there is nothing to re-score in this folder", where=str(path), expected=expected)
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
            expected = f"its categories in {top / 'ladders'}"
            raise SemscaleError("predictions without their ladder", where=str(predictions), expected=expected)
