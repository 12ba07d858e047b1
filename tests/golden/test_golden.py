"""Golden results: every number of three studies is what it was before the package was made smaller.

Predictions and ladders are equal bit for bit, statistics within 1e-12. The studies start from stored embeddings,
so that they do not depend on the processor's floating-point unit; that the encoder still gives these is tested beside.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from studies import HERE, STORE, STUDIES, run, tables

# means of float32 products, and fits by iteration: the last digits are the processor's
ROUNDED = {"mean_margin", "calibration_error", "asymptote", "asymptote_low", "asymptote_high"}


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "name", [name if name == "quickstart" else pytest.param(name, marks=pytest.mark.golden) for name in STUDIES]
)
def test_study_gives_the_golden_results(name: str, tmp_path: Path) -> None:
    found = tables(run(name, tmp_path))
    golden = {path.stem: pd.read_parquet(path) for path in (HERE / name).glob("*.parquet")}
    assert set(found) == set(golden)
    for table, expected in golden.items():
        rounded = [name for name in expected if name in ROUNDED]
        exact = [name for name in expected if name not in ROUNDED]
        pd.testing.assert_frame_equal(found[table][exact], expected[exact], rtol=0, atol=1e-12, obj=table)
        pd.testing.assert_frame_equal(found[table][rounded], expected[rounded], rtol=0, atol=1e-6, obj=table)
        assert list(found[table]) == list(expected)


def test_encoder_gives_the_golden_embeddings(tmp_path: Path) -> None:
    arguments = ["--dataset", "digits", "--dataset", "shapes", "--per-class", "3", "--steps", "3"]
    command = [sys.executable, "-m", "semscale", "encode", *arguments, "--encoder", "local"]
    subprocess.run(
        [*command, "--store", str(tmp_path), "--out", str(tmp_path / "run")], check=True, capture_output=True
    )
    for kind, least in (("image", 66), ("text", 100)):
        golden, found = _rows(STORE, kind), _rows(tmp_path, kind)
        assert len(found) >= least
        for key, row in found.items():
            np.testing.assert_allclose(row, golden[key], rtol=0, atol=1e-5)


def _rows(store: Path, kind: str) -> dict[bytes, np.ndarray]:
    rows = pd.concat([pd.read_parquet(path) for path in store.glob(f"*/{kind}/*.parquet")])
    return dict(zip(rows["sha256"], rows["embedding"], strict=True))
