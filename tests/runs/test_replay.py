"""Replay: folders and run directories, texts looked up in what was offered at their step, and what is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from folders import CLASSES, PREDICTED, STEPS, TRUE, write

from semscale.analysis import conclude, wilson_interval
from semscale.categories.ladder_builder import LadderSpec, build_ladder
from semscale.common.errors import SemscaleError
from semscale.runs.published_folders import find_published
from semscale.runs.replay import replay


def test_steps_of_a_ladder_that_is_not_nested(tmp_path: Path) -> None:
    steps = replay([write(tmp_path)]).steps
    assert [row["n_categories"] for row in steps] == [2, 4, 7]
    assert [row["scale"] for row in steps] == [1, 2, 4]  # 7 categories of 2 classes
    assert [row["n_images"] for row in steps] == [4, 4, 2]
    assert [row["correct"] for row in steps] == [3, 3, 2]
    assert [row["accuracy"] for row in steps] == [75.0, 75.0, 100.0]
    assert [row["unknown"] for row in steps] == [{}, {"cat": 1}, {}]
    assert [row["usable"] for row in steps] == [True, True, False]
    assert [row["issue"] for row in steps] == [None, None, "half a file"]
    assert [row["published_accuracy"] for row in steps] == [50.0, None, None]
    assert [row["difference"] for row in steps] == [25.0, None, None]
    low, high = wilson_interval(3, 4)
    assert (steps[0]["ci_low"], steps[0]["ci_high"]) == (100 * low, 100 * high)
    assert {(row["dataset"], row["family"]) for row in steps} == {("Two", "plain")}


def test_texts_stored_as_categories_are_read_too(tmp_path: Path) -> None:
    folder = write(tmp_path)
    table = pd.read_parquet(folder / "predictions.parquet")
    table.astype(dict.fromkeys(PREDICTED, "category")).to_parquet(folder / "predictions.parquet")
    assert [row["correct"] for row in replay([folder]).steps] == [3, 3, 2]


def test_the_curve_comes_from_usable_steps_and_the_images_they_share(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    true = np.where(rng.random(3000) < 0.5, *CLASSES)
    other = np.where(true == CLASSES[0], CLASSES[1], CLASSES[0])
    right = rng.random(3000)
    answers = {
        name: np.where(right < share, true, other).astype(object)
        for name, share in (("2", 0.7), ("4", 0.8), ("6", 0.78))
    }
    answers["4"][:10] = None
    steps = [
        {"n_categories": int(name), "categories": {c: [c] for c in CLASSES}, "usable": name != "8"}
        for name in ("2", "4", "6", "8")
    ]
    write(tmp_path, steps, true.tolist(), {**answers, "8": other.tolist()})
    (curve,) = replay([tmp_path]).curves
    correct = np.column_stack([answers[name] == true for name in ("2", "4", "6")])[10:]
    summary = conclude([1, 2, 3], correct)
    assert (curve["n_images"], curve["n_steps"]) == (2990, 3)
    assert curve["baseline"] == pytest.approx(100 * correct[:, 0].mean())
    assert (curve["peak"], curve["peak_n_categories"]) == (pytest.approx(100 * correct[:, 1].mean()), 4)
    assert curve["peak_change"] == pytest.approx(100 * summary.peak_change)
    assert curve["final_change"] == pytest.approx(100 * summary.final_change)
    assert curve["peak_p"] == summary.peak_p < 0.01
    assert curve["trend"] == summary.trend == "rise-decline"
    assert [curve[f"critical_{name}"] for name in ("scale", "low", "high")] == [2, 2, 2]


def test_without_a_usable_step_or_a_shared_image_there_is_no_conclusion(tmp_path: Path) -> None:
    broken = [{**step, "usable": False} for step in STEPS]
    (curve,) = replay([write(tmp_path / "a", broken)]).curves
    assert (curve["n_steps"], curve["n_images"], curve["trend"], curve["baseline"]) == (0, 0, None, None)
    apart = {**PREDICTED, "2": ["cat", "cat", None, None, None], "4": [None, None, "cats", "cats", None]}
    (curve,) = replay([write(tmp_path / "b", predicted=apart)]).curves
    assert (curve["n_steps"], curve["n_images"], curve["trend"]) == (2, 0, None)


def test_a_true_class_that_the_ladder_has_not_is_wrong(tmp_path: Path) -> None:
    folder = write(tmp_path, true=["dog", *TRUE[1:]])
    assert [row["n_images"] for row in replay([folder]).steps] == [4, 4, 2]
    assert [row["correct"] for row in replay([folder]).steps] == [2, 2, 1]


def test_a_text_under_two_classes_counts_for_the_first_and_is_named(tmp_path: Path) -> None:
    steps = [{"n_categories": 4, "categories": {"cat": ["cat", "Snack"], "hot_dog": ["hot_dog", "snack"]}}]
    (row,) = replay([write(tmp_path, steps, ["hot dog", "cat"], {"4": ["snack", "snack"]})]).steps
    assert row["correct"] == 1
    assert "'Snack'" in row["issue"]


def test_an_unusable_step_may_lack_its_column(tmp_path: Path) -> None:
    last = replay([write(tmp_path, predicted={name: PREDICTED[name] for name in ("2", "4")})]).steps[-1]
    assert (last["n_images"], last["correct"], last["accuracy"], last["ci_low"]) == (0, 0, None, None)
    with pytest.raises(SemscaleError, match="no column of predictions") as caught:
        replay([write(tmp_path, predicted={"2": PREDICTED["2"]})])
    assert (caught.value.expected, caught.value.found) == ("a column '4'", "2")
    assert str(tmp_path) in str(caught.value.where)


def test_a_class_that_only_the_steps_name_is_a_class(tmp_path: Path) -> None:
    assert [row["correct"] for row in replay([write(tmp_path, classes=["cat"])]).steps] == [3, 3, 2]


def test_folders_of_folders_are_walked_in_the_order_of_their_names(tmp_path: Path) -> None:
    for name in ("plain/b", "plain/a", "image-picture/c", ".hidden/d"):
        write(tmp_path / name)
    folders = [folder.ladder.parent.name for folder in find_published([tmp_path])]
    assert folders == ["c", "a", "b"]
    assert len(find_published([tmp_path, tmp_path / "plain" / "a"])) == 3
    assert len(find_published([tmp_path / "plain" / "a", tmp_path / "plain" / "b"])) == 2


def run_directory(path: Path, models: list[str]) -> Path:
    """Write ladders and predictions as a sweep does, every answer the class name of the true class."""
    for order in (0, 1):
        ladder = build_ladder(LadderSpec("pets", ["cat", "dog"], "animal", "templates", steps=3), order=order)
        (path / "ladders").mkdir(parents=True, exist_ok=True)
        (path / "predictions").mkdir(exist_ok=True)
        ladder.save(path / "ladders" / f"pets__templates__{order}.json")
        columns: dict[str, Any] = {"file": ["1.png", "2.png", "3.png"], "true_class": ["cat", "dog", "dog"]}
        for step in ladder.steps:
            columns[str(step.n_categories)] = ["cat", "dog", step.categories["cat"][-1]]
        for model in models:
            pd.DataFrame(columns).to_parquet(path / "predictions" / f"pets__{model}__templates__{order}.parquet")
    return path


def test_a_run_directory(tmp_path: Path) -> None:
    result = replay([run_directory(tmp_path / "run", ["mini"])])
    assert [(row["family"], row["scale"], row["correct"]) for row in result.steps] == [
        (family, scale, 2) for family in ("templates", "templates order 1") for scale in (1, 2, 3)
    ]
    assert [row["dataset"] for row in result.curves] == ["pets", "pets"]
    assert all(row["published_accuracy"] is None for row in result.steps)


def test_several_models_are_told_apart(tmp_path: Path) -> None:
    result = replay([run_directory(tmp_path, ["mini", "ViT__B"])])
    assert {row["family"] for row in result.curves} == {
        f"{family} ({model})" for family in ("templates", "templates order 1") for model in ("mini", "ViT__B")
    }


def test_several_aggregations_are_told_apart(tmp_path: Path) -> None:
    folder = run_directory(tmp_path, ["mini", "ViT__B"]) / "predictions"
    for file in list(folder.iterdir()):
        for name in ("max", "top-3-mean"):
            (folder / f"{file.stem}__{name}.parquet").write_bytes(file.read_bytes())
        file.unlink()
    folders = find_published([tmp_path])
    assert {(folder.model, folder.aggregation) for folder in folders} == {
        (model, aggregation) for model in ("mini", "ViT__B") for aggregation in ("max", "top-3-mean")
    }
    assert all(folder.predictions.stem.split("__")[-2] == folder.ladder.stem[-1] for folder in folders)
    assert {row["family"] for row in replay([tmp_path]).curves} >= {"templates order 1 (mini, top-3-mean)"}


def test_predictions_of_a_run_without_their_ladder(tmp_path: Path) -> None:
    run_directory(tmp_path, ["mini"])
    (tmp_path / "ladders" / "pets__templates__1.json").unlink()
    with pytest.raises(SemscaleError, match="without a ladder") as caught:
        find_published([tmp_path])
    assert "pets__mini__templates__1.parquet" in str(caught.value.where)


def test_paths_that_hold_nothing(tmp_path: Path) -> None:
    write(tmp_path / "a")
    (tmp_path / "empty").mkdir()
    for path, words in (
        (tmp_path / "nowhere", "does not exist"),
        (tmp_path / "a" / "ladder.json", "this is a file"),
        (tmp_path / "empty", "contains no predictions"),
    ):
        with pytest.raises(SemscaleError, match=words) as caught:
            find_published([path])
        assert caught.value.where == str(path)


@pytest.mark.parametrize("missing", ["ladder.json", "predictions.parquet"])
def test_half_a_folder(tmp_path: Path, missing: str) -> None:
    (write(tmp_path / "a") / missing).unlink()
    with pytest.raises(SemscaleError, match=f"no {missing}"):
        find_published([tmp_path])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"classes": "cat"}, "valid list"),
        ({"classes": []}, "at least 1 item"),
        ({"steps": {}}, "valid list"),
        ({"steps": [3]}, "valid dictionary"),
        ({"steps": [{"n_categories": 2}]}, "Field required"),
        ({"steps": [{**STEPS[0], "n_categories": "2"}]}, "valid integer"),
        ({"steps": [{**STEPS[0], "categories": {"cat": [1]}}]}, "valid string"),
        ({"steps": [{**STEPS[0], "published_accuracy": "57 %"}]}, "valid number"),
        ({"steps": [{**STEPS[0], "usable": "no"}]}, "valid boolean"),
        ({"steps": [STEPS[0], STEPS[0]]}, "same n_categories"),
    ],
)
def test_a_ladder_with_a_mistake_names_its_file(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    write(tmp_path, **change)
    with pytest.raises(SemscaleError, match=words) as caught:
        replay([tmp_path])
    assert str(caught.value.where).startswith(str(tmp_path / "ladder.json"))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    folder = write(tmp_path)
    (folder / "predictions.parquet").write_bytes(b"no table")
    with pytest.raises(SemscaleError, match="cannot read the predictions") as caught:
        replay([folder])
    assert caught.value.where == str(folder / "predictions.parquet")
    pd.DataFrame({"file": ["1.jpg"]}).to_parquet(folder / "predictions.parquet")
    with pytest.raises(SemscaleError, match="true_class"):
        replay([folder])
    pd.DataFrame({"true_class": []}).to_parquet(folder / "predictions.parquet")
    with pytest.raises(SemscaleError, match="are empty"):
        replay([folder])
    (folder / "ladder.json").write_text("{")
    with pytest.raises(SemscaleError, match="not JSON"):
        replay([folder])


def test_what_a_ladder_may_leave_out(tmp_path: Path) -> None:
    folder = write(tmp_path / "Pets")
    content = {"classes": CLASSES, "steps": [{key: STEPS[0][key] for key in ("n_categories", "categories")}]}
    (folder / "ladder.json").write_text(json.dumps(content))
    (row,) = replay([folder]).steps
    assert (row["dataset"], row["family"], row["usable"], row["published_accuracy"]) == ("Pets", "", True, None)
