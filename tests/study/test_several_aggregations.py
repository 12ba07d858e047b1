"""A study with several aggregations: the curves of as many studies with one each, out of one pass; and compared."""

from __future__ import annotations

import dataclasses
import io
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from click.testing import CliRunner
from mlflow import MlflowClient
from rich.console import Console
from scipy.stats import binomtest

from semscale.analysis.curve import conclude
from semscale.analysis.intervals import change_interval, wilson_interval
from semscale.categories.files import read_ladder
from semscale.cli import main
from semscale.cli.show import show_result
from semscale.config import study_from
from semscale.runs.published import replay
from semscale.study.progress import Quiet
from semscale.study.study import SweepResult, sweep

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


CURVE = {"dataset": "digits", "model": "semscale-mini", "strategy": "templates-fixed", "aggregation": "max"}


@pytest.fixture(scope="module")
def fewer(alone: dict[str, SweepResult], place: Path) -> Path:
    """A run cut to its first 30 digits and two steps of one curve, with tables as a study makes them."""
    run = Path(shutil.copytree(alone["max"].directory, place / "fewer"))
    predictions = run / "predictions" / "digits__semscale-mini__templates-fixed__0.parquet"
    table = pd.read_parquet(predictions).iloc[:30, :4]
    table.assign(file=["other.png", *table["file"][1:]]).to_parquet(predictions)
    file = run / "ladders" / "digits__templates-fixed__0.json"
    ladder = read_ladder(file)
    dataclasses.replace(ladder, steps=ladder.steps[:2], provenance={}).save(file)
    marks = np.stack([right(run, "digits x templates-fixed", column) for column in (0, 1)], axis=1)
    found = conclude([1, 2], marks)
    trials = [{**CURVE, "order": 0, "scale": s, "n_correct": n} for s, n in zip((1, 2), marks.sum(axis=0), strict=True)]
    curve = {**CURVE, "role": "strategy", "n_images": 30, **found.columns()}
    for name, table in {"trials": trials, "curves": [curve], "steps": found.steps.assign(**CURVE)}.items():
        pd.DataFrame(table).to_parquet(run / f"{name}.parquet")
    return run


def right(run: Path, curve: str, column: int) -> npt.NDArray[np.bool_]:
    """Return which images of a curve are right at a step, from its two files alone, in the order of the files."""
    dataset, strategy = curve.split(" x ")
    ladder = read_ladder(run / "ladders" / f"{dataset}__{strategy}__0.json")
    table = pd.read_parquet(run / "predictions" / f"{dataset}__semscale-mini__{strategy}__0.parquet")
    owner = {text: name for name, texts in ladder.steps[column].categories.items() for text in texts}
    return np.asarray(table.iloc[:, 2 + column].map(owner) == table["true_class"])


def compared(*runs: SweepResult | Path) -> Any:
    places = [str(run if isinstance(run, Path) else run.directory) for run in runs]
    done = CliRunner().invoke(main, ["compare", *places, "--json"])
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout)


def test_compare_is_the_paired_difference_where_the_images_are_the_same(alone: dict[str, SweepResult]) -> None:
    first, other = alone["max"], alone["logsumexp"]
    found = compared(first, other)
    assert found["differs"] == {"aggregation": {"A": "max", "B": "logsumexp"}}
    assert {"models", "weights", "images of digits", "steps"} <= set(found["same"])
    assert [(row["run"], row["curve"]) for row in found["curves"][:2]] == [
        ("A", "digits x templates-fixed"),
        ("B", "digits x templates-fixed"),
    ]
    rows = found["comparisons"]
    assert [row["at"] for row in rows] == ["scale 1", "last common scale", "peak"] * CURVES
    tested = {}
    for row in rows:
        assert row["paired"]
        assert row["same_sets"]
        before, after = (
            right(run.directory, row["curve"], row[s] - 1) for run, s in ((first, "scale"), (other, "other_scale"))
        )
        gained, lost = int((after & ~before).sum()), int((before & ~after).sum())
        assert (row["gained"], row["lost"], row["common_images"]) == (gained, lost, LIMIT)
        assert row["difference"] == pytest.approx((gained - lost) / LIMIT)
        assert row["p"] == pytest.approx(binomtest(gained, gained + lost).pvalue if gained + lost else 1.0)
        low, high = change_interval(gained, lost, LIMIT)
        assert (row["low"], row["high"]) == pytest.approx((float(low), float(high)))
        scales = row["scale"], row["other_scale"]
        tested[(row["dataset"], *scales, row["strategy"] if scales != (1, 1) else "")] = row["p"]
    assert any(row["gained"] or row["lost"] for row in rows)
    assert found["n_tests"] == len(tested)
    worst = sorted(tested.values())[0]
    assert min(row["p_holm"] for row in rows) == pytest.approx(min(1.0, worst * len(tested)))


