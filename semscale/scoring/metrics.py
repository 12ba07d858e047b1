"""The metrics of one trial, from its predicted classes, ranks, margins and confidences."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from semscale.scoring.plan import Float32, Int32


@dataclass(frozen=True)
class TrialMetrics:
    """What one trial found; shares run from 0 to 1.

    Attributes:
        n_images: images scored.
        n_correct: images whose predicted class is the true one.
        accuracy: n_correct / n_images.
        top5: share of images whose true class is among the five best.
        macro_f1: mean F1 over the classes that occur, truly or as a prediction.
        balanced_accuracy: mean of the per-class accuracy over the classes that have images.
        mean_margin: mean of the true class's score less the best other score, in cosine.
        per_class_accuracy: float64[c], share of right predictions among a class's images; nan without images.
        per_class_images: int64[c], images of each class.
        calibration_error: expected calibration error of the softmax, see
            :func:`expected_calibration_error`; nan without confidences.
    """

    n_images: int
    n_correct: int
    accuracy: float
    top5: float
    macro_f1: float
    balanced_accuracy: float
    mean_margin: float
    per_class_accuracy: NDArray[np.float64]
    per_class_images: NDArray[np.int64]
    calibration_error: float


def trial_metrics(
    predicted_class: Int32,
    true_class: Int32,
    true_rank: Int32,
    margin: Float32,
    n_classes: int,
    confidence: Float32 | None = None,
) -> TrialMetrics:
    """Return the metrics of one step of a ladder.

    F1 of a class is 2 TP / (2 TP + FP + FN), as in scikit-learn's `f1_score(average="macro")`; the balanced accuracy
    is that of its `balanced_accuracy_score`.

    Args:
        predicted_class, true_class, true_rank: int32[n]; `true_rank` is 0 where the prediction is right.
        margin: float32[n].
        n_classes: c.
        confidence: float32[n], the probability of each prediction, for the calibration error.

    Raises:
        ValueError: when there is no image, the lengths differ, or a confidence is no probability.

    >>> predicted, true = np.array([0, 1, 1], np.int32), np.array([0, 1, 0], np.int32)
    >>> metrics = trial_metrics(predicted, true, np.array([0, 0, 1]), np.array([0.1, 0.2, -0.1]), 2)
    >>> metrics.n_correct, metrics.per_class_accuracy.tolist(), round(metrics.macro_f1, 3)
    (2, [0.5, 1.0], 0.667)
    """
    n = len(true_class)
    if not n or {len(predicted_class), len(true_rank), len(margin)} != {n}:
        raise ValueError(
            "expected one or more images with a prediction, rank and margin each, but got lengths "
            f"{len(predicted_class)}, {n}, {len(true_rank)}, {len(margin)}"
        )
    correct = predicted_class == true_class
    right, of_class, as_class = (
        np.bincount(classes, minlength=n_classes) for classes in (true_class[correct], true_class, predicted_class)
    )
    occurs = (of_class + as_class) > 0
    with np.errstate(invalid="ignore"):
        per_class = right / of_class
    n_correct = int(right.sum())
    return TrialMetrics(
        n_images=n,
        n_correct=n_correct,
        accuracy=n_correct / n,
        top5=float((true_rank < 5).mean()),
        macro_f1=float((2 * right[occurs] / (of_class + as_class)[occurs]).mean()),
        balanced_accuracy=float(np.nanmean(per_class)),
        mean_margin=float(margin.mean(dtype=np.float64)),
        per_class_accuracy=per_class,
        per_class_images=of_class,
        calibration_error=float("nan") if confidence is None else expected_calibration_error(confidence, correct),
    )


def expected_calibration_error(confidence: Float32, right: NDArray[np.bool_], bins: int = 15) -> float:
    """Return the mean over images of |accuracy - mean confidence| of their bin, from 0 to 1.

    The bins are (0, 1/bins], (1/bins, 2/bins], ... of the confidence, as in Guo et al., "On Calibration of Modern
    Neural Networks" (2017), who use 15.

    Args:
        confidence: float32[n], the probability of the predicted class.
        right: bool[n], whether it is the true one.
        bins: how many bins of equal width.

    Raises:
        ValueError: when there is no image, the lengths differ, or a confidence is no probability.

    >>> confidence = np.array([0.9, 0.9, 0.6, 0.6], dtype=np.float32)
    >>> round(expected_calibration_error(confidence, np.array([True, True, True, False])), 6)
    0.1
    """
    sure = np.asarray(confidence, dtype=np.float64)
    if not sure.size or sure.shape != np.shape(right) or bins < 1:
        raise ValueError(
            f"expected one or more images and bins, got {sure.shape} confidences, {np.shape(right)} marks, {bins} bins"
        )
    if not (sure.min() >= 0 and sure.max() <= 1):
        raise ValueError(f"expected confidences from 0 to 1, but got {sure.min()} to {sure.max()}")
    number = np.clip(np.ceil(sure * bins).astype(np.intp) - 1, 0, bins - 1)
    gaps = np.bincount(number, weights=np.asarray(right, dtype=np.float64) - sure, minlength=bins)
    return float(np.abs(gaps).sum() / sure.size)
