"""Statistics of items that come window by window, against the function that sees all of them."""

from __future__ import annotations

import numpy as np
import pytest

from semscale.scoring.statistics import category_statistics
from semscale.scoring.tally import RunningStatistics, nearest_category

Float32 = np.ndarray


def unit_rows(n: int, d: int, seed: int) -> Float32:
    rows = np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def items() -> Float32:
    return unit_rows(5000, 48, 1)


@pytest.fixture(scope="module")
def texts() -> Float32:
    texts = unit_rows(40, 48, 2)
    texts[7] = -unit_rows(5000, 48, 1).mean(axis=0)  # wins little
    texts[30:] = texts[:10]  # the same rows once more: win nothing
    return texts / np.linalg.norm(texts, axis=1, keepdims=True)


def run(items: Float32, texts: Float32, window: int) -> RunningStatistics:
    running = RunningStatistics(texts)
    for start in range(0, len(items), window):
        part = items[start : start + window]
        running.add(part, nearest_category(part, texts))
    return running


def test_equal_to_the_statistics_of_all_items_together(items: Float32, texts: Float32) -> None:
    winners = nearest_category(items, texts)
    expected, found = category_statistics(items, texts, winners), run(items, texts, 512).result()
    np.testing.assert_array_equal(found.fraction, expected.fraction)
    np.testing.assert_allclose(found.average_dot_product, expected.average_dot_product, rtol=1e-12)
    np.testing.assert_allclose(found.variance, expected.variance, rtol=1e-10)
    np.testing.assert_array_equal(found.second_best, expected.second_best)
    assert np.isnan(found.variance[30:]).all()
    assert (found.second_best[30:] == -1).all()


def test_every_window_gives_the_same_bits(items: Float32, texts: Float32) -> None:
    labels = nearest_category(items, texts)
    first = run(items, texts, 5000).arrays()
    for window in (1, 7, 333):
        assert np.array_equal(
            np.concatenate([nearest_category(items[i : i + window], texts) for i in range(0, len(items), window)]),
            labels,
        )
        for name, array in run(items, texts, window).arrays().items():
            assert array.tobytes() == first[name].tobytes()


def test_equal_categories_go_to_the_earlier_wherever_they_stand(items: Float32) -> None:
    for width in (2, 3, 17, 200):
        texts = unit_rows(width, 48, width)
        texts[-1] = texts[0]
        assert width - 1 not in nearest_category(items, texts)


def test_another_process_goes_on_with_the_arrays(items: Float32, texts: Float32) -> None:
    half = run(items[:2000], texts, 100)
    other = RunningStatistics(texts)
    other.restore({name: array.copy() for name, array in half.arrays().items()})
    other.add(items[2000:], nearest_category(items[2000:], texts))
    assert other.arrays()["squares"].tobytes() == run(items, texts, 5000).arrays()["squares"].tobytes()
    with pytest.raises(ValueError, match="counts of shape"):
        RunningStatistics(texts[:3]).restore(half.arrays())


def test_a_tiny_spread_around_a_large_mean_is_not_lost() -> None:
    texts = np.array([[1, 0]], dtype=np.float32)
    angles = np.random.default_rng(0).normal(0.3, 1e-6, 20_000)
    items = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    cosines = items[:, 0].astype(np.float64)
    assert run(items, texts, 999).result().variance[0] == pytest.approx(np.var(cosines), rel=1e-6)


def test_nothing_at_all_has_no_mean(texts: Float32) -> None:
    found = RunningStatistics(texts).result()
    assert found.fraction.sum() == 0
    assert np.isnan(found.average_dot_product).all()
