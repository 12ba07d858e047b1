"""Category sets of a dataset."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from semscale.categories.arrangement import Shared
from semscale.categories.build import LadderSpec, Scales, Short, build_ladder
from semscale.categories.ladder import Ladder
from semscale.datasets.base import Dataset


def ladder(
    dataset: Dataset | Sequence[str],
    strategy: str = "templates",
    *,
    steps: int = 12,
    scales: Scales = "linear",
    order: int = 0,
    domain: str | None = None,
    short: Short = "stop",
    shared: Shared = "refuse",
    label: str | None = None,
    **options: object,
) -> Ladder:
    """Return the nested category sets of a dataset: the class names, then more texts per class at every step.

    Args:
        dataset: from :func:`semscale.load_dataset`, or class names.
        strategy: makes the equivalents of a class name: ``templates``, ``wordnet-synonyms``, ``descriptors``, ...
        steps: how many category sets.
        scales: ``linear`` (1, 2, 3, ...), ``exponential`` (1, 2, 4, ...), or a list that begins with 1.
        order: 0 for the strategy's own order, k > 0 for a seeded permutation of the equivalents.
        domain: the word for what all classes are; the dataset's own unless given.
        short: ``stop`` ends the ladder where a class runs out of equivalents, ``stay`` goes on with the others.
        shared: a text that two classes have is an error, or with ``drop`` taken from both.
        label: what tables call the strategy; two arms of one strategy need two labels.
        options: the strategy's own, such as ``path=`` for ``descriptors``, ``of=`` for a control.

    Raises:
        SemscaleError: an unknown strategy or option, too few texts, a text under two classes.

    >>> ladder(["cat", "dog"], "templates", steps=3).steps[2].categories["dog"]
    ('dog', 'dogs', 'Large dog')
    """
    if isinstance(dataset, Dataset):
        name, classes, domain = dataset.name, tuple(dataset.classes), domain or dataset.domain
    else:
        name, classes, domain = "classes", tuple(dataset), domain or "object"
    spec = LadderSpec(name, classes, domain, strategy, steps, scales, options, short, shared, label)
    return build_ladder(spec, order=order)


def texts(ladder: Ladder) -> pd.DataFrame:
    """Return the categories of a ladder, a row each in the order in which they are added: ``class``, ``scale`` (the
    step at which it comes), ``category``.

    >>> texts(ladder(["cat", "dog"], "templates", steps=2)).values.tolist()
    [['cat', 1, 'cat'], ['dog', 1, 'dog'], ['cat', 2, 'cats'], ['dog', 2, 'dogs']]
    """
    flat = ladder.flatten()
    starts = [0, *flat.step_ends.tolist()]
    rows = [
        (ladder.classes[flat.class_index[i]], scale, flat.texts[i])
        for scale, start, end in zip(flat.scales, starts, starts[1:], strict=False)
        for i in range(start, end)
    ]
    return pd.DataFrame(rows, columns=["class", "scale", "category"])
