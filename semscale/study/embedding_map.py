"""A map of each dataset: images and category texts along the two directions in which they differ most."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
import ray
from scipy.sparse.linalg import svds
from threadpoolctl import threadpool_limits

from semscale.study.score import ScoredLadder

MOST_IMAGES = 400
MOST_TEXTS = 200

Float64 = npt.NDArray[np.float64]


def embedding_map(ladders: Sequence[ScoredLadder]) -> pd.DataFrame:
    """Return map.parquet: a row per image and category text of a sample, with its two coordinates.

    Args:
        ladders: the scored ladders, of which the first of each dataset and model gives the texts.
    """
    first: dict[tuple[str, str], ScoredLadder] = {}
    for ladder in ladders:
        first.setdefault((ladder.dataset, ladder.model), ladder)
    tables = [_map_of(ladder) for ladder in first.values()]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def principal_axes(images: Float64, texts: Float64) -> tuple[Float64, Float64, float]:
    """Project images and texts onto their first two principal components.

    Images and texts of a CLIP model lie apart, in two cones; each kind is centred by itself, or the first component
    would be nothing but that gap.

    Args:
        images: float64[n, d].
        texts: float64[m, d]; n + m and d are above 2.

    Returns:
        The coordinates [n, 2] and [m, 2], each axis turned so that its largest one is positive, and the share of the
        variance that the two hold.

    >>> images, texts, share = principal_axes(np.diag([4.0, 2.0, 1.0]), np.zeros((2, 3)))
    >>> images.shape, texts.tolist(), round(share, 6)  # three points lie in a plane
    ((3, 2), [[0.0, 0.0], [0.0, 0.0]], 1.0)
    """
    both = np.concatenate([images - images.mean(axis=0), texts - texts.mean(axis=0)])
    # the same threads everywhere, so that the same rows give the same map
    with threadpool_limits(1):
        _, values, axes = svds(both, k=2, v0=np.ones(min(both.shape)))
        order = np.argsort(-values)
        found = both @ axes[order].T
    found *= np.where(found[np.abs(found).argmax(axis=0), [0, 1]] < 0, -1.0, 1.0)
    total = float((both**2).sum())
    return found[: len(images)], found[len(images) :], float((values**2).sum()) / total if total else 0.0


def _map_of(ladder: ScoredLadder) -> pd.DataFrame:
    n, m = len(ladder.files), min(MOST_TEXTS, len(ladder.flat.texts))
    # evenly through the images sorted by class: every class has its share, and the choice is always the same
    by_class = np.argsort(ladder.true_class, kind="stable")
    rows = np.sort(by_class[np.unique(np.linspace(0, n - 1, min(n, MOST_IMAGES)).astype(int))])
    images = np.asarray(ray.get(ladder.images)[rows], dtype=float)
    texts = np.asarray(ray.get(ladder.texts)[:m], dtype=float)
    if min(len(images) + len(texts), images.shape[1]) < 3:
        return pd.DataFrame()
    of_images, of_texts, share = principal_axes(images, texts)
    classes = np.array(ladder.ladder.classes, dtype=object)
    where = np.concatenate([of_images, of_texts])
    return pd.DataFrame(
        {
            "dataset": ladder.dataset,
            "model": ladder.model,
            "strategy": ladder.strategy,
            "kind": ["image"] * len(rows) + ["category"] * m,
            "label": [*(ladder.files[row] for row in rows), *ladder.flat.texts[:m]],
            "class": [*classes[ladder.true_class[rows]], *classes[ladder.flat.class_index[:m]]],
            "x": where[:, 0],
            "y": where[:, 1],
            "variance": share,
        }
    )
