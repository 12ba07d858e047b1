"""Reference implementation of the kernel, image by image."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp, softmax

from semscale.scoring import LadderInputs, LadderScores, ScoreOptions, score_ladder

Case = dict[str, NDArray[Any]]


def score(case: Case, aggregation: str = "max", **options: Any) -> LadderScores:
    """Run the kernel on a case."""
    return score_ladder(LadderInputs(**case), aggregation, ScoreOptions(**options))


def unit(rows: NDArray[Any]) -> NDArray[np.float32]:
    """Return rows of unit length."""
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6), dtype=np.float32)


def class_score(
    similarities: NDArray[Any], texts: NDArray[Any], image: NDArray[Any], aggregation: str, scale: float
) -> float:
    """Return the score of one class for one image, all numbers in double precision."""
    if aggregation == "max":
        return float(similarities.max())
    if aggregation == "mean-similarity":
        return float(similarities.mean())
    if aggregation == "logsumexp":
        return float(logsumexp(scale * similarities)) / scale
    if aggregation.startswith("top-"):
        return float(np.sort(similarities)[::-1][: int(aggregation.split("-")[1])].mean())
    mean = texts.mean(axis=0)
    norm = float(np.linalg.norm(mean))
    return float(mean @ image) / norm if norm > 1e-9 else 0.0


def class_scores_of(
    image: NDArray[Any], texts: NDArray[Any], owners: NDArray[Any], n_classes: int, aggregation: str, scale: float
) -> list[float]:
    """Return the score of each class for one image."""
    per_class = [texts[owners == c] for c in range(n_classes)]
    return [class_score(rows @ image, rows, image, aggregation, scale) for rows in per_class]


def reference_scores(
    images: NDArray[Any],
    texts: NDArray[Any],
    class_index: NDArray[Any],
    step_ends: NDArray[Any],
    true_class: NDArray[Any],
    aggregation: str = "max",
    logit_scale: float = 100.0,
) -> LadderScores:
    """Return the expected output of the kernel."""
    images, texts = images.astype(np.float64), texts.astype(np.float64)
    n_classes = int(class_index.max()) + 1
    shape = (len(images), len(step_ends))
    category, predicted, rank = (np.empty(shape, np.int32) for _ in range(3))
    margin, confidence = np.empty(shape, np.float32), np.empty(shape, np.float32)
    for i, image in enumerate(images):
        for k, end in enumerate(step_ends.tolist()):
            owners = class_index[:end]
            nearness = texts[:end] @ image
            scores = class_scores_of(image, texts[:end], owners, n_classes, aggregation, logit_scale)
            if aggregation == "max":
                category[i, k] = int(np.argmax(nearness))
                predicted[i, k] = owners[category[i, k]]
            else:
                predicted[i, k] = int(np.argmax(scores))
                members = np.flatnonzero(owners == predicted[i, k])
                category[i, k] = members[int(np.argmax(nearness[members]))]
            true = int(true_class[i])
            # the predicted class is first; then by score, and of equal scores the earlier class
            order = sorted(range(n_classes), key=lambda c: (c != predicted[i, k], -scores[c], c))
            rank[i, k] = order.index(true)
            confidence[i, k] = softmax(logit_scale * np.array(scores))[predicted[i, k]]
            margin[i, k] = scores[true] - max(s for c, s in enumerate(scores) if c != true)
    return LadderScores(category, predicted, rank, margin, confidence)
