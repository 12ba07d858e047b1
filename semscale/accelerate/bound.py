"""How far a cosine from bfloat16 embeddings can be from the float32 kernel's: the bound that screening rests on."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from semscale.scoring.plan import Float32

BFLOAT16_UNIT = 2.0**-8
"""The unit roundoff of bfloat16, which has 8 significant bits."""

_FLOAT32_UNIT = 2.0**-24
# Matrix units may cut off where the standard rounds, and align before they add (Fasi, Higham, Mikaitis and Pranesh,
# "Numerical behavior of NVIDIA tensor cores", 2021); two bits more cover that.
_MATRIX_UNIT = 2.0**-22
# for the rounding of the bound's own norms, and for products that are too small for normal numbers
_SLACK, _TINY = 1.001, 1e-30


def summation_factor(d: int, unit: float) -> float:
    """Return gamma_d = d u / (1 - d u), which bounds the relative error of a dot product of d terms.

    |computed - x.t| <= gamma_d |x|.|t| <= gamma_d ||x|| ||t||, whatever the order of summation, with fused
    multiply-add or without (Higham, "Accuracy and Stability of Numerical Algorithms", 2nd edition, section 3.1).

    >>> summation_factor(512, 2.0**-24) < 3.06e-5
    True
    """
    return d * unit / (1 - d * unit)


def kernel_bound(x_norms: NDArray[np.floating], t_norm: float, d: int) -> NDArray[np.float64]:
    """Return how far the float32 kernel's cosines may be from the exact ones, float64[n].

    Args:
        x_norms: float[n], norms of the image embeddings.
        t_norm: the largest norm of a text embedding.
        d: the length of the embeddings.
    """
    return np.asarray(_SLACK * summation_factor(d, _FLOAT32_UNIT) * x_norms * t_norm + _TINY, dtype=np.float64)


def screening_bound(images: Float32, rounded: Float32, t_norm: float, t_error: float) -> NDArray[np.float64]:
    """Return e, float64[n]: |screened - kernel's| <= e for every cosine of an image, before the output is rounded.

    With x', t' the bfloat16 embeddings, the difference has three parts: x.t - x'.t' = (x - x').t + x'.(t - t'), at most
    ||x - x'|| ||t|| + ||x'|| ||t - t'|| by Cauchy and Schwarz, where the norms of the differences are measured and not
    estimated; the summation of x'.t' in float32, whose products of two bfloat16 numbers are exact; and the
    kernel's own summation of x.t, both by :func:`summation_factor`. For unit rows of d = 512 it is about 0.004.

    Args:
        images: float32[n, d].
        rounded: float32[n, d], the same as bfloat16 numbers.
        t_norm: the largest norm of a text embedding, rounded or not.
        t_error: the largest norm of the difference between a text embedding and the rounded one.

    >>> x = np.array([[1.0, 0.0]], dtype=np.float32)
    >>> bool(screening_bound(x, x, 1.0, 0.0)[0] < 1e-6)
    True
    """
    d = images.shape[1]
    x_norm, rounded_norm, x_error = norms(images), norms(rounded), norms(images - rounded)
    screened = x_error * t_norm + rounded_norm * (t_error + summation_factor(d, _MATRIX_UNIT) * t_norm)
    return np.asarray(_SLACK * screened + kernel_bound(x_norm, t_norm, d) + _TINY, dtype=np.float64)


def norms(rows: Float32) -> NDArray[np.float64]:
    """Return the Euclidean norm of each row, float64[n]."""
    return np.asarray(np.sqrt(np.einsum("ij,ij->i", rows, rows)), dtype=np.float64)
