"""Published folders, ladders with their predictions, and a lenient reader of the ladders."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from semscale.categories.ladder_files import StepFile, parse_ladder_file, read_json
from semscale.common.errors import CategoryError, SemscaleError
from semscale.common.text import text_key

LADDER, PREDICTIONS = "ladder.json", "predictions.parquet"


@dataclass(frozen=True)
class PublishedFolder:
    """Files of a curve; model and aggregation are those in the name of a run's predictions file, else ""."""

    ladder: Path
    predictions: Path
    model: str = ""
    aggregation: str = ""


@dataclass(frozen=True)
class PublishedStep:
    """Step of a published ladder."""

    n_categories: int  # identifies the step and its column of predictions; not always the number of its texts
    scale: int  # from the file, else n_categories over the number of classes, rounded
    owners: dict[str, int]  # class index by key of a category text; a text under two classes belongs to the first
    shared: tuple[str, ...]  # texts under more than one class
    published_accuracy: float | None  # percent, as printed by its authors
    usable: bool  # whether the published step is complete
    issue: str | None


@dataclass(frozen=True)
class PublishedLadder:
    """Published ladder, which need not be nested; a `family` is a strategy here."""

    dataset: str
    family: str
    classes: tuple[str, ...]
    steps: tuple[PublishedStep, ...]


def read_published_ladder(path: Path) -> PublishedLadder:
    """Read a ladder that need not be nested; the file requires only `classes` and the texts of its steps."""
    where = str(path)
    file = parse_ladder_file(read_json(path), where)
    names: dict[str, str] = {}
    # the steps may name classes that the list of classes lacks
    for name in (*file.classes, *(name for step in file.steps for name in step.categories)):
        names.setdefault(text_key(name), name)
    index = {key: number for number, key in enumerate(names)}
    numbers = [step.n_categories for step in file.steps]
    if len(set(numbers)) < len(numbers):
        raise CategoryError("two steps have the same n_categories", where=where, found=", ".join(map(str, numbers)))
    strategy = file.strategy or ""
    family = file.family or (f"{strategy} order {file.order}" if file.order else strategy)
    steps = tuple(_step(step, index) for step in file.steps)
    return PublishedLadder(file.dataset or path.parent.name, family, tuple(names.values()), steps)


def _step(step: StepFile, classes: Mapping[str, int]) -> PublishedStep:
    owners: dict[str, int] = {}
    shared: dict[str, None] = {}
    # the order of the classes, not that of the step, decides which class owns a shared text
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


def find_published(paths: Sequence[Path]) -> list[PublishedFolder]:
    """Return the curves under the folders by name, each once; SemscaleError if a folder has none."""
    folders: dict[Path, PublishedFolder] = {}
    expected = f"a folder with {LADDER} and {PREDICTIONS}, a run directory, or a folder of such folders"
    for path in paths:
        if not path.is_dir():
            what = "the folder does not exist" if not path.exists() else "this is a file"
            raise SemscaleError(what, where=str(path), expected=expected)
        below = list(_walk(path))
        if not below:
            raise SemscaleError("the folder contains no predictions", where=str(path), expected=expected)
        for folder in below:
            folders.setdefault(folder.predictions.resolve(), folder)
    return list(folders.values())


def _walk(top: Path) -> Iterator[PublishedFolder]:
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
        yield PublishedFolder(top / LADDER, top / PREDICTIONS)
    for entry in entries:
        if entry.is_dir() and not entry.name.startswith("."):
            yield from _walk(top / entry.name)


def _run_directory(top: Path) -> Iterator[PublishedFolder]:
    """Pair predictions/DATASET__MODEL__STRATEGY__ORDER.parquet with ladders/DATASET__STRATEGY__ORDER.json.

    With several aggregations the name of the predictions ends in the aggregation, after the order, a number.
    """
    ladders = sorted((top / "ladders").glob("*.json"))
    for predictions in sorted((top / "predictions").glob("*.parquet")):
        stem, _, last = predictions.stem.rpartition("__")
        stem, aggregation = (predictions.stem, "") if re.fullmatch(r"\d+", last) else (stem, last)
        for ladder in ladders:
            dataset, *arm = ladder.stem.rsplit("__", 2)
            head, tail = f"{dataset}__", "".join(f"__{part}" for part in arm)
            if stem.startswith(head) and stem.endswith(tail) and len(stem) > len(head) + len(tail):
                yield PublishedFolder(ladder, predictions, stem[len(head) : -len(tail) or None], aggregation)
                break
        else:
            expected = f"its ladder in {top / 'ladders'}"
            raise SemscaleError("predictions without a ladder", where=str(predictions), expected=expected)
