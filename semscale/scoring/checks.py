"""What the kernel refuses: arrays and ranges that do not fit each other."""

from __future__ import annotations

import numpy as np

from semscale.scoring.plan import Float32, Int32, LadderPlan


def check_range(start: int, stop: int, n: int, block: int) -> None:
    if block < 1 or not 0 <= start <= stop <= n or start % block or (stop % block and stop < n):
        raise ValueError(f"expected a range of whole blocks of {block} in {n} images, but got {start}:{stop}")


def check_arrays(images: Float32, texts: Float32, true_class: Int32, plan: LadderPlan) -> None:
    for name, rows in (("images", images), ("texts", texts)):
        if rows.ndim != 2 or rows.dtype != np.float32:
            raise ValueError(f"expected {name} to be float32[rows, d], got {rows.dtype}{list(rows.shape)}")
    if images.shape[1] != texts.shape[1]:
        raise ValueError(f"expected one embedding size, but got {images.shape[1]} and {texts.shape[1]}")
    if len(texts) != len(plan.class_index):
        raise ValueError(f"expected {len(plan.class_index)} texts, but got {len(texts)}")
    if true_class.shape != (len(images),):
        raise ValueError(f"expected a true class for each of {len(images)} images, got {true_class.shape}")
    if len(true_class) and not 0 <= true_class.min() <= true_class.max() < plan.n_classes:
        raise ValueError(f"expected true classes from 0 to {plan.n_classes - 1}")


def check_finite(rows: Float32, name: str) -> None:
    # A sum is finite only if every term is, and costs a thousandth of the product.
    if not np.isfinite(rows.sum()):
        raise ValueError(f"expected finite embeddings, but got nan or infinity in {name}")
