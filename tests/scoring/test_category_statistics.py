"""Statistics per category against the whole similarity matrix, and in streaming form."""

from __future__ import annotations

import numpy as np
import pytest

from semscale.scoring import RunningStatistics, category_statistics, nearest_categories


def test_statistics_are_those_of_the_whole_matrix() -> None:
    rng = np.random.default_rng(0)
    images = rng.standard_normal((9000, 12)).astype(np.float32)
    texts = rng.standard_normal((30, 12)).astype(np.float32)
    texts[17] = -images.mean(axis=0)  # wins little or nothing
    for rows in (images, texts):
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    matrix = images.astype(np.float64) @ texts.T.astype(np.float64)
    predicted = matrix[:, :20].argmax(axis=1).astype(np.int32)  # texts 20 to 29 win nothing
    found = category_statistics(images, texts, predicted)
    for category in range(30):
        won = predicted == category
        assert found.fraction[category] == pytest.approx(won.mean(), abs=1e-15)
        if not won.any():
            assert np.isnan(found.average_dot_product[category])
            assert np.isnan(found.variance[category])
            assert found.second_best[category] == -1
            continue
        cosines = matrix[won, category]
        assert found.average_dot_product[category] == pytest.approx(cosines.mean(), abs=1e-6)
        assert found.variance[category] == pytest.approx(cosines.var(), abs=1e-6)
        means = matrix[won].mean(axis=0)
        means[category] = -np.inf
        assert found.second_best[category] == means.argmax()
    assert np.isnan(found.variance).any()
    assert found.fraction.sum() == pytest.approx(1)


def test_a_single_image_has_no_spread() -> None:
    texts = np.eye(3, dtype=np.float32)
    found = category_statistics(texts[:1], texts[:2], np.array([1], np.int32))
    assert found.fraction.tolist() == [0, 1]
    assert found.variance[1] == 0
    assert found.second_best.tolist() == [-1, 0]


def test_one_category_has_no_second_best() -> None:
    texts = np.eye(2, dtype=np.float32)
    found = category_statistics(texts, texts[:1], np.array([0, 0], np.int32))
    assert found.second_best.tolist() == [-1]
    assert found.variance.tolist() == [0.25]


@pytest.mark.parametrize("predicted", [[0, 2], [0, -1], [0]])
def test_categories_that_do_not_fit_are_refused(predicted: list[int]) -> None:
    texts = np.eye(2, dtype=np.float32)
    with pytest.raises(ValueError, match="expected"):
        category_statistics(texts, texts, np.array(predicted, np.int32))


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
        running.add(part, nearest_categories(part, texts)[:, 0])
    return running


def test_equal_to_the_statistics_of_all_items_together(items: Float32, texts: Float32) -> None:
    winners = nearest_categories(items, texts)[:, 0]
    expected, found = category_statistics(items, texts, winners), run(items, texts, 512).result()
    np.testing.assert_array_equal(found.fraction, expected.fraction)
    np.testing.assert_allclose(found.average_dot_product, expected.average_dot_product, rtol=1e-12)
    np.testing.assert_allclose(found.variance, expected.variance, rtol=1e-10)
    np.testing.assert_array_equal(found.second_best, expected.second_best)
    assert np.isnan(found.variance[30:]).all()
    assert (found.second_best[30:] == -1).all()


def test_every_window_gives_the_same_bits(items: Float32, texts: Float32) -> None:
    first = vars(run(items, texts, 5000).result())
    for window in (1, 7, 333):
        for name, array in vars(run(items, texts, window).result()).items():
            assert array.tobytes() == first[name].tobytes()


def test_equal_categories_go_to_the_earlier_wherever_they_stand(items: Float32) -> None:
    for width in (2, 3, 17, 200):
        texts = unit_rows(width, 48, width)
        texts[-1] = texts[0]
        assert width - 1 not in nearest_categories(items, texts)[:, 0]


def test_a_tiny_spread_around_a_large_mean_is_not_lost() -> None:
    texts = np.array([[1, 0]], dtype=np.float32)
    angles = np.random.default_rng(0).normal(0.3, 1e-6, 20_000)
    items = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    cosines = items[:, 0].astype(np.float64)
    assert run(items, texts, 999).result().variance[0] == pytest.approx(np.var(cosines), rel=1e-6)


def test_no_items_have_no_mean(texts: Float32) -> None:
    found = RunningStatistics(texts).result()
    assert found.fraction.sum() == 0
    assert np.isnan(found.average_dot_product).all()
