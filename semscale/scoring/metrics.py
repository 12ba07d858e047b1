"""Metrics of a trial, from its predicted classes, ranks, margins and confidences."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from semscale.scoring.plan import Float32, Int32


@dataclass(frozen=True)
class TrialMetrics:
    """Metrics of one trial; shares are from 0 to 1.

    Attributes:
        n_images: images scored.
        n_correct: images whose predicted class is the true one.
        accuracy: n_correct / n_images.
        top5: share of images whose true class is among the five best.
        macro_f1: mean F1 over the classes that occur, as true class or prediction.
        balanced_accuracy: mean of the per-class accuracy over the classes that have images.
        mean_margin: mean of the true class's score minus the best other score, in cosine.
        per_class_accuracy: float64[c], share of correct predictions among a class's images; nan without images.
        per_class_images: int64[c], images of each class.
        calibration_error: expected calibration error (:func:`expected_calibration_error`); nan without confidences.
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
        predicted_class, true_class, true_rank: int32[n]; `true_rank` is 0 where the prediction is correct.
        margin: float32[n].
        n_classes: c, the number of classes.
        confidence: float32[n], the probability of each prediction, for the calibration error.

    Raises:
        ValueError: no image, different lengths, or a confidence that is no probability.

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
    true_positives, actual, predicted = (
        np.bincount(classes, minlength=n_classes) for classes in (true_class[correct], true_class, predicted_class)
    )
    occurs = (actual + predicted) > 0
    with np.errstate(invalid="ignore"):
        per_class = true_positives / actual
    n_correct = int(true_positives.sum())
    return TrialMetrics(
        n_images=n,
        n_correct=n_correct,
        accuracy=n_correct / n,
        top5=float((true_rank < 5).mean()),
        macro_f1=float((2 * true_positives[occurs] / (actual + predicted)[occurs]).mean()),
        balanced_accuracy=float(np.nanmean(per_class)),
        mean_margin=float(margin.mean(dtype=np.float64)),
        per_class_accuracy=per_class,
        per_class_images=actual,
        calibration_error=float("nan") if confidence is None else expected_calibration_error(confidence, correct),
    )


def expected_calibration_error(confidence: Float32, correct: NDArray[np.bool_], bins: int = 15) -> float:
    """Return the expected calibration error: the mean over images of |accuracy - mean confidence| of their bin.

    The bins are (0, 1/bins], (1/bins, 2/bins], ... of the confidence, as in Guo et al., "On Calibration of Modern
    Neural Networks" (2017), who use 15.

    Args:
        confidence: float32[n], the probability of the predicted class.
        correct: bool[n], whether it is the true one.
        bins: number of bins of equal width.

    Raises:
        ValueError: no image, different lengths, or a confidence that is no probability.

    >>> confidence = np.array([0.9, 0.9, 0.6, 0.6], dtype=np.float32)
    >>> round(expected_calibration_error(confidence, np.array([True, True, True, False])), 6)
    0.1
    """
    p = np.asarray(confidence, dtype=np.float64)
    if not p.size or p.shape != np.shape(correct) or bins < 1:
        raise ValueError(
            f"expected one or more images and bins, got {p.shape} confidences, {np.shape(correct)} correct, {bins} bins"
        )
    if not (p.min() >= 0 and p.max() <= 1):
        raise ValueError(f"expected confidences from 0 to 1, but got {p.min()} to {p.max()}")
    bin_index = np.clip(np.ceil(p * bins).astype(np.intp) - 1, 0, bins - 1)
    gaps = np.bincount(bin_index, weights=np.asarray(correct, dtype=np.float64) - p, minlength=bins)
    return float(np.abs(gaps).sum() / p.size)
