"""Ladder files: their JSON schema, and the reader of complete ladders."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, StrictBool, StrictInt, StrictStr, ValidationError

from semscale.categories.ladder import Ladder, LadderStep
from semscale.categories.text_checks import check_classes, check_texts
from semscale.common.errors import CategoryError
from semscale.common.files import read_regular_file
from semscale.common.parsing import parse_json

Texts = list[StrictStr]
Count = Annotated[StrictInt, Field(ge=0, lt=2**31)]


class StepFile(BaseModel):
    """Schema of a step; `scale` defaults to the size of the largest class, `published_accuracy` is in percent."""

    n_categories: Count
    categories: dict[str, Texts]
    scale: Count | None = None
    published_accuracy: float | None = Field(None, strict=True, ge=0, le=100)
    usable: StrictBool = True
    issue: str | None = None


class LadderFile(BaseModel):
    """Schema of a ladder; other keys are ignored."""

    classes: Texts = Field(min_length=1)
    steps: list[StepFile] = Field(min_length=1)
    dataset: str | None = None
    strategy: str | None = None
    family: str | None = None
    order: Count = 0
    repeats: StrictBool = False
    provenance: dict[str, Texts] = {}
    notes: Texts = []


def parse_ladder_file(content: object, where: str) -> LadderFile:
    """Validate the content of a ladder file; CategoryError names the first invalid key."""
    try:
        return LadderFile.model_validate(content)
    except ValidationError as error:
        detail = error.errors(include_url=False)[0]
        path: list[Any] = list(detail["loc"])
        if path[:1] == ["steps"] and len(path) > 1 and isinstance(content, dict):
            path[:2] = [f"step {path[1] + 1} of {len(content['steps'])}"]
        key = ".".join(map(str, path))
        what = f"the ladder file is invalid: {detail['msg']}"
        found = None if detail["type"] == "missing" else repr(detail["input"])[:80]
        raise CategoryError(what, where=f"{where}: {key}" if key else where, found=found) from None


def read_json(path: Path) -> object:
    """Return the content of a JSON file."""
    try:
        return parse_json(read_regular_file(path))
    except OSError as error:
        found = error.strerror or str(error)
        raise CategoryError("cannot read the file", where=str(path), found=found) from error
    except ValueError as error:
        raise CategoryError("the file is not JSON", where=str(path), found=str(error)) from error


def read_ladder(path: Path) -> Ladder:
    """Return the ladder of a file, see :func:`parse_ladder`."""
    return parse_ladder(read_json(path), str(path))


def parse_ladder(content: object, where: str) -> Ladder:
    """Validate the content of a ladder file and return its ladder.

    Args:
        content: the parsed JSON, see :class:`LadderFile`; `dataset` is required.
        where: the file, for messages.

    Raises:
        CategoryError: a missing or invalid key, invalid classes, an empty or repeated text, a text of two classes, a
            wrong `n_categories`, scales that do not increase, or a step that adds nothing or lacks a text of the
            previous step.
    """
    file = parse_ladder_file(content, where)
    if file.dataset is None:
        raise CategoryError("the key 'dataset' is missing", where=where)
    check_classes(file.classes, where)
    steps: list[LadderStep] = []
    for number, entry in enumerate(file.steps, start=1):
        where_step = f"{where}: step {number} of {len(file.steps)}"
        step = _step(entry, file, where_step)
        if steps:
            _check_nested(steps[-1], step, where_step)
        steps.append(step)
    if file.provenance and {name: len(sources) for name, sources in file.provenance.items()} != {
        name: len(texts) for name, texts in steps[-1].categories.items()
    }:
        raise CategoryError("provenance does not match the texts", where=where, expected="one for each text")
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


def _step(entry: StepFile, file: LadderFile, where: str) -> LadderStep:
    if different := sorted(set(entry.categories) ^ set(file.classes)):
        found = ", ".join(map(repr, different))
        raise CategoryError("the classes of a step are not those of the ladder", where=where, found=found)
    categories = {name: tuple(entry.categories[name]) for name in file.classes}
    for name, texts in categories.items():
        if not texts:
            raise CategoryError("a class has no category", where=where, found=repr(name))
    check_texts(categories, where, repeats=file.repeats)
    count = sum(map(len, categories.values()))
    if entry.n_categories != count:
        found = str(entry.n_categories)
        raise CategoryError("n_categories is not the number of texts", where=where, found=found, expected=str(count))
    scale = max(map(len, categories.values())) if entry.scale is None else entry.scale
    return LadderStep(scale, count, categories)


def _check_nested(previous: LadderStep, step: LadderStep, where: str) -> None:
    for name, texts in previous.categories.items():
        lost = list(Counter(texts) - Counter(step.categories[name]))
        if lost:
            what = "the ladder is not nested: a step lacks texts of the previous step"
            found = f"class {name!r} without {', '.join(map(repr, lost))}"
            raise CategoryError(what, where=where, found=found, expected="every step to keep all texts and to add some")
    if step.n_categories <= previous.n_categories:
        raise CategoryError("a step adds no category", where=where, expected="every step to add some")
    if step.scale <= previous.scale:
        found = f"{step.scale} after {previous.scale}"
        raise CategoryError("the scales of a ladder must increase", where=where, found=found, expected="a larger scale")
