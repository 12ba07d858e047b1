"""Scoring devices: results do not depend on them, and a missing GPU is an error before anything starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from semscale.common.errors import SemscaleError
from semscale.common.progress import SilentReporter
from semscale.config import StudyConfig, study_from
from semscale.datasets.loader_registry import load_dataset
from semscale.scoring import BLOCK
from semscale.study.pipeline import SweepResult, sweep
from semscale.study.scoring_stage import ScoringPlacement, check_device, choose_placement

no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")


class Notes(SilentReporter):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """More than a block of images, most of them copies, which are encoded once and scored each for itself."""
    folder = tmp_path_factory.mktemp("pictures")
    dataset = load_dataset("digits", per_class=4)
    owners = dataset.samples.class_index.tolist()
    for number, (sample, owner) in enumerate(zip(dataset.samples, owners, strict=True)):
        class_folder = folder / dataset.classes[owner]
        class_folder.mkdir(exist_ok=True)
        content = dataset.reader.read(sample.file)
        for copy in range(BLOCK // len(dataset.samples) + 2):
            (class_folder / f"{number}-{copy}.png").write_bytes(content)
    return folder


def run_study(url: str, folder: Path, device: str, out: Path) -> tuple[SweepResult, list[str]]:
    tree: dict[str, Any] = {
        "datasets": [f"folder:{folder}"],
        "strategies": ["templates-fixed"],
        "controls": [],
        "aggregation": ["max", "mean-embedding"],
        "steps": 2,
        "server": {"urls": [url]},
        "store": str(out / "store"),
        "scoring": {"device": device},
    }
    report = Notes()
    return sweep(study_from(tree), out / device.replace(":", "-"), report), report.notes


@pytest.mark.usefixtures("ray_session")
def test_a_study_scored_with_torch_finds_the_same(mini_server: str, pictures: Path, tmp_path: Path) -> None:
    plain, quiet = run_study(mini_server, pictures, "cpu", tmp_path)
    other, notes = run_study(mini_server, pictures, "torch:cpu", tmp_path)
    assert (plain.trials["n_images"] > BLOCK).all()
    assert [note for note in notes if note.startswith("scoring on torch:cpu")]
    assert not [note for note in quiet if note.startswith("scoring on")]
    near = ["mean_margin", "calibration_error"]
    same = plain.trials.columns.difference([*near, "mlflow_run_id"])
    pd.testing.assert_frame_equal(plain.trials[same], other.trials[same], check_exact=True)
    pd.testing.assert_frame_equal(plain.trials[near], other.trials[near], atol=1e-3, rtol=0)
    for file in (plain.directory / "predictions").iterdir():
        twin = other.directory / "predictions" / file.name
        pd.testing.assert_frame_equal(pd.read_parquet(file), pd.read_parquet(twin))


@no_gpu
def test_a_gpu_that_is_asked_for_by_name_has_to_be_there() -> None:
    for name in ("cuda:0", "cuda:7"):
        with pytest.raises(SemscaleError, match="no GPU that torch can use"):
            check_device(name, None)
    check_device("auto", None)
    check_device("cuda", "10.0.0.1:6379")


@no_gpu
@pytest.mark.usefixtures("ray_session")
def test_a_cluster_without_gpus() -> None:
    with pytest.raises(SemscaleError, match="the Ray cluster has no GPU") as caught:
        choose_placement("cuda")
    assert "auto" in str(caught.value.hint)
    assert choose_placement("auto") == choose_placement("cpu")
    assert choose_placement("cpu").device is None
    assert choose_placement("cuda:0") == ScoringPlacement("cuda:0", 1, in_process=True)


def test_the_device_is_no_part_of_the_digest() -> None:
    assert study_from({"scoring": {"device": "auto"}}).digest() == StudyConfig().digest()
    with pytest.raises(SemscaleError, match="should match pattern"):
        study_from({"scoring": {"device": "cuda:"}})
