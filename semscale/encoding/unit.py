"""Rows of unit length, of whatever a model gave."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def to_unit(embeddings: npt.NDArray[np.float32], reasons: list[str | None], who: str) -> None:
    """Bring rows to unit length, in place; those that have no direction become zeros, with a reason.

    Args:
        embeddings: float32 [n, dimension].
        reasons: per row None, or why there is none; is added to.
        who: what a reason begins with.

    >>> rows, reasons = np.array([[3.0, 4.0], [0.0, 0.0]], dtype=np.float32), [None, None]
    >>> to_unit(rows, reasons, "the model gave")
    >>> rows.tolist(), reasons
    ([[0.6000000238418579, 0.800000011920929], [0.0, 0.0]], [None, 'the model gave an embedding of zeros'])
    """
    lengths = np.linalg.norm(embeddings.astype(np.float64), axis=1)
    for i in np.flatnonzero(~np.isfinite(lengths) | (lengths == 0.0)).tolist():
        kind = "of zeros" if lengths[i] == 0.0 else "that is not finite"
        reasons[i] = reasons[i] or f"{who} an embedding {kind}"
        embeddings[i], lengths[i] = 0.0, 1.0
    embeddings /= lengths.astype(np.float32)[:, None]
