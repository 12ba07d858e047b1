"""The ceiling (oracle accuracy) against enumeration of all subsets of the categories."""

from __future__ import annotations

from itertools import chain, combinations, product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semscale.scoring import LadderInputs, ScoreOptions, score_ladder


def ceiling(
    similarity: NDArray[Any], owners: NDArray[Any], ends: list[int], true: NDArray[Any], **options: Any
) -> NDArray[np.bool_]:
    # texts along the axes make the images' coordinates their similarities
    images, texts = similarity.astype(np.float32), np.eye(similarity.shape[1], dtype=np.float32)
    inputs = LadderInputs(images, texts, owners.astype(np.int32), np.array(ends), true.astype(np.int32))
    return score_ladder(inputs, options=ScoreOptions(ceiling=True, **options)).ceiling


def test_the_ceiling_is_whether_some_choice_of_categories_is_correct() -> None:
    rng = np.random.default_rng(0)
    owners, ends = np.array([0, 1, 2, 0, 1, 2, 0, 2]), [3, 6, 8]
    similarity, true = rng.random((60, 8)), rng.integers(0, 3, 60)
    found = ceiling(similarity, owners, ends, true)
    assert 0.2 < found[:, 0].mean() < found[:, 2].mean() < 1

    def subsets(indices: NDArray[Any]) -> list[tuple[int, ...]]:
        return list(chain.from_iterable(combinations(indices.tolist(), r) for r in range(1, len(indices) + 1)))

    for step, end in enumerate(ends):
        per_class = [subsets(np.flatnonzero(owners[:end] == c)) for c in range(3)]
        choices = [sorted(chain(*choice)) for choice in product(*per_class)]
        for image in range(60):
            correct = any(owners[choice[int(similarity[image, choice].argmax())]] == true[image] for choice in choices)
            assert found[image, step] == correct


def test_a_tie_is_no_win() -> None:
    similarity = np.array([[0.5, 0.5, 0.25]])
    assert ceiling(similarity, np.array([0, 1, 1]), [2, 3], np.array([0])).tolist() == [[False, True]]


def test_the_ceiling_at_scale_1_is_the_accuracy_and_never_falls() -> None:
    rng = np.random.default_rng(1)
    similarity, true = rng.standard_normal((500, 40)), rng.integers(0, 10, 500)
    owners, ends = np.concatenate([rng.permutation(10) for _ in range(4)]), [10, 20, 20, 40]
    found = ceiling(similarity, owners, ends, true, block=64)
    np.testing.assert_array_equal(found[:, 0], similarity[:, np.argsort(owners[:10])].argmax(axis=1) == true)
    assert (found[:, 1:] >= found[:, :-1]).all()
    np.testing.assert_array_equal(found[:, 1], found[:, 2])
