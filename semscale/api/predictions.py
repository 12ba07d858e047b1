"""Ladders of category sets, and the table of predictions at their steps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from semscale.api.embeddings import Encoder, Images
from semscale.categories.arrangement import CollisionPolicy
from semscale.categories.ladder import Ladder
from semscale.categories.ladder_builder import ExhaustionPolicy, LadderSpec, Scales, build_ladder
from semscale.common.errors import CategoryError
from semscale.datasets.dataset import Dataset
from semscale.scoring.kernel import LadderInputs, ScoreOptions, score_aggregations


def ladder(  # noqa: PLR0913 -- public keywords
    dataset: Dataset | Sequence[str],
    strategy: str = "templates",
    *,
    steps: int = 12,
    scales: Scales = "linear",
    order: int = 0,
    domain: str | None = None,
    short: ExhaustionPolicy = "stop",
    shared: CollisionPolicy = "refuse",
    label: str | None = None,
    **options: object,
) -> Ladder:
    """Return the nested category sets of a dataset: the class names, then more texts per class at every step.

    Args:
        dataset: from :func:`semscale.load_dataset`, or class names.
        strategy: makes the equivalents of a class name: ``templates``, ``wordnet``, ``descriptors``, ...
        steps: number of category sets.
        scales: ``linear`` (1, 2, 3, ...), ``exponential`` (1, 2, 4, ...), or a list that begins with 1.
        order: 0 for the strategy's own order, k > 0 for a seeded permutation of the equivalents.
        domain: a word for what all classes are; default: that of the dataset.
        short: ``stop`` ends the ladder where a class runs out of equivalents, ``stay`` continues with the others.
        shared: ``refuse`` raises an error if two classes share a text, ``drop`` removes the text from both.
        label: name of the strategy in tables; two arms of one strategy need two labels.
        options: options of the strategy, such as ``path=`` for ``descriptors``, ``of=`` for a control.

    Raises:
        CategoryError: an unknown strategy or option, too few texts, a text of two classes.

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
    """Return the categories of a ladder in the order in which they are added, a row each: ``class``, ``scale`` (of
    the step that adds it), ``category``.

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


def score(
    dataset: Dataset,
    ladders: Ladder | Sequence[Ladder],
    encoder: Encoder | str = "semscale-mini",
    *,
    aggregation: str | Sequence[str] = "max",
) -> pd.DataFrame:
    """Label every image of a dataset at every step of its ladders.

    Args:
        dataset: the images.
        ladders: one or several ladders of the dataset's classes: strategies, controls, orders.
        encoder: an :class:`semscale.Encoder`, or the name of a model to run in this process.
        aggregation: how the cosines of a class's categories become the score of the class: ``max``,
            ``mean-embedding``, ``mean-similarity``, ``logsumexp``, ``top-3-mean``; or several.

    Returns:
        A row per ladder, aggregation, step and image; ``pandas.concat`` joins such tables:

        - ``dataset``, ``model``, ``strategy``, ``order``, ``aggregation``: the ladder;
        - ``scale``, ``n_categories``: the step: categories per class, and in all;
        - ``image``, ``file``, ``true_class``: the image: its number in the dataset, and its file;
        - ``category``, ``predicted_class``: the category with the highest score, and its class;
        - ``correct``; ``rank`` of the true class, 0 for the first;
        - ``margin``: score of the true class minus that of the best other class, in cosine.

    Raises:
        CategoryError: a ladder has other classes than the dataset, or there is none.
        SemscaleError: an unknown aggregation, or an error of the encoder.

    >>> import semscale
    >>> digits = semscale.load_dataset("digits", per_class=2)
    >>> predictions = score(digits, semscale.ladder(digits, "templates", steps=3))
    >>> predictions[["scale", "true_class", "category", "correct"]].head(2).values.tolist()
    [[1, 'eight', 'eight', True], [1, 'seven', 'seven', True]]
    """
    ladders = [ladders] if isinstance(ladders, Ladder) else list(ladders)
    names = [aggregation] if isinstance(aggregation, str) else list(aggregation)
    for one in ladders:
        if one.classes != tuple(dataset.classes):
            found, expected = (", ".join(classes[:5]) for classes in (one.classes, dataset.classes))
            where, what = f"{one.dataset} x {one.strategy}", "the ladder has other classes than the dataset"
            raise CategoryError(what, where=where, found=found, expected=expected)
    if not ladders or not names:
        raise CategoryError("nothing to score", where="score", expected="a ladder and an aggregation")
    encoder = Encoder(encoder) if isinstance(encoder, str) else encoder
    images = encoder.images(dataset)
    tables = [table for one in ladders for table in _tables(dataset, images, one, encoder, names)]
    keys = ["dataset", "model", "strategy", "aggregation", "file", "true_class", "category", "predicted_class"]
    return pd.concat(tables, ignore_index=True).astype(dict.fromkeys(keys, "category"))


def _tables(
    dataset: Dataset, images: Images, ladder: Ladder, encoder: Encoder, aggregations: Sequence[str]
) -> Iterator[pd.DataFrame]:
    flat = ladder.flatten()
    categories, classes = (np.array(names, dtype=object) for names in (flat.texts, dataset.classes))
    embeddings = encoder.texts(flat.texts)
    inputs = LadderInputs(images.embeddings, embeddings, flat.class_index, flat.step_ends, images.class_index)
    scores = score_aggregations(inputs, aggregations, ScoreOptions(logit_scale=encoder.logit_scale))
    for aggregation, scored in scores.items():
        for k, step in enumerate(ladder.steps):
            columns: dict[str, Any] = {
                "dataset": dataset.name,
                "model": encoder.model,
                "strategy": ladder.strategy,
                "order": ladder.order,
                "aggregation": aggregation,
                "scale": flat.scales[k],
                "n_categories": step.n_categories,
                **{str(name): column for name, column in images.table.items()},
                "category": categories[scored.predicted_category[:, k]],
                "predicted_class": classes[scored.predicted_class[:, k]],
                "correct": scored.true_rank[:, k] == 0,
                "rank": scored.true_rank[:, k],
                "margin": scored.margin[:, k],
            }
            yield pd.DataFrame(columns)
