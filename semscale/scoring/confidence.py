"""How sure a prediction is: the softmax over the class scores, at the predicted class."""

from __future__ import annotations

import numpy as np

from semscale.scoring.plan import Float32


class Confidence:
    """The largest probability of the softmax over class scores, with its working memory for one block of images.

    Args:
        rows: the largest number of images in a block.
        n_classes: how many classes there are.
        logit_scale: the factor before the softmax.

    >>> sure = Confidence(1, 3, logit_scale=1.0)
    >>> round(float(sure.of(np.log(np.array([[0.2, 0.5, 0.3]], dtype=np.float32)))[0]), 6)
    0.5
    """

    def __init__(self, rows: int, n_classes: int, logit_scale: float) -> None:
        self._all_terms = np.empty((rows, n_classes), dtype=np.float32)
        self._scale = np.float32(logit_scale)

    def of(self, scores: Float32) -> Float32:
        """Return float32[b] from float32[b, n_classes] class scores, which are left as they are."""
        terms = self._all_terms[: len(scores)]
        # With the best score at 0 no term overflows, and the best one's own probability is 1 / (sum of terms).
        np.subtract(scores, scores.max(axis=1, keepdims=True), out=terms)
        terms *= self._scale
        np.exp(terms, out=terms)
        confidence: Float32 = 1 / terms.sum(axis=1)
        return confidence
