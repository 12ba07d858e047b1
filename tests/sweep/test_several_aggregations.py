"""A study with several aggregations: the curves of as many studies with one each, out of one pass."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from mlflow import MlflowClient
from rich.console import Console

from semscale.config import study_from
from semscale.replay.run import replay
from semscale.sweep.progress import Quiet
from semscale.sweep.show import show_result
from semscale.sweep.study import SweepResult, sweep

pytestmark = pytest.mark.usefixtures("ray_session")

NAMES = ["max", "logsumexp", "top-2-mean"]
STEPS, LIMIT = 3, 50
# a strategy and its control on each of two datasets
CURVES = 2 * 2


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("aggregations")


def carried_out(url: str, place: Path, aggregation: str | list[str]) -> SweepResult:
    tree: dict[str, Any] = {
        "aggregation": aggregation,
        "strategies": ["templates-fixed"],
        "controls": ["random-words"],
        "steps": STEPS,
        "limit": LIMIT,
        "server": {"urls": [url]},
        "store": str(place / "store"),
    }
    name = aggregation if isinstance(aggregation, str) else "several"
    return sweep(study_from(tree), place / name, Quiet())


@pytest.fixture(scope="module")
def several(mini_server: str, place: Path) -> SweepResult:
    return carried_out(mini_server, place, NAMES)


@pytest.fixture(scope="module")
def alone(mini_server: str, place: Path, several: SweepResult) -> dict[str, SweepResult]:
    return {name: carried_out(mini_server, place, name) for name in ("max", "logsumexp")}


def test_each_is_what_a_study_of_its_own_finds(several: SweepResult, alone: dict[str, SweepResult]) -> None:
    def of(table: pd.DataFrame, name: str) -> pd.DataFrame:
        mine = table[table["aggregation"] == name].reset_index(drop=True)
        return mine.drop(columns="mlflow_run_id", errors="ignore")

    for name, one in alone.items():
        pd.testing.assert_frame_equal(of(several.trials, name), of(one.trials, name), check_exact=True)
        for table in ("curves", "steps", "controls", "across"):
            both = (getattr(result.conclusions, table) for result in (several, one))
            pd.testing.assert_frame_equal(*(of(each, name) for each in both), check_exact=True)
        files = sorted((one.directory / "predictions").glob("*.parquet"))
        assert len(files) == CURVES
        for file in files:
            assert file.stem.endswith("__0")
            twin = several.directory / "predictions" / f"{file.stem}__{name}.parquet"
            pd.testing.assert_frame_equal(pd.read_parquet(twin), pd.read_parquet(file))


def test_the_grid_holds_every_aggregation_once(several: SweepResult) -> None:
    assert len(several.trials) == CURVES * len(NAMES) * STEPS
    assert several.trials["mlflow_run_id"].nunique() == len(several.trials)
    assert list(dict.fromkeys(several.curves["aggregation"])) == NAMES
    assert several.images_sent == 2 * LIMIT


def test_with_class_names_alone_all_aggregations_are_one(several: SweepResult) -> None:
    first = several.trials.query("scale == 1").groupby(["dataset", "strategy"])["n_correct"]
    assert (first.nunique() == 1).all()


def test_runs_say_their_aggregation_where_there_are_several(
    several: SweepResult, alone: dict[str, SweepResult], place: Path
) -> None:
    client = MlflowClient(tracking_uri=f"sqlite:///{place / 'mlflow.db'}")
    row = several.trials.query("aggregation == 'logsumexp'").iloc[0]
    run = client.get_run(row["mlflow_run_id"])
    assert run.info.run_name == "digits / templates-fixed / logsumexp / s=01"
    assert run.data.tags["aggregation"] == run.data.params["aggregation"] == "logsumexp"
    assert run.data.tags["semscale_key"].endswith("/digits__semscale-mini__templates-fixed__logsumexp/o=0/s=1")
    run = client.get_run(alone["logsumexp"].trials.iloc[0]["mlflow_run_id"])
    assert run.info.run_name == "digits / templates-fixed / s=01"
    assert run.data.tags["semscale_key"].endswith("/digits__semscale-mini__templates-fixed/o=0/s=1")


def test_each_is_compared_with_the_first_on_the_same_images(
    several: SweepResult, alone: dict[str, SweepResult]
) -> None:
    found = pd.read_parquet(several.directory / "aggregations.parquet")
    assert len(found) == CURVES * (len(NAMES) - 1) * (STEPS + 1)
    assert set(found["against"]) == {"max"}
    key = ["dataset", "strategy", "aggregation", "scale"]
    accuracy = several.trials.set_index(key)["accuracy"]
    for row in found.dropna(subset="scale").to_dict("records"):
        place = (row["dataset"], row["strategy"], row["aggregation"], row["scale"])
        first = accuracy[(*place[:2], "max", row["scale"])]
        assert row["difference"] == pytest.approx(accuracy[place] - first)
    assert not (alone["max"].directory / "aggregations.parquet").exists()


def test_the_table_names_them(several: SweepResult, alone: dict[str, SweepResult]) -> None:
    def printed(result: SweepResult) -> str:
        console = Console(width=120, file=io.StringIO())
        show_result(console, result)
        return str(console.file.getvalue())  # type: ignore[attr-defined]

    assert printed(several).split()[:3] == ["dataset", "strategy", "aggregation"]
    assert printed(several).count("top-2-mean") == CURVES
    assert "aggregation" not in printed(alone["max"]).splitlines()[1]


def test_replay_counts_the_same(several: SweepResult) -> None:
    steps = replay([several.directory]).steps
    assert len(steps) == len(several.trials)
    ours = several.trials.set_index(["dataset", "strategy", "aggregation", "n_categories"])["n_correct"]
    for row in steps:
        strategy, _, aggregation = row["family"].removesuffix(")").partition(" (")
        assert row["correct"] == ours[row["dataset"], strategy, aggregation, row["n_categories"]]
