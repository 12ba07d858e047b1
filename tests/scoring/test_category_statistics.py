"""Statistics per category against the whole similarity matrix."""

from __future__ import annotations

import numpy as np
import pytest

from semscale.scoring import category_statistics


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
