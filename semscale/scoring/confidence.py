"""How sure a prediction is: the softmax over the class scores, at the predicted class."""

from __future__ import annotations

import numpy as np

from semscale.scoring.plan import Float32


def confidence_of(scores: Float32, logit_scale: float, terms: Float32) -> Float32:
    """Return float32[b], the largest probability of the softmax over class scores.

    Args:
        scores: float32[b, n_classes], left as they are.
        logit_scale: the factor before the softmax.
        terms: float32[b, n_classes], working memory.

    >>> scores = np.log(np.array([[0.2, 0.5, 0.3]], dtype=np.float32))
    >>> round(float(confidence_of(scores, 1.0, np.empty_like(scores))[0]), 6)
    0.5
    """
    # With the best score at 0 no term overflows, and the best one's own probability is 1 / (sum of terms).
    np.subtract(scores, scores.max(axis=1, keepdims=True), out=terms)
    terms *= np.float32(logit_scale)
    np.exp(terms, out=terms)
    confidence: Float32 = 1 / terms.sum(axis=1)
    return confidence
