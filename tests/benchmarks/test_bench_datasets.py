"""The benchmark of the loaders runs; figures come from running it by hand, see the README."""

from __future__ import annotations

import pytest

from semscale.bench.datasets import listing, reading


def test_every_loader_is_measured_against_pillow() -> None:
    found = reading(quick=True)
    assert set(found) == {"folder", "zip", "zip, deflated", "tar", "tar.gz", "table", "webdataset", "parquet"}
    assert all(row["least"] > 0 for row in found.values())


@pytest.mark.benchmark
def test_a_long_listing_is_lazy() -> None:
    found = listing(quick=True)
    assert found["samples"] == 20_000
    # rows as Python objects would need more than this
    assert found["mib_beyond"] < 64
