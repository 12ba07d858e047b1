"""Counting distinct rows of answers."""

from __future__ import annotations

import numpy as np
import pytest

from semscale.analysis.patterns import count_patterns


@pytest.mark.parametrize("shape", [(300, 3), (300, 12), (2, 300, 5), (4, 200, 16), (3, 50, 30), (1, 1)])
def test_patterns_are_the_unique_rows_with_their_counts(shape: tuple[int, ...]) -> None:
    correct = np.random.default_rng(1).random(shape) < 0.8
    patterns = count_patterns(correct)
    rows = correct[None] if correct.ndim == 2 else correct
    flat = rows.transpose(1, 0, 2).reshape(rows.shape[1], -1)
    expected, counts = np.unique(flat, axis=0, return_counts=True)
    assert patterns.rows.reshape(len(counts), -1).tolist() == expected.tolist()
    assert patterns.counts.tolist() == counts.tolist()
    assert (patterns.n_orders, patterns.n_images, patterns.n_steps) == rows.shape
    assert patterns.right().tolist() == rows.sum(axis=1).tolist()
    assert patterns.accuracy() == pytest.approx(rows.mean(axis=(0, 1)), abs=1e-15)


@pytest.mark.parametrize("shape", [(5,), (0, 3), (3, 0), (0, 3, 3), (1, 1, 1, 1)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="expected correct"):
        count_patterns(np.zeros(shape, dtype=bool))
