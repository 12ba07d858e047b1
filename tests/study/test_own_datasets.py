"""User datasets through the whole sweep: archives with a class rule, bad images, copies, splits."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from rich.console import Console

from semscale.common.errors import SemscaleError
from semscale.common.progress import LineReporter, SilentReporter
from semscale.config import study_from
from semscale.datasets.loader_registry import load_dataset
from semscale.study.pipeline import SweepResult, sweep

pytestmark = pytest.mark.usefixtures("ray_session")

N = 120


@pytest.fixture(scope="module")
def contents() -> dict[str, bytes]:
    """N shapes, named as the founding study named its files: class, underscore, number."""
    dataset = load_dataset("shapes", limit=N)
    return {f"{s.true_class}_{i:05}.png": dataset.reader.read(s.location) for i, s in enumerate(dataset.samples)}


def run(folder: Path, spec: str, url: str, report: Any, **changes: Any) -> SweepResult:
    tree = {
        "datasets": [{"spec": spec, "domain": "shape", "class_from": "{class}_{number}.png"}],
        "strategies": ["templates"],
        "controls": [],
        "steps": 2,
        "server": {"urls": [url]},
        "store": str(folder / "store"),
    }
    return sweep(study_from(tree | changes), folder / "runs", report)


def test_few_bad_images_are_out_of_all_arms_many_stop_the_sweep_and_copies_are_said(
    mini_server: str, tmp_path: Path, contents: dict[str, bytes]
) -> None:
    bad = [name for name in contents if not name.startswith("circle")][5:8]
    circle = next(name for name in contents if name.startswith("circle"))
    # a copy of a bad image is bad as well, in another class too
    broken = contents | dict(zip(bad, (b"no picture", b"", contents[bad[2]][:200]), strict=True))
    broken |= {
        "star_90000.png": broken[bad[2]],
        "circle_90001.png": contents[circle],
        "star_90002.png": contents[circle],
    }
    with zipfile.ZipFile(tmp_path / "broken.zip", "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in broken.items():
            file.writestr(f"shapes/{name}", content)
    spec, unusable = f"zip:{tmp_path / 'broken.zip'}", {f"shapes/{name}" for name in [*bad, "star_90000.png"]}
    with pytest.raises(SemscaleError, match="too many images") as caught:
        run(tmp_path, spec, mini_server, SilentReporter())
    assert "at most 1" in str(caught.value)
    listed = pd.read_csv(tmp_path / "runs" / "quarantine.csv")
    assert len(listed) >= 2
    assert set(listed["file"]) <= unusable
    console = Console(record=True, width=300, file=io.StringIO())
    result = run(tmp_path, spec, mini_server, LineReporter(console), max_bad_fraction=0.04)
    listed = pd.read_csv(result.directory / "quarantine.csv")
    assert set(listed["file"]) == unusable
    assert listed["reason"].notna().all()
    assert result.quarantined == 4
    assert set(result.trials["n_images"]) == {N - 3 + 2}
    output = console.export_text()
    assert "exact copies of other images" in output
    assert f"shapes/{circle} (circle) = shapes/circle_90001.png (circle) = shapes/star_90002.png (star)" in output
