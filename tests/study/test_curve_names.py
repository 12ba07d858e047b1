"""Unusual names from data give distinct files, keys and runs; failing figures do not end a study."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient

from semscale.common.errors import SemscaleError
from semscale.common.files import sqlite_uri
from semscale.common.progress import SilentReporter
from semscale.common.text import slug
from semscale.config import StudyConfig, study_from
from semscale.datasets.dataset_builder import dataset_name
from semscale.datasets.loader_registry import load_dataset
from semscale.runs.finished import read_correctness, read_run
from semscale.study import report_data, result_tables, study_runs
from semscale.study.arms import make_arms
from semscale.study.pipeline import SweepResult, sweep
from semscale.study.result_tables import regenerate_report
from semscale.tracking import descriptions

CLASSES = {"circle": "a//b", "square": "a b", "triangle": ".", "star": " ".join(["long"] * 50)}
STRATEGIES = {"照片": "templates", "图画": "templates-fixed"}


@pytest.fixture(scope="module")
def study(mini_server: str, tmp_path_factory: pytest.TempPathFactory) -> StudyConfig:
    """Four classes with four images each, in a folder with special characters."""
    root = tmp_path_factory.mktemp("odd") / "what? 100%41"
    shapes = load_dataset("shapes", per_class=4)
    for number, sample in enumerate(one for one in shapes.samples if one.true_class in CLASSES):
        target = root / "花" / sample.true_class / f"{number}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(shapes.reader.read(sample.location))
    tree = {
        "datasets": [{"spec": f"folder:{root / '花'}", "classes": CLASSES, "domain": "shape"}],
        "strategies": [{"strategy": strategy, "name": name} for name, strategy in STRATEGIES.items()],
        "controls": [],
        "steps": 2,
        "server": {"urls": [mini_server]},
        "store": str(root / "store"),
    }
    return study_from(tree)


@pytest.fixture(scope="module")
def result(study: StudyConfig, ray_session: None) -> SweepResult:
    return sweep(study, Path(str(study.store)).parent / "runs" / "run", SilentReporter())


def test_strategies_in_chinese_have_their_own_files_and_runs(result: SweepResult) -> None:
    assert {path.stem for path in (result.directory / "ladders").iterdir()} == {f"花__{name}__0" for name in STRATEGIES}
    run = read_run(str(result.directory), "A")
    for curve in run.curves.to_dict("records"):
        correctness = read_correctness(run, curve)
        assert correctness.ladder.strategy == curve["strategy"]
    root = result.directory.parent
    assert [path.name for path in root.parent.parent.iterdir()] == [root.parent.name]  # no other database beside
    client = MlflowClient(tracking_uri=sqlite_uri(root / "mlflow.db"))
    runs = client.search_runs([client.get_experiment_by_name("semscale").experiment_id])
    assert Counter(run.data.tags["kind"] for run in runs) == {"study": 1, "curve": 2, "trial": 4}
    for trial in (run for run in runs if run.data.tags["kind"] == "trial"):
        assert sum(name.startswith("class_accuracy/") for name in trial.data.metrics) == len(CLASSES)


def test_a_study_of_powers_of_two_has_its_map(result: SweepResult) -> None:
    points = pd.read_parquet(result.directory / "map.parquet")
    assert points["kind"].value_counts().to_dict() == {"image": 16, "category": 8}
    assert np.isfinite(points[["x", "y"]]).all(axis=None)
    assert 0 < points["variance"].iloc[0] < 1


def test_equal_images_and_texts_are_one_point() -> None:
    one = np.linspace(0, 1, 64)
    images, texts, share = report_data.principal_axes(np.tile(one, (4, 1)), np.tile(one, (4, 1)))
    assert (np.abs([*images, *texts]).max(), share) == (0, 0)


def test_failing_figures_do_not_end_a_study(
    study: StudyConfig, result: SweepResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any, **more: Any) -> Any:
        raise ValueError("cannot be drawn")

    notes: list[str] = []

    class Notes(SilentReporter):
        def note(self, text: str) -> None:
            notes.append(text)

    for module, name in (
        (study_runs, "confusion_png"),
        (report_data, "eigh"),
        (result_tables, "write_report"),
        (descriptions, "_render"),
    ):
        monkeypatch.setattr(module, name, fail)
    bare = sweep(study, result.directory.parent / "bare", Notes())
    monkeypatch.undo()
    pd.testing.assert_frame_equal(*(one.trials.drop(columns="mlflow_run_id") for one in (bare, result)))
    left_out = [note for note in notes if note.endswith(" left out: cannot be drawn")]
    assert [note.split()[0] for note in left_out] == ["pictures", "pictures", "map", "report.html"]
    assert not {"map.parquet", "report.html"} & {path.name for path in bare.directory.iterdir()}
    regenerate_report(str(bare.directory))
    assert (bare.directory / "report.html").stat().st_size > 100_000


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("照片", "图画"),
        ("a/b", "a b"),
        ("A::/x/w.pt", "A::/x-w.pt"),
        ("ViT-L-14::336-x", "ViT-L-14-336::x"),
        ("\u00e9", "e\u0301"),
        ("x" * 300, "x" * 301),
        (".", ".."),
        ("a", "a_"),
        ("(a)", "a"),
    ],
)
def test_other_names_give_other_file_names(one: str, other: str) -> None:
    names = [slug("digits", name, "templates", 0) for name in (one, other)]
    assert len(set(names)) == 2
    assert all(len(name.encode()) < 100 and name.count("__") == 3 and "/" not in name for name in names)
    assert slug("a__b", "c") != slug("a", "b__c")


def test_ordinary_names_stay_and_letters_of_all_scripts() -> None:
    models = "ViT-B-32::laion2b_s34b_b79k", "hf-hub:laion/CLIP-ViT-B-32", "semscale-mini"
    assert slug(*models, 12, "top-3-mean") == (
        "ViT-B-32-laion2b_s34b_b79k__hf-hub-laion-CLIP-ViT-B-32__semscale-mini__12__top-3-mean"
    )
    assert slug("照片", "फूल") == "照片__फूल"
    names = "花と鳥", "my_photos", "Pets (2012)"
    assert [dataset_name(name) for name in names] == ["花と鳥", "my-photos", "Pets-2012"]


def test_a_strategy_with_the_name_of_a_control_is_refused() -> None:
    names = "duplicates", "duplicates-of-duplicates"
    strategies = [{"strategy": "templates", "name": name} for name in names]
    tree = {"datasets": ["digits"], "strategies": strategies, "controls": ["duplicates"], "steps": 2, "limit": 20}
    with pytest.raises(SemscaleError, match="the name of another one's control"):
        make_arms(study_from(tree))
