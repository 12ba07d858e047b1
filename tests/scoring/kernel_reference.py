"""The ladder rule written down image by image, slow and without any of the kernel's devices."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from semscale.scoring import LadderScores


def class_scores_of(
    image: NDArray[Any], texts: NDArray[Any], owners: NDArray[Any], n_classes: int, aggregation: str
) -> list[float]:
    """Return the score of each class for one image, all numbers in double precision."""
    scores = []
    for c in range(n_classes):
        mine = texts[owners == c]
        if aggregation == "max":
            scores.append(float((mine @ image).max()))
        else:
            mean = mine.mean(axis=0)
            norm = float(np.linalg.norm(mean))
            scores.append(float(mean @ image) / norm if norm > 1e-9 else 0.0)
    return scores


def reference_scores(
    images: NDArray[Any],
    texts: NDArray[Any],
    class_index: NDArray[Any],
    step_ends: NDArray[Any],
    true_class: NDArray[Any],
    aggregation: str = "max",
) -> LadderScores:
    """Return what `score_ladder` must return."""
    images, texts = images.astype(np.float64), texts.astype(np.float64)
    n_classes = int(class_index.max()) + 1
    shape = (len(images), len(step_ends))
    category, predicted, rank = (np.empty(shape, np.int32) for _ in range(3))
    margin = np.empty(shape, np.float32)
    for i, image in enumerate(images):
        for k, end in enumerate(step_ends.tolist()):
            owners = class_index[:end]
            nearness = texts[:end] @ image
            scores = class_scores_of(image, texts[:end], owners, n_classes, aggregation)
            if aggregation == "max":
                category[i, k] = int(np.argmax(nearness))
                predicted[i, k] = owners[category[i, k]]
            else:
                predicted[i, k] = int(np.argmax(scores))
                mine = np.flatnonzero(owners == predicted[i, k])
                category[i, k] = mine[int(np.argmax(nearness[mine]))]
            true = int(true_class[i])
            # the predicted class is first; then by score, and of equal scores the earlier class
            order = sorted(range(n_classes), key=lambda c: (c != predicted[i, k], -scores[c], c))
            rank[i, k] = order.index(true)
            margin[i, k] = scores[true] - max(s for c, s in enumerate(scores) if c != true)
    return LadderScores(category, predicted, rank, margin)
