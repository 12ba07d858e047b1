"""Datasets as people have them, through the whole sweep: archives by a rule, bad images, copies, splits."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from rich.console import Console

from semscale.config import study_from
from semscale.datasets.registry import load_dataset
from semscale.errors import SemscaleError
from semscale.study.progress import Lines, Quiet
from semscale.study.study import SweepResult, sweep

pytestmark = pytest.mark.usefixtures("ray_session")

N = 120


@pytest.fixture(scope="module")
def contents() -> dict[str, bytes]:
    """N shapes, named as the founding study named its files: class, underscore, number."""
    dataset = load_dataset("shapes", limit=N)
    return {f"{s.true_class}_{i:05}.png": dataset.reader.read(s.place) for i, s in enumerate(dataset.samples)}


def archive(path: Path, contents: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in contents.items():
            file.writestr(f"shapes/{name}", content)
    return path


def run(
    url: str, folder: Path, entry: dict[str, Any], report: Any = None, out: str = "run", **changes: Any
) -> SweepResult:
    tree = {
        "datasets": [{"domain": "shape", "class_from": "{class}_{number}.png", **entry}],
        "strategies": ["templates"],
        "controls": [],
        "steps": 2,
        "server": {"urls": [url]},
        "store": str(folder / "store"),
    }
    return sweep(study_from(tree | changes), folder / "runs" / out, report or Quiet())


def test_an_archive_gives_the_same_curve_as_the_folder(
    mini_server: str, tmp_path: Path, contents: dict[str, bytes]
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    packed = run(mini_server, tmp_path / "zip", {"spec": f"zip:{archive(tmp_path / 'photos.zip', contents)}"})
    lying = run(mini_server, tmp_path / "folder", {"spec": f"folder:{folder}"})
    assert packed.images_sent == lying.images_sent == N
    columns = ["dataset", "scale", "n_images", "n_correct", "mean_margin"]
    by_columns = {"check_exact": False, "atol": 1e-6}
    pd.testing.assert_frame_equal(packed.trials[columns], lying.trials[columns], **by_columns)


def test_few_bad_images_are_out_of_all_arms_and_many_stop_the_sweep(
    mini_server: str, tmp_path: Path, contents: dict[str, bytes]
) -> None:
    bad = list(contents)[5:8]
    # a copy of a bad image is bad as well, in another class too
    broken = contents | dict(zip(bad, (b"no picture", b"", contents[bad[2]][:200]), strict=True))
    broken["star_90000.png"] = broken[bad[2]]
    spec = f"zip:{archive(tmp_path / 'broken.zip', broken)}"
    with pytest.raises(SemscaleError, match="too many images") as caught:
        run(mini_server, tmp_path / "few", {"spec": spec})
    assert "at most 1" in str(caught.value)
    listed = pd.read_csv(tmp_path / "few" / "runs" / "run" / "quarantine.csv")
    assert len(listed) >= 2
    assert set(listed["file"]) <= {f"shapes/{name}" for name in [*bad, "star_90000.png"]}
    result = run(mini_server, tmp_path / "few", {"spec": spec}, max_bad_fraction=0.04, out="more")
    listed = pd.read_csv(result.directory / "quarantine.csv")
    assert set(listed["file"]) == {f"shapes/{name}" for name in [*bad, "star_90000.png"]}
    assert listed["reason"].notna().all()
    assert result.quarantined == 4
    assert set(result.trials["n_images"]) == {N - 3}


def test_copies_and_contradictions_are_said(mini_server: str, tmp_path: Path, contents: dict[str, bytes]) -> None:
    circle = next(name for name in contents if name.startswith("circle"))
    doubled = contents | {"circle_90001.png": contents[circle], "star_90002.png": contents[circle]}
    console = Console(record=True, width=300, file=io.StringIO())
    result = run(mini_server, tmp_path, {"spec": f"zip:{archive(tmp_path / 'twice.zip', doubled)}"}, Lines(console))
    said = console.export_text()
    assert result.images_sent == N
    assert set(result.trials["n_images"]) == {N + 2}
    assert "2 images are exact copies of others (1 pictures more than once)" in said
    assert f"shapes/{circle} (circle) = shapes/circle_90001.png (circle) = shapes/star_90002.png (star)" in said
