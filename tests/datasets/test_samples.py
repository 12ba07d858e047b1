"""The table of samples: a sequence whose names lie in a mapped file beyond 65,536 rows."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest

from semscale.datasets.samples import Sample, SampleTable, Spool, repeated_rows
from semscale.errors import SemscaleError


@pytest.mark.parametrize("n", [0, 3, 65_536, 140_000])
def test_rows_come_back_as_they_went_in(n: int) -> None:
    spool = Spool()
    for i in range(n):
        spool.add(f"{i}.png", f"0:{i}" if i % 2 else "")
    samples = SampleTable(["x"], spool.table(), np.zeros(n, np.int32))
    assert len(samples) == len(spool) == n
    for i in {0, 1, n // 2, n - 2, n - 1} & set(range(n)):
        assert samples[i] == Sample(f"{i}.png", "x", f"0:{i}" if i % 2 else f"{i}.png")
        assert samples.places(i, i + 1) == [samples[i].place]
    assert sum(1 for _ in samples) == n


def test_a_long_listing_leaves_no_file_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    spool = Spool()
    for i in range(70_000):
        spool.add(str(i))
    assert len(list(tmp_path.iterdir())) == 1
    table = spool.table()
    assert list(tmp_path.iterdir()) == []
    assert table.column("file")[69_999].as_py() == "69999"


def test_a_full_disk_is_said_and_nothing_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    spool = Spool()
    for i in range(65_535):
        spool.add(str(i))
    with pytest.raises(SemscaleError, match="listing of a dataset cannot be written"):
        spool.add("one more")


def test_repeated_names_are_found_in_later_rows() -> None:
    spool = Spool()
    for name in ("a", "b", "a", "c", "b", "a"):
        spool.add(name)
    assert repeated_rows(spool.table()) == [2, 4, 5]


def test_picks_of_picks_and_slices() -> None:
    samples = SampleTable.of(["even", "odd"], [Sample(str(i), ("even", "odd")[i % 2]) for i in range(10)])
    picked = samples.pick(np.array([7, 2, 5]))[1:]
    assert [(sample.file, sample.true_class) for sample in picked] == [("2", "even"), ("5", "odd")]
    assert samples[-1].file == "9"
    with pytest.raises(IndexError):
        samples[10]
