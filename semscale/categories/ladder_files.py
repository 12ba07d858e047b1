"""Ladder files: their JSON schema, and the reader of our own studies' ladders."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, StrictBool, StrictInt, StrictStr, ValidationError

from semscale.categories.ladder import Ladder, LadderStep
from semscale.categories.text_checks import check_classes, check_texts
from semscale.common.errors import CategoryError
from semscale.common.files import read_regular
from semscale.common.parsing import parse_json

Texts = list[StrictStr]
Number = Annotated[StrictInt, Field(ge=0, lt=2**31)]


class StepFile(BaseModel):
    """A step as JSON; `scale` defaults to the size of the largest class, `published_accuracy` is in percent."""

    n_categories: Number
    categories: dict[str, Texts]
    scale: Number | None = None
    published_accuracy: float | None = Field(None, strict=True, ge=0, le=100)
    usable: StrictBool = True
    issue: str | None = None


class LadderFile(BaseModel):
    """A ladder as JSON; other keys are ignored."""

    classes: Texts = Field(min_length=1)
    steps: list[StepFile] = Field(min_length=1)
    dataset: str | None = None
    strategy: str | None = None
    family: str | None = None
    order: Number = 0
    repeats: StrictBool = False
    provenance: dict[str, Texts] = {}
    notes: Texts = []


def parse_ladder_file(content: object, where: str) -> LadderFile:
    """Return the content of a ladder file in its schema; the first key that does not fit is refused."""
    try:
        return LadderFile.model_validate(content)
    except ValidationError as error:
        detail = error.errors(include_url=False)[0]
        path: list[Any] = list(detail["loc"])
        if path[:1] == ["steps"] and len(path) > 1 and isinstance(content, dict):
            path[:2] = [f"step {path[1] + 1} of {len(content['steps'])}"]
        key = ".".join(map(str, path))
        what = f"the ladder file does not fit its format: {detail['msg']}"
        found = None if detail["type"] == "missing" else repr(detail["input"])[:80]
        raise CategoryError(what, where=f"{where}: {key}" if key else where, found=found) from None


def read_json(path: Path) -> object:
    """Read a JSON file, unchecked."""
    try:
        return parse_json(read_regular(path))
    except OSError as error:
        found = error.strerror or str(error)
        raise CategoryError("cannot read the file", where=str(path), found=found) from error
    except ValueError as error:
        raise CategoryError("the file is no JSON", where=str(path), found=str(error)) from error


def read_ladder(path: Path) -> Ladder:
    """Read and check a ladder file, see :func:`parse_ladder`."""
    return parse_ladder(read_json(path), str(path))


def parse_ladder(content: object, where: str) -> Ladder:
    """Return the ladder of a file's content.

    Args:
        content: what the JSON file holds, see :class:`LadderFile`; `dataset` is required.
        where: the file, for messages.

    Raises:
        CategoryError: for a missing or wrong key, wrong classes, an empty, repeated or doubly owned text, a
            wrong `n_categories`, scales that do not rise, or a step that adds nothing or lacks a text of the
            step before.
    """
    file = parse_ladder_file(content, where)
    if file.dataset is None:
        raise CategoryError("the key 'dataset' is missing", where=where)
    check_classes(file.classes, where)
    steps: list[LadderStep] = []
    for number, entry in enumerate(file.steps, start=1):
        at = f"{where}: step {number} of {len(file.steps)}"
        step = _step(entry, file, at)
        if steps:
            _check_nested(steps[-1], step, at)
        steps.append(step)
    if file.provenance and {name: len(sources) for name, sources in file.provenance.items()} != {
        name: len(texts) for name, texts in steps[-1].categories.items()
    }:
        raise CategoryError("provenance does not fit the texts", where=where, expected="one for each text")
    return Ladder(
        dataset=file.dataset,
        strategy="file" if file.strategy is None else file.strategy,
        order=file.order,
        classes=tuple(file.classes),
        steps=tuple(steps),
        provenance={name: tuple(texts) for name, texts in file.provenance.items()},
        repeats=file.repeats,
        notes=tuple(file.notes),
    )


def _step(entry: StepFile, file: LadderFile, at: str) -> LadderStep:
    if odd := sorted(set(entry.categories) ^ set(file.classes)):
        found = ", ".join(map(repr, odd))
        raise CategoryError("the classes of a step are not those of the ladder", where=at, found=found)
    categories = {name: tuple(entry.categories[name]) for name in file.classes}
    for name, texts in categories.items():
        if not texts:
            raise CategoryError("a class has no category", where=at, found=repr(name))
    check_texts(categories, at, repeats=file.repeats)
    count = sum(map(len, categories.values()))
    if entry.n_categories != count:
        claimed = str(entry.n_categories)
        raise CategoryError("n_categories is not the number of texts", where=at, found=claimed, expected=str(count))
    scale = max(map(len, categories.values())) if entry.scale is None else entry.scale
    return LadderStep(scale, count, categories)


def _check_nested(before: LadderStep, step: LadderStep, at: str) -> None:
    for name, texts in before.categories.items():
        lost = list(Counter(texts) - Counter(step.categories[name]))
        if lost:
            what = "the ladder is not nested: a step lacks texts of the step before"
            found = f"class {name!r} without {', '.join(map(repr, lost))}"
            raise CategoryError(what, where=at, found=found, expected="every step to keep all texts and to add some")
    if step.n_categories <= before.n_categories:
        raise CategoryError("a step adds no category", where=at, expected="every step to add some")
    if step.scale <= before.scale:
        found = f"{step.scale} after {before.scale}"
        raise CategoryError("the scales of a ladder must rise", where=at, found=found, expected="a larger scale")
