"""Strategies from files: descriptors, and the categories of a ladder file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import StringConstraints, TypeAdapter, ValidationError

from semscale.categories.ladder import Ladder
from semscale.categories.ladder_files import read_json, read_ladder
from semscale.categories.strategy_registry import Category, StrategyContext, context_strategy, read_option
from semscale.common.errors import CategoryError
from semscale.common.text import text_key

_Text = Annotated[str, StringConstraints(pattern=r"\S")]


@context_strategy("descriptors", options=("path",), aligned=False)
def descriptors(context: StrategyContext) -> Mapping[str, list[Category]]:
    """The class name, then its texts in the JSON file `path`: {class: [texts]}.

    A text that names its class ("a hen with red feathers") is not changed; any other ("red feathers") is appended to
    the class name, "hen, red feathers", because alone it would stand for every class with that feature (Menon and
    Vondrick 2022 join name and descriptor too). Classes of the file that the dataset lacks are ignored.
    """
    path: Path = read_option(context.options, "path", Path, "strategy descriptors").expanduser()
    texts = _read_descriptors(path)
    lists: dict[str, list[Category]] = {}
    for name in context.classes:
        if text_key(name) not in texts:
            found = ", ".join(list(texts)[:8]) or "no class"
            raise CategoryError("the descriptors file lacks a class", where=str(path), found=found, expected=name)
        described = [Category(_with_class_name(name, text), f"{path.name}: {text}") for text in texts[text_key(name)]]
        lists[name] = [Category(name, "{c}"), *described]
    return lists


def _read_descriptors(path: Path) -> dict[str, list[str]]:
    try:
        content = TypeAdapter(dict[str, list[_Text]]).validate_python(read_json(path))
    except ValidationError as error:
        detail = error.errors()[0]
        what = f"the descriptors file is invalid: {detail['msg']}"
        where, expected = ": ".join([str(path), *map(str, detail["loc"])]), '{"class": ["text", ...], ...}'
        raise CategoryError(what, where=where, found=repr(detail["input"])[:80], expected=expected) from None
    return {text_key(name): texts for name, texts in content.items()}


def _with_class_name(name: str, text: str) -> str:
    named = re.search(rf"\b{re.escape(text_key(name))}(?:s|es)?\b", text_key(text))
    return text if named else f"{name}, {text}"


@context_strategy("file", options=("path",))
def file(context: StrategyContext) -> Mapping[str, list[Category | None]]:
    """The texts of the ladder file `path`, in the sequence in which its steps add them.

    A step of the file fills as many positions of a class as its scale increases; those without a text are left empty.
    Thus linear scales reproduce the category sets of the file at the file's scales. The first texts are the file's,
    even where they are not the class names.
    """
    path: Path = read_option(context.options, "path", Path, "strategy file").expanduser()
    ladder = read_ladder(path)
    of_file = {text_key(name): name for name in ladder.classes}
    of_dataset = {text_key(name): name for name in context.classes}
    if set(of_file) != set(of_dataset):
        different = sorted(set(of_file) ^ set(of_dataset))
        what = "the classes of the ladder file are not those of the dataset"
        found = ", ".join(repr(of_file.get(key) or of_dataset[key]) for key in different[:8])
        raise CategoryError(what, where=str(path), found=found, expected="the same classes in both")
    return {of_dataset[key]: _category_list(ladder, name, path.name) for key, name in of_file.items()}


def _category_list(ladder: Ladder, name: str, source: str) -> list[Category | None]:
    categories: list[Category | None] = []
    seen: set[str] = set()
    for step in ladder.steps:
        new = [text for text in dict.fromkeys(step.categories[name]) if text not in seen]
        seen.update(new)
        categories += [Category(text, source) for text in new]
        categories += [None] * (step.scale - len(categories))
    return categories
