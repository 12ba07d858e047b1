"""Descriptors of each class from a file, in the form in which descriptor sets are published."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

from semscale.categories.checks import normalise
from semscale.categories.options import path_option
from semscale.categories.registry import Category, StrategyContext, context_strategy
from semscale.errors import SemscaleError


@context_strategy("descriptors", options=("path",), places=False)
def descriptors(context: StrategyContext) -> Mapping[str, list[Category]]:
    """The class name, then its texts in the JSON file `path`: {class: [texts]}.

    A text that names its class ("a hen with red feathers") is taken as it is; any other ("red feathers") is put
    behind the class name, "hen, red feathers", because alone it would stand for every class that has them (Menon and
    Vondrick 2022 join name and descriptor too). Classes of the file that the dataset lacks are passed over.

    Raises:
        SemscaleError: when the file cannot be read, has another form, or lacks a class.
    """
    path = path_option(context.options, "path", "strategy descriptors")
    texts = read_descriptors(path)
    made: dict[str, list[Category]] = {}
    for name in context.classes:
        if normalise(name) not in texts:
            raise SemscaleError(
                "the descriptors file lacks a class",
                where=str(path),
                found=", ".join(list(texts)[:8]) or "no class",
                expected=name,
            )
        own = [Category(_joined(name, text), f"{path.name}: {text}") for text in texts[normalise(name)]]
        made[name] = [Category(name, "{c}"), *own]
    return made


def read_descriptors(path: Path) -> dict[str, list[str]]:
    """Return the texts of each class, by the class name as :func:`normalise` writes it.

    Raises:
        SemscaleError: when the file cannot be read or does not map names to lists of texts.
    """
    form = '{"class": ["text", ...], ...}'
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        found = error.strerror or str(error)
        raise SemscaleError("cannot read the descriptors file", where=str(path), found=found) from error
    except ValueError as error:
        raise SemscaleError("the descriptors file is no JSON", where=str(path), found=str(error)) from error
    if not isinstance(content, dict):
        raise SemscaleError(
            "the descriptors file has another form", where=str(path), found=type(content).__name__, expected=form
        )
    for name, texts in content.items():
        if not isinstance(texts, list) or not all(isinstance(text, str) and text.strip() for text in texts):
            raise SemscaleError(
                "a class's descriptors are no list of texts", where=str(path), found=f"class {name!r}", expected=form
            )
    return {normalise(name): texts for name, texts in content.items()}


def _joined(name: str, text: str) -> str:
    named = re.search(rf"\b{re.escape(normalise(name))}(?:s|es)?\b", normalise(text))
    return text if named else f"{name}, {text}"
