"""Predictions of every step of a ladder as a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from semscale.api.encoder import Encoder, Images
from semscale.categories.ladder import Ladder
from semscale.datasets.base import Dataset
from semscale.errors import SemscaleError
from semscale.scoring.kernel import LadderInputs, ScoreOptions, score_aggregations


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
        ladders: one or several of this dataset's classes: strategies, controls, orders.
        encoder: an :class:`semscale.Encoder`, or a model's name for one in this process.
        aggregation: how the categories of a class become one class score: ``max``, ``mean-embedding``,
            ``mean-similarity``, ``logsumexp``, ``top-3-mean``; or several.

    Returns:
        A row per ladder, aggregation, step and image; tables can be put together with ``pandas.concat``:

        - ``dataset``, ``model``, ``strategy``, ``order``, ``aggregation``: which ladder;
        - ``scale``, ``n_categories``: the step; categories per class, and all that were offered;
        - ``image``, ``file``, ``true_class``: the image; its number in the dataset, and its file;
        - ``category``, ``predicted_class``: the text that won, and its class;
        - ``correct``; ``rank`` of the true class, 0 for the first;
        - ``margin``: score of the true class less the best other one, in cosine.

    Raises:
        SemscaleError: the ladder is of other classes, the aggregation is unknown, or what the encoder says.

    >>> import semscale
    >>> digits = semscale.load_dataset("digits", per_class=2)
    >>> predictions = score(digits, semscale.ladder(digits, "templates", steps=3))
    >>> predictions[["scale", "true_class", "category", "correct"]].head(2).values.tolist()
    [[1, 'eight', 'eight', True], [1, 'seven', 'seven', True]]
    """
    several = [ladders] if isinstance(ladders, Ladder) else list(ladders)
    names = [aggregation] if isinstance(aggregation, str) else list(aggregation)
    for one in several:
        if one.classes != tuple(dataset.classes):
            found, expected = (", ".join(classes[:5]) for classes in (one.classes, dataset.classes))
            where, what = f"{one.dataset} x {one.strategy}", "the ladder is of other classes than the dataset"
            raise SemscaleError(what, where=where, found=found, expected=expected)
    if not several or not names:
        raise SemscaleError("there is nothing to score", where="score", expected="a ladder and an aggregation")
    encoder = Encoder(encoder) if isinstance(encoder, str) else encoder
    images = encoder.images(dataset)
    tables = [table for one in several for table in _tables(dataset, images, one, encoder, names)]
    keys = ["dataset", "model", "strategy", "aggregation", "file", "true_class", "category", "predicted_class"]
    return pd.concat(tables, ignore_index=True).astype(dict.fromkeys(keys, "category"))


def _tables(
    dataset: Dataset, images: Images, ladder: Ladder, encoder: Encoder, aggregations: Sequence[str]
) -> list[pd.DataFrame]:
    flat = ladder.flatten()
    texts = np.array(flat.texts, dtype=object)
    classes = np.array(dataset.classes, dtype=object)
    embeddings = encoder.texts(flat.texts)
    inputs = LadderInputs(images.embeddings, embeddings, flat.class_index, flat.step_ends, images.class_index)
    scores = score_aggregations(inputs, aggregations, ScoreOptions(logit_scale=encoder.logit_scale))
    tables = []
    for aggregation, found in scores.items():
        for k, step in enumerate(ladder.steps):
            named: dict[str, Any] = {
                "dataset": dataset.name,
                "model": encoder.model,
                "strategy": ladder.strategy,
                "order": ladder.order,
                "aggregation": aggregation,
                "scale": flat.scales[k],
                "n_categories": step.n_categories,
            }
            answers: dict[str, Any] = {
                "category": texts[found.predicted_category[:, k]],
                "predicted_class": classes[found.predicted_class[:, k]],
                "correct": found.true_rank[:, k] == 0,
                "rank": found.true_rank[:, k],
                "margin": found.margin[:, k],
            }
            table = images.table.assign(**named, **answers)
            tables.append(table[[*named, *images.table.columns, *answers]])
    return tables