def test_compare_of_other_images_says_so_and_pairs_nothing(alone: dict[str, SweepResult], fewer: Path) -> None:
    found = compared(alone["max"], fewer, alone["logsumexp"])
    rows = [row for row in found["comparisons"] if row["other_run"] == "B"]
    assert [(row["at"], row["paired"], row["p"], row["p_holm"]) for row in rows] == [
        (place, False, None, None) for place in ("scale 1", "last common scale", "peak")
    ]
    assert (rows[1]["scale"], rows[1]["other_scale"]) == (2, 2)
    sides = []
    for run in (alone["max"].directory, fewer):
        marks = right(run, "digits x templates-fixed", 1)
        sides.append((marks.mean(), *map(float, wilson_interval(marks.sum(), len(marks)))))
    (p1, low1, high1), (p2, low2, high2) = sides
    assert rows[1]["difference"] == pytest.approx(p2 - p1)
    assert rows[1]["low"] == pytest.approx(p2 - p1 - np.hypot(p2 - low2, high1 - p1))
    assert rows[1]["high"] == pytest.approx(p2 - p1 + np.hypot(high2 - p2, p1 - low1))
    assert rows[0]["common_images"] == 29
    assert (rows[0]["images"], rows[0]["other_images"]) == (LIMIT, 30)
    counts = {run: text.partition(",")[0] for run, text in found["differs"]["images of digits"].items()}
    assert counts == {"A": str(LIMIT), "B": "30", "C": str(LIMIT)}
    # the third is compared with the first as if the second were not there
    assert len([row for row in found["comparisons"] if row["other_run"] == "C"]) == 3 * CURVES
    assert found["alone"] == {"A": [], "B": [], "C": []}


def test_compare_names_the_aggregation_where_a_study_has_several(
    several: SweepResult, alone: dict[str, SweepResult]
) -> None:
    found = compared(several, alone["logsumexp"])
    assert {row["curve"].split(" x ")[2] for row in found["comparisons"]} == {"logsumexp"}
    assert {row["difference"] for row in found["comparisons"]} == {0}
    assert {row["p_holm"] for row in found["comparisons"]} == {1}
    assert len(found["alone"]["A"]) == CURVES * 2


def test_compare_prints_tables(alone: dict[str, SweepResult], fewer: Path) -> None:
    done = CliRunner().invoke(main, ["compare", *(str(run.directory) for run in (alone["max"], alone["logsumexp"]))])
    assert done.exit_code == 0, done.stderr
    for part in ("the same: ", "digits x templates-fixed", "on the same images", "p Holm"):
        assert part in done.stdout
    assert re.search(r"^aggregation +max +logsumexp$", done.stdout, flags=re.MULTILINE)
    assert "reading runs: done" in done.stderr
    done = CliRunner().invoke(main, ["compare", str(alone["max"].directory), str(fewer)])
    assert re.search(r"digits: not the same images in A \(50\) and B \(30\); \d+ are in both", done.stdout)


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda run: (run / "curves.parquet").unlink(), "the run is not finished"),
        (lambda run: (run / "study.yaml").unlink(), "not a run directory"),
        (lambda run: shutil.rmtree(run / "predictions"), "a file of the run is missing"),
        (lambda run: (run / "steps.parquet").write_bytes(b"PAR1"), "a table of the run cannot be read"),
        (lambda run: drop_column(run / "curves.parquet", "peak"), "of another format"),
        (lambda run: drop_column(next(run.glob("predictions/*")), "true_class"), "of another format"),
        (lambda run: drop_row(next(run.glob("predictions/*"))), "do not fit its tables"),
    ],
)
def test_compare_refuses_what_is_no_whole_run(
    alone: dict[str, SweepResult], tmp_path: Path, harm: Callable[[Path], object], said: str
) -> None:
    run = shutil.copytree(alone["max"].directory, tmp_path / "run")
    harm(run)
    done = CliRunner().invoke(main, ["compare", str(alone["logsumexp"].directory), str(run), "--json"])
    assert (done.exit_code, done.stdout) == (1, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_compare_reads_runs_from_an_object_store(
    alone: dict[str, SweepResult], s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    here = compared(alone["max"], alone["logsumexp"])
    s3.mkdir("beside")
    s3.put(f"{alone['max'].directory}/", "beside/run/", recursive=True)
    places = ["s3://beside/run", str(alone["logsumexp"].directory)]
    done = CliRunner().invoke(main, ["compare", *places, "--json"])
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["comparisons"] == here["comparisons"]
    s3.pipe_file("beside/run/steps.parquet", b"PAR1")  # what is there counts, not the copy that is here now
    done = CliRunner().invoke(main, ["compare", *places])
    assert "s3://beside/run/steps.parquet" in done.stderr
    assert "a table of the run cannot be read" in done.stderr


def test_compare_wants_two_different_runs(alone: dict[str, SweepResult], tmp_path: Path) -> None:
    run = str(alone["max"].directory)
    assert CliRunner().invoke(main, ["compare", run]).exit_code == 2
    assert "a run stands here twice" in CliRunner().invoke(main, ["compare", run, f"{run}/."]).stderr
    assert "no such folder" in CliRunner().invoke(main, ["compare", run, str(tmp_path / "nowhere")]).stderr


def drop_column(path: Path, name: str) -> None:
    pd.read_parquet(path).drop(columns=name).to_parquet(path)


def drop_row(path: Path) -> None:
    table = pd.read_parquet(path)
    owner = table["true_class"] == table.iloc[:, 2].str.lower()
    table[~owner | (owner.cumsum() > 1)].to_parquet(path)  # without the first that its class name has right
