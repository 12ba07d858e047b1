"""The categories of any ladder file, published or made by hand."""

from __future__ import annotations

from collections.abc import Mapping

from semscale.categories.checks import normalise
from semscale.categories.files import read_ladder
from semscale.categories.ladder import Ladder
from semscale.categories.options import path_option
from semscale.categories.registry import Category, StrategyContext, context_strategy
from semscale.errors import SemscaleError


@context_strategy("file", options=("path",))
def file(context: StrategyContext) -> Mapping[str, list[Category | None]]:
    """The texts of the ladder file `path`, in the order in which its steps add them.

    What a step of the file adds to a class takes as many places as the step's scale rises; places that a class leaves
    empty stay so. Thus linear scales give the category sets of the file again at its own scales. The first texts are
    the file's, even where they are not the class names.

    Raises:
        SemscaleError: when the file is no ladder, or its classes are not those of the dataset.
    """
    path = path_option(context.options, "path", "strategy file")
    ladder = read_ladder(path)
    theirs = {normalise(name): name for name in ladder.classes}
    ours = {normalise(name): name for name in context.classes}
    if set(theirs) != set(ours):
        odd = sorted(set(theirs) ^ set(ours))
        raise SemscaleError(
            "the classes of the ladder file are not those of the dataset",
            where=str(path),
            found=", ".join(repr(theirs.get(key) or ours[key]) for key in odd[:8]),
            expected="the same classes in both",
        )
    return {ours[key]: _places(ladder, name, path.name) for key, name in theirs.items()}


def _places(ladder: Ladder, name: str, source: str) -> list[Category | None]:
    places: list[Category | None] = []
    seen: set[str] = set()
    for step in ladder.steps:
        new = [text for text in dict.fromkeys(step.categories[name]) if text not in seen]
        seen.update(new)
        places += [Category(text, source) for text in new]
        places += [None] * (step.scale - len(places))
    return places
