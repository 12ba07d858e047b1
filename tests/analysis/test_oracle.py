"""The oracle against trying every subset."""

from __future__ import annotations

from itertools import chain, combinations, product

import numpy as np
import pytest

from semscale.analysis import oracle_bounds, oracle_correct


def test_the_oracle_is_right_where_some_choice_of_categories_is() -> None:
    rng = np.random.default_rng(0)
    owners, ends = np.array([0, 1, 2, 0, 1, 2, 0, 2]), [3, 6, 8]
    similarity, true = rng.random((60, 8)), rng.integers(0, 3, 60)
    own, floor = oracle_bounds(similarity, owners, ends, true)
    found = oracle_correct(own, floor)
    assert 0.2 < found[:, 0].mean() < found[:, 2].mean() < 1

    def subsets(places: np.ndarray) -> list[tuple[int, ...]]:
        return list(chain.from_iterable(combinations(places.tolist(), r) for r in range(1, len(places) + 1)))

    for step, end in enumerate(ends):
        per_class = [subsets(np.flatnonzero(owners[:end] == c)) for c in range(3)]
        choices = [sorted(chain(*choice)) for choice in product(*per_class)]
        for image in range(60):
            right = any(owners[choice[int(similarity[image, choice].argmax())]] == true[image] for choice in choices)
            assert found[image, step] == right


def test_a_tie_is_no_win_and_shapes_must_fit() -> None:
    assert oracle_correct([[0.5]], [[0.5]]).tolist() == [[False]]
    with pytest.raises(ValueError, match="equal shapes"):
        oracle_correct([[0.5, 0.6]], [[0.5]])
