"""Folders, folders of folders, run directories, and what is wrong with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from folders import CLASSES, STEPS, write

from semscale.categories.build import LadderSpec, build_ladder
from semscale.errors import SemscaleError
from semscale.runs.published import replay
from semscale.runs.sources import find_sources


def test_folders_of_folders_are_walked_in_the_order_of_their_names(tmp_path: Path) -> None:
    for name in ("plain/b", "plain/a", "image-picture/c", ".hidden/d"):
        write(tmp_path / name)
    folders = [source.ladder.parent.name for source in find_sources([tmp_path])]
    assert folders == ["c", "a", "b"]
    assert len(find_sources([tmp_path, tmp_path / "plain" / "a"])) == 3
    assert len(find_sources([tmp_path / "plain" / "a", tmp_path / "plain" / "b"])) == 2


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
    sources = find_sources([tmp_path])
    assert {(source.model, source.aggregation) for source in sources} == {
        (model, aggregation) for model in ("mini", "ViT__B") for aggregation in ("max", "top-3-mean")
    }
    assert all(source.predictions.stem.split("__")[-2] == source.ladder.stem[-1] for source in sources)
    assert {row["family"] for row in replay([tmp_path]).curves} >= {"templates order 1 (mini, top-3-mean)"}


def test_predictions_of_a_run_without_their_ladder(tmp_path: Path) -> None:
    run_directory(tmp_path, ["mini"])
    (tmp_path / "ladders" / "pets__templates__1.json").unlink()
    with pytest.raises(SemscaleError, match="without their ladder") as caught:
        find_sources([tmp_path])
    assert "pets__mini__templates__1.parquet" in str(caught.value.where)


def test_paths_that_hold_nothing(tmp_path: Path) -> None:
    write(tmp_path / "a")
    (tmp_path / "empty").mkdir()
    for path, words in (
        (tmp_path / "nowhere", "no such folder"),
        (tmp_path / "a" / "ladder.json", "this is a file"),
        (tmp_path / "empty", "nothing to re-score"),
    ):
        with pytest.raises(SemscaleError, match=words) as caught:
            find_sources([path])
        assert caught.value.where == str(path)


@pytest.mark.parametrize("missing", ["ladder.json", "predictions.parquet"])
def test_half_a_folder(tmp_path: Path, missing: str) -> None:
    (write(tmp_path / "a") / missing).unlink()
    with pytest.raises(SemscaleError, match=f"no {missing}"):
        find_sources([tmp_path])


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
    with pytest.raises(SemscaleError, match="no row"):
        replay([folder])
    (folder / "ladder.json").write_text("{")
    with pytest.raises(SemscaleError, match="no JSON"):
        replay([folder])


def test_what_a_ladder_may_leave_out(tmp_path: Path) -> None:
    folder = write(tmp_path / "Pets")
    content = {"classes": CLASSES, "steps": [{key: STEPS[0][key] for key in ("n_categories", "categories")}]}
    (folder / "ladder.json").write_text(json.dumps(content))
    (row,) = replay([folder]).steps
    assert (row["dataset"], row["family"], row["usable"], row["published_accuracy"]) == ("Pets", "", True, None)
