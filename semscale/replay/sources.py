"""Where predictions lie: a folder with a ladder and its predictions, a run directory, or a folder of such folders."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from semscale.errors import SemscaleError

LADDER, PREDICTIONS = "ladder.json", "predictions.parquet"


@dataclass(frozen=True)
class Source:
    """One curve to re-score.

    Attributes:
        ladder, predictions: its two files.
        model: the model in the name of a run directory's predictions file, else "".
        aggregation: the aggregation in that name, of a study with several, else "".
    """

    ladder: Path
    predictions: Path
    model: str = ""
    aggregation: str = ""


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

    Where a study has several aggregations, theirs stands after the order, which is a number.
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
