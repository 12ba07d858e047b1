"""Expected calibration error: how far the confidence of predictions is from their accuracy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from semscale.scoring.plan import Float32


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
