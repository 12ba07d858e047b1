"""Sample tables and their subsets: stratified, nested, seeded."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semscale.datasets.samples import Sample, SampleTable, listing_table, stratified_subset

SIZES = {"a": 60, "b": 30, "c": 9, "d": 1}


def table(sizes: dict[str, int]) -> SampleTable:
    return SampleTable.of(list(sizes), [Sample(f"{name}/{i}.png", name) for name, n in sizes.items() for i in range(n)])


def counts(samples: SampleTable) -> dict[str, int]:
    return dict(Counter(sample.true_class for sample in samples))


@pytest.mark.parametrize("n", [0, 3, 70_000])
def test_rows_are_returned_unchanged(n: int) -> None:
    table = listing_table((f"{i}.png", f"0:{i}" if i % 2 else "") for i in range(n))
    samples = SampleTable(["x"], table, np.zeros(n, np.int32))
    assert len(samples) == n
    for i in {0, 1, n // 2, n - 2, n - 1} & set(range(n)):
        assert samples[i] == Sample(f"{i}.png", "x", f"0:{i}" if i % 2 else f"{i}.png")
        assert samples.locations(i, i + 1) == [samples[i].location]
    assert sum(1 for _ in samples) == n


def test_picks_of_picks_and_slices() -> None:
    samples = SampleTable.of(["even", "odd"], [Sample(str(i), ("even", "odd")[i % 2]) for i in range(10)])
    picked = samples.pick(np.array([7, 2, 5]))[1:]
    assert [(sample.file, sample.true_class) for sample in picked] == [("2", "even"), ("5", "odd")]
    assert samples[-1].file == "9"
    with pytest.raises(IndexError):
        samples[10]


def test_a_limit_keeps_shares_and_every_class() -> None:
    assert counts(stratified_subset(table(SIZES), limit=20)) == {"a": 12, "b": 6, "c": 1, "d": 1}
    assert counts(stratified_subset(table(SIZES), limit=4)) == {"a": 1, "b": 1, "c": 1, "d": 1}


def test_per_class_is_a_maximum_and_applied_first() -> None:
    assert counts(stratified_subset(table(SIZES), per_class=10)) == {"a": 10, "b": 10, "c": 9, "d": 1}
    assert counts(stratified_subset(table(SIZES), per_class=10, limit=15)) == {"a": 5, "b": 5, "c": 4, "d": 1}


@settings(max_examples=40)
@given(st.lists(st.integers(0, 40), min_size=1, max_size=8).filter(lambda sizes: sum(sizes) > 0), st.integers(1, 200))
def test_a_limit_is_met_exactly_within_the_class_sizes(sizes: list[int], limit: int) -> None:
    by_name = {str(index): n for index, n in enumerate(sizes)}
    kept = counts(stratified_subset(table(by_name), limit=limit))
    assert sum(kept.values()) == min(limit, sum(sizes))
    assert all(n <= by_name[name] for name, n in kept.items())
    assert limit < sum(n > 0 for n in sizes) or len(kept) == sum(n > 0 for n in sizes)


def test_a_larger_subset_per_class_contains_a_smaller_one() -> None:
    small, large = (set(stratified_subset(table(SIZES), per_class=n).files()) for n in (3, 7))
    assert small < large


def test_the_subset_depends_on_the_seed_and_not_on_the_order() -> None:
    samples = table(SIZES)
    kept = set(stratified_subset(samples, limit=20).files())
    turned = SampleTable.of(list(SIZES), reversed(list(samples)))
    assert set(stratified_subset(turned, limit=20).files()) == kept
    assert set(stratified_subset(samples, limit=20, seed=1).files()) != kept


@pytest.mark.parametrize(("seed", "files"), [(0, "a/5 a/41 a/52 b/8 c/8 d/0"), (3, "a/37 a/42 a/53 b/12 c/2 d/0")])
def test_the_subset_is_the_same_on_every_machine(seed: int, files: str) -> None:
    chosen = stratified_subset(table(SIZES), limit=6, seed=seed)
    assert [file.removesuffix(".png") for file in chosen.files()] == files.split()


def test_the_original_order_is_kept() -> None:
    kept = stratified_subset(table(SIZES), limit=20)
    assert np.all(np.diff([list(SIZES).index(sample.true_class) for sample in kept]) >= 0)
