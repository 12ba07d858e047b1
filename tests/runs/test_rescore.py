"""Predicted texts are looked up in what was offered at their step."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from folders import CLASSES, PREDICTED, STEPS, TRUE, write

from semscale.analysis import conclude, wilson_interval
from semscale.errors import SemscaleError
from semscale.runs.published import replay


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
