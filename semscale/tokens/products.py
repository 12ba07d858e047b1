"""Products of matrices whose bits do not depend on an image's position in its batch.

A BLAS adds up in another order for a matrix that starts at another offset from a 64-byte boundary. Towers' own matrices
all start alike, since their widths are multiples of 16; matrices over tokens need zeros beside them.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

_STEP = 16  # float32 numbers in 64 bytes


def product(left: Tensor, right: Tensor) -> Tensor:
    """Return `left @ right` in float32, [..., M, N] of [..., M, K] and [..., K, N].

    >>> import torch
    >>> product(torch.ones(1, 2, 3), torch.eye(3)[None])
    tensor([[[1., 1., 1.],
             [1., 1., 1.]]])
    """
    size = right.shape[-1]
    inner, outer = -right.shape[-2] % _STEP, -size % _STEP
    left = functional.pad(left.float(), (0, inner))
    right = functional.pad(right.float(), (0, outer, 0, inner))
    return (left @ right)[..., :size]
