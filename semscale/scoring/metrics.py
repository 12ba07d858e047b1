"""The metrics of one trial, from its predicted classes, ranks and margins."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from semscale.scoring.calibration import expected_calibration_error
from semscale.scoring.confusion import Confusion
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
        confusion: images by true and predicted class.
        calibration_error: expected calibration error of the softmax, see
            :func:`semscale.scoring.calibration.expected_calibration_error`; nan without confidences.
    """

    n_images: int
    n_correct: int
    accuracy: float
    top5: float
    macro_f1: float
    balanced_accuracy: float
    mean_margin: float
    per_class_accuracy: NDArray[np.float64]
    confusion: Confusion
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
    >>> metrics.n_correct, metrics.confusion.dense().tolist(), round(metrics.macro_f1, 3)
    (2, [[1, 1], [0, 1]], 0.667)
    """
    n = len(true_class)
    if not n or {len(predicted_class), len(true_rank), len(margin)} != {n}:
        raise ValueError(
            "expected one or more images with a prediction, rank and margin each, but got lengths "
            f"{len(predicted_class)}, {n}, {len(true_rank)}, {len(margin)}"
        )
    confusion = Confusion.of(true_class, predicted_class, n_classes)
    right, of_class, as_class = confusion.right(), confusion.of_class(), confusion.as_class()
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
        confusion=confusion,
        calibration_error=(
            float("nan")
            if confidence is None
            else expected_calibration_error(confidence, predicted_class == true_class)
        ),
    )
