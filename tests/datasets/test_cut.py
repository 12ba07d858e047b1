"""Choosing images: stratified, nested, seeded, and independent of machine and order."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from semscale.datasets.cut import cut
from semscale.datasets.samples import Sample, SampleTable

SIZES = {"a": 60, "b": 30, "c": 9, "d": 1}


def table(sizes: dict[str, int]) -> SampleTable:
    return SampleTable.of(list(sizes), [Sample(f"{name}/{i}.png", name) for name, n in sizes.items() for i in range(n)])


def counts(samples: SampleTable) -> dict[str, int]:
    return dict(Counter(sample.true_class for sample in samples))


def test_a_limit_keeps_shares_and_every_class() -> None:
    assert counts(cut(table(SIZES), limit=20)) == {"a": 12, "b": 6, "c": 1, "d": 1}
    assert counts(cut(table(SIZES), limit=4)) == {"a": 1, "b": 1, "c": 1, "d": 1}


def test_per_class_is_a_ceiling_and_comes_first() -> None:
    assert counts(cut(table(SIZES), per_class=10)) == {"a": 10, "b": 10, "c": 9, "d": 1}
    assert counts(cut(table(SIZES), per_class=10, limit=15)) == {"a": 5, "b": 5, "c": 4, "d": 1}


@given(st.lists(st.integers(0, 40), min_size=1, max_size=8).filter(lambda sizes: sum(sizes) > 0), st.integers(1, 200))
def test_a_limit_is_met_exactly_and_no_class_gives_more_than_it_has(sizes: list[int], limit: int) -> None:
    by_name = {str(index): n for index, n in enumerate(sizes)}
    kept = counts(cut(table(by_name), limit=limit))
    assert sum(kept.values()) == min(limit, sum(sizes))
    assert all(n <= by_name[name] for name, n in kept.items())
    assert limit < sum(n > 0 for n in sizes) or len(kept) == sum(n > 0 for n in sizes)


def test_a_larger_cut_per_class_contains_a_smaller_one() -> None:
    small, large = (set(cut(table(SIZES), per_class=n).files()) for n in (3, 7))
    assert small < large


def test_seeds_choose_others_and_order_does_not_matter() -> None:
    samples = table(SIZES)
    kept = set(cut(samples, limit=20).files())
    turned = SampleTable.of(list(SIZES), reversed(list(samples)))
    assert set(cut(turned, limit=20).files()) == kept
    assert set(cut(samples, limit=20, seed=1).files()) != kept


def test_the_same_cut_in_another_process() -> None:
    program = (
        "from semscale.datasets.registry import load_dataset\n"
        "print(*load_dataset('shapes', limit=30, seed=3).samples.files())"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program],
            env=os.environ | {"PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1
    assert len(outputs.pop().split()) == 30


def test_positions_stay_in_their_old_order() -> None:
    kept = cut(table(SIZES), limit=20)
    assert np.all(np.diff([list(SIZES).index(sample.true_class) for sample in kept]) >= 0)
