"""Correctness of predicted category texts, from the categories that were offered at each step."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd

Bool = npt.NDArray[np.bool_]
Owners = Mapping[str, int]
"""Class index by category text."""


def correct_predictions(
    true_class: pd.Series[str],
    predicted: pd.Series[str],
    classes: Owners,
    owners: Owners,
    key: Callable[[str], str] = str,
) -> tuple[Bool, dict[str, int]]:
    """Look predicted texts up in the categories of a step.

    Args:
        true_class, predicted: n names and n category texts; missing ones are wrong.
        classes: class index by key of a class name.
        owners: class index by key of a category text.
        key: normalises names and texts before they are compared.

    Returns:
        bool[n], rows whose predicted text belongs to their true class; and the texts that were not offered, with their
        numbers of rows, the most frequent first.
    """
    true, _ = _lookup(true_class, classes, key, absent=-2)
    found, unknown = _lookup(predicted, owners, key, absent=-1)
    return found == true, unknown


def _lookup(
    column: pd.Series[str], known: Owners, key: Callable[[str], str], absent: int
) -> tuple[npt.NDArray[np.int64], dict[str, int]]:
    # every distinct text is looked up once: there are tens of thousands of rows and some hundred texts
    codes, texts = pd.factorize(column)
    indices = np.array([*(known.get(key(str(text)), absent) for text in texts), absent], dtype=np.int64)
    rows = np.bincount(codes[codes >= 0], minlength=len(texts))
    unknown = {str(texts[i]): int(rows[i]) for i in np.argsort(-rows, kind="stable") if indices[i] == absent}
    return indices[codes], unknown
