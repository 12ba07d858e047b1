"""The four stages from Python: results and errors."""

from __future__ import annotations

import doctest
import importlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import semscale
from semscale import SemscaleError
from semscale.categories.ladder import Ladder
from semscale.datasets.dataset import Dataset

PREDICTIONS = (
    *("dataset", "model", "strategy", "order", "aggregation", "scale", "n_categories", "image", "file"),
    *("true_class", "category", "predicted_class", "correct", "rank", "margin"),
)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> semscale.Encoder:
    return semscale.Encoder("semscale-mini", store=tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return semscale.load_dataset("digits", per_class=20)


@pytest.fixture(scope="module")
def ladders(digits: Dataset) -> list[Ladder]:
    return [
        *(semscale.ladder(digits, "templates", steps=4, order=order) for order in (0, 1)),
        *(semscale.ladder(digits, "random-words", of="templates", steps=4, order=order) for order in (0, 1)),
    ]


@pytest.fixture(scope="module")
def predictions(digits: Dataset, ladders: list[Ladder], encoder: semscale.Encoder) -> pd.DataFrame:
    return semscale.score(digits, ladders, encoder)


def test_predictions_have_a_row_per_ladder_step_and_image(
    predictions: pd.DataFrame, ladders: list[Ladder], digits: Dataset
) -> None:
    assert tuple(predictions.columns) == PREDICTIONS
    assert len(predictions) == len(ladders) * 4 * len(digits.samples)
    assert (predictions["correct"] == (predictions["true_class"].astype(str) == predictions["predicted_class"])).all()
    first = predictions[predictions["scale"] == 1]
    assert (first["category"].astype(str) == first["predicted_class"].astype(str)).all()


def test_trials_count_what_is_right(predictions: pd.DataFrame) -> None:
    table = semscale.trials(predictions)
    assert len(table) == 16
    row = table.query("strategy == 'templates' and order == 1 and scale == 3").iloc[0]
    rows = predictions.query("strategy == 'templates' and order == 1 and scale == 3")
    assert row["n_correct"] == rows["correct"].sum()
    assert row["ci_low"] < row["accuracy"] < row["ci_high"]
    assert row["n_categories"] == 30


def test_conclusions_are_those_of_a_study(
    predictions: pd.DataFrame, digits: Dataset, ladders: list[Ladder], encoder: semscale.Encoder
) -> None:
    curves = semscale.conclude(predictions).set_index("strategy")
    assert list(curves.index) == ["templates", "random-words"]
    assert (curves["n_orders"] == 2).all()
    steps = semscale.steps(predictions).query("strategy == 'templates'")
    means = semscale.trials(predictions).query("strategy == 'templates'").groupby("scale")["accuracy"].mean()
    assert np.allclose(steps["accuracy"], means)
    # neither the order of the rows nor that of the parts matters
    shuffled = predictions.sample(frac=1, random_state=3)
    assert semscale.conclude(shuffled).set_index("strategy").loc[curves.index].equals(curves)
    one_by_one = pd.concat([semscale.score(digits, one, encoder) for one in ladders])
    assert semscale.conclude(one_by_one).set_index("strategy").equals(curves)


def test_comparison_with_a_control_is_paired(predictions: pd.DataFrame) -> None:
    table = semscale.compare(predictions, "templates", "random-words")
    assert table["scale"].isna().tolist() == [True, False, False, False, False]
    accuracy = semscale.trials(predictions).groupby(["strategy", "scale"], observed=True)["accuracy"].mean()
    difference = accuracy["templates"] - accuracy["random-words"]
    assert np.allclose(table["difference"].iloc[1:], difference)
    assert table["difference"].iloc[0] == pytest.approx(difference.iloc[1:].mean())


def test_plots_are_pictures(predictions: pd.DataFrame, tmp_path: Path) -> None:
    plot = semscale.plot(predictions)
    assert plot.save(tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    picture = plot.save(tmp_path / "curves.svg").read_text(encoding="utf-8")
    assert "<svg" in picture
    assert plot.title == "digits / semscale-mini"
    assert "critical scale" in plot.lines[0].label


def test_mistakes_are_explained(predictions: pd.DataFrame, digits: Dataset, encoder: semscale.Encoder) -> None:
    with pytest.raises(SemscaleError, match="other classes"):
        semscale.score(digits, semscale.ladder(["cat", "dog"], steps=2), encoder)
    with pytest.raises(SemscaleError, match="each once"):
        semscale.conclude(pd.concat([predictions, predictions]))
    with pytest.raises(SemscaleError, match="same images"):
        semscale.conclude(predictions.iloc[1:])
    with pytest.raises(SemscaleError, match="has both"):
        semscale.compare(predictions, "templates", "duplicates")
    with pytest.raises(SemscaleError, match="list of texts"):
        encoder.texts("dog")
    with pytest.raises(SemscaleError, match="grpc://host:port"):
        semscale.Encoder(servers="localhost")
    with pytest.raises(AttributeError, match="no attribute 'scores'"):
        _ = semscale.scores  # type: ignore[attr-defined]


def test_bad_images_are_quarantined(tmp_path: Path, encoder: semscale.Encoder) -> None:
    good = semscale.load_dataset("shapes", per_class=3)
    for i, sample in enumerate(good.samples):
        file = tmp_path / "shapes" / sample.true_class / f"{i}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(good.reader.read(sample.location) if i else b"no picture")
    copied = semscale.load_dataset(f"folder:{tmp_path / 'shapes'}")
    tolerant = semscale.Encoder("semscale-mini", store=tmp_path / "store", max_bad_fraction=0.05)
    assert len(tolerant.images(copied).table) == len(good.samples) - 1
    assert tolerant.quarantine["reason"].tolist() == ["not an image that Pillow can read"]
    with pytest.raises(SemscaleError, match="too many images"):
        encoder.images(copied)


@pytest.mark.usefixtures("ray_session")
def test_servers_give_what_this_process_gives(
    mini_server: str, digits: Dataset, ladders: list[Ladder], predictions: pd.DataFrame, tmp_path: Path
) -> None:
    with semscale.Encoder("semscale-mini", servers=mini_server, store=tmp_path / "store") as served:
        from_servers = semscale.score(digits, ladders, served)
    pd.testing.assert_frame_equal(from_servers, predictions)


@pytest.mark.usefixtures("ray_session")
def test_a_sweep_from_python_is_the_study(tmp_path: Path, predictions: pd.DataFrame) -> None:
    keys = {"datasets": [{"spec": "digits", "per_class": 20}], "strategies": ["templates"], "steps": 4}
    run = semscale.sweep(keys, controls=["random-words"], encoder="local", out=tmp_path / "runs/one", progress=False)
    curves = run.curves.set_index("strategy")
    first = predictions[predictions["order"] == 0]
    assert curves["baseline"].tolist() == semscale.conclude(first)["baseline"].tolist()
    assert curves["peak"].tolist() == semscale.conclude(first)["peak"].tolist()
    assert (run.directory / "report.html").exists()
    assert run.work["endpoint"].tolist() == ["this process"]
    with pytest.raises(SemscaleError, match="stepz"):
        semscale.sweep(stepz=3)


@pytest.mark.parametrize("name", ["embeddings", "predictions", "conclusions"])
def test_examples_of_the_docstrings_run(name: str) -> None:
    result = doctest.testmod(importlib.import_module(f"semscale.api.{name}"))
    assert result.attempted > 0
    assert not result.failed


def test_import_is_light_and_names_are_there() -> None:
    code = """
import sys, semscale
print(*sorted({"numpy", "pandas", "torch", "ray", "mlflow", "matplotlib", "jina"} & set(sys.modules)))
print(*[name for name in semscale.__all__ if not hasattr(semscale, name)])
print(*sorted({"ray", "mlflow", "jina", "torch"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=200, check=True)
    assert done.stdout == "\n\n\n"
