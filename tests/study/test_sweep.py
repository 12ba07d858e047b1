"""End-to-end sweeps with a real clip-server, Ray and MLflow store, and comparison of the finished studies."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import io
import json
import re
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
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
from semscale.categories.ladder_files import read_ladder
from semscale.cli import main
from semscale.cli.show import show_sweep
from semscale.common.errors import SemscaleError
from semscale.common.progress import SilentReporter
from semscale.config import StudyConfig, load_study, study_from
from semscale.runs.comparison import compare
from semscale.runs.replay import replay
from semscale.study.arms import make_arms
from semscale.study.pipeline import SweepResult, sweep
from semscale.study.result_tables import regenerate_report

pytestmark = pytest.mark.usefixtures("ray_session")

STEPS, LIMIT = 3, 60
NAMES = ["max", "logsumexp"]
# templates, duplicates, random-words; on each of digits and shapes
CURVES = 2 * 3


def make_study(url: str, store: Path, **changes: Any) -> StudyConfig:
    tree: dict[str, Any] = {"strategies": ["templates"], "steps": STEPS, "limit": LIMIT, "store": str(store)}
    return study_from(tree | {"server": {"urls": [url]}} | changes)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sweep")


@pytest.fixture(scope="module")
def study(mini_server: str, folder: Path) -> StudyConfig:
    return make_study(mini_server, folder / "store")


@pytest.fixture(scope="module")
def first(study: StudyConfig, folder: Path) -> SweepResult:
    return sweep(study, folder / "runs" / "first", SilentReporter())


@pytest.fixture(scope="module")
def second(study: StudyConfig, folder: Path, first: SweepResult) -> SweepResult:
    return sweep(study, folder / "runs" / "first", SilentReporter())


@pytest.fixture(scope="module")
def client(folder: Path) -> MlflowClient:
    return MlflowClient(tracking_uri=f"sqlite:///{folder / 'runs' / 'mlflow.db'}")


@pytest.fixture(scope="module")
def several(mini_server: str, folder: Path, first: SweepResult) -> SweepResult:
    """The first study under several aggregations."""
    return sweep(
        make_study(mini_server, folder / "store", aggregation=NAMES), folder / "runs" / "several", SilentReporter()
    )


@dataclasses.dataclass(frozen=True)
class Printed:
    """A sweep by the command: its run directory, its JSON document and its progress lines."""

    run: Path
    document: dict[str, Any]
    progress: str


@pytest.fixture(scope="module")
def alone(mini_server: str, folder: Path) -> Printed:
    """The first study under the second aggregation, encoded anew by one actor in other batches."""
    how = {"aggregation": NAMES[1], "encoding": {"actors": 1, "batch_size": 24}}
    file, run = folder / "alone.yaml", folder / "runs" / "alone"
    file.write_text(make_study(mini_server, folder / "other-store", **how).to_yaml())
    done = CliRunner().invoke(main, ["sweep", str(file), "--out", str(run), "--json"])
    assert done.exit_code == 0, done.stderr
    return Printed(run, json.loads(done.stdout), done.stderr)


def runs_of(client: MlflowClient, experiment: str = "semscale", study: str = "first") -> list[Any]:
    number = client.get_experiment_by_name(experiment).experiment_id
    return list(client.search_runs([number], f"tags.study = '{study}'", max_results=1000))


def kinds(runs: list[Any]) -> dict[str, int]:
    return pd.Series([run.data.tags["kind"] for run in runs]).value_counts().to_dict()


def test_every_unique_image_and_text_is_sent_once(first: SweepResult, study: StudyConfig) -> None:
    arms = make_arms(study)
    images = {
        hashlib.sha256(arm.dataset.reader.read(sample.file)).digest() for arm in arms for sample in arm.dataset.samples
    }
    texts = {text for arm in arms for ladder in arm.ladders for text in ladder.flatten().texts}
    assert (first.images_sent, first.texts_sent) == (len(images), len(texts))
    assert len(images) == 2 * LIMIT


def test_second_run_sends_nothing_and_gives_the_same(first: SweepResult, second: SweepResult) -> None:
    assert (second.images_sent, second.texts_sent) == (0, 0)
    pd.testing.assert_frame_equal(first.trials, second.trials)
    pd.testing.assert_frame_equal(first.curves, second.curves)


def test_trials_are_the_grid(first: SweepResult) -> None:
    assert len(first.trials) == CURVES * STEPS
    assert len(first.trials.drop_duplicates(["dataset", "model", "strategy", "order", "scale"])) == CURVES * STEPS
    assert first.trials["scale"].tolist() == list(range(1, STEPS + 1)) * CURVES
    assert (first.trials["n_images"] == LIMIT).all()


def test_mlflow_holds_study_curves_and_trials_once_each(second: SweepResult, client: MlflowClient) -> None:
    runs = runs_of(client)
    assert kinds(runs) == {"trial": CURVES * STEPS, "curve": CURVES, "study": 1}
    assert {run.info.status for run in runs} == {"FINISHED"}
    by_id = {run.info.run_id: run for run in runs}
    for run in runs:
        kind = run.data.tags["kind"]
        parent = by_id.get(run.data.tags.get("mlflow.parentRunId", ""))
        expected = {"trial": "curve", "curve": "study", "study": None}[kind]
        assert (parent.data.tags["kind"] if parent else None) == expected
    assert set(second.trials["mlflow_run_id"]) == {run.info.run_id for run in runs if run.data.tags["kind"] == "trial"}


def test_curve_runs_draw_accuracy_over_scale(second: SweepResult, client: MlflowClient) -> None:
    curve = second.curves.iloc[0]
    history = client.get_metric_history(curve["mlflow_run_id"], "accuracy")
    mine = second.trials[
        (second.trials["dataset"] == curve["dataset"]) & (second.trials["strategy"] == curve["strategy"])
    ]
    assert {point.step: point.value for point in history} == dict(zip(mine["scale"], mine["accuracy"], strict=True))
    assert len(history) == STEPS  # the repeated sweep doubled nothing
    names = {item.path for item in client.list_artifacts(curve["mlflow_run_id"])}
    shown = {1, int(curve["peak_scale"]), STEPS}
    assert {name for name in names if "confusion" in name} == {f"confusion-{scale:02d}.png" for scale in shown}


def test_trial_run_holds_what_a_reader_needs(second: SweepResult, client: MlflowClient, tmp_path: Path) -> None:
    row = second.trials.iloc[1]
    run = client.get_run(row["mlflow_run_id"])
    assert run.info.run_name == "digits / templates / s=02"
    assert run.data.params["n_categories"] == str(row["n_categories"])
    assert run.data.metrics["accuracy"] == row["accuracy"]
    assert run.data.metrics["class_accuracy/seven"] >= 0
    names = {item.path for item in client.list_artifacts(run.info.run_id)}
    assert names == {"categories.json", "category_statistics.csv", "class_accuracy.csv"}
    statistics = pd.read_csv(client.download_artifacts(run.info.run_id, "category_statistics.csv", str(tmp_path)))
    assert list(statistics.columns) == [
        "category",
        "fraction",
        "average_dot_product",
        "variance",
        "second_best_category",
    ]
    assert statistics["fraction"].sum() == pytest.approx(1.0)
    assert f"{row['gained']} gained, {row['lost']} lost" in run.data.tags["mlflow.note.content"]
    assert run.data.metrics["scale"] == 2
    assert set(run.data.tags) >= {
        "kind", "study", "dataset", "model", "strategy", "aggregation", "order", "scale"
    }  # fmt: skip


def test_a_trials_label_set_is_a_table_of_its_categories(
    second: SweepResult, client: MlflowClient, tmp_path: Path
) -> None:
    for strategy in ("templates", "duplicates"):
        trial = second.trials.query("dataset == 'digits' and strategy == @strategy and scale == 2").iloc[0]
        content = Path(client.download_artifacts(trial["mlflow_run_id"], "categories.json", str(tmp_path))).read_text()
        table = pd.DataFrame(json.loads(content)["data"], columns=json.loads(content)["columns"])
        step = read_ladder(second.directory / "ladders" / f"digits__{strategy}__0.json").steps[1]
        found = {name: texts.tolist() for name, texts in table.groupby("class", sort=False)["category"]}
        assert found == {name: list(texts) for name, texts in step.categories.items()}
        assert table["scale"].tolist() == [1, 2] * 10
        assert table[["images", "right"]].sum().tolist() == [trial["n_images"], trial["n_correct"]]
        tagged = json.loads(client.get_run(trial["mlflow_run_id"]).data.tags["mlflow.loggedArtifacts"])
        assert tagged == [{"path": "categories.json", "type": "table"}]


def test_every_run_has_its_dataset_once_and_curves_and_study_say_their_answers(
    second: SweepResult, client: MlflowClient
) -> None:
    digests = set()
    for run in runs_of(client):
        used = {one.dataset.name: one.dataset for one in run.inputs.dataset_inputs}
        assert len(used) == len(run.inputs.dataset_inputs)
        kind = run.data.tags["kind"]
        assert set(used) == ({"digits", "shapes"} if kind == "study" else {run.data.tags["dataset"]})
        digests |= {(name, one.digest) for name, one in used.items()}
        if kind == "curve":
            assert run.data.tags["verdict"] in ("up", "down", "none")
            assert (run.data.tags["role"] == "control") == (run.data.tags["strategy"] in ("duplicates", "random-words"))
            name = f"{run.data.tags['dataset']} x {run.data.tags['strategy']}"
            assert run.data.tags["mlflow.note.content"].startswith(f"**{name}**: ")
        if kind == "study":
            note = run.data.tags["mlflow.note.content"]
            assert note.count("**digits x ") == note.count("**shapes x ") == 1  # controls have no headline
            files = {item.path for item in client.list_artifacts(run.info.run_id)}
            assert files >= {"curves-digits.png", "curves-shapes.png", "report.html"}
    assert len(digests) == 2


def test_run_directory_has_the_files_of_the_design(second: SweepResult) -> None:
    folder = second.directory
    tables = ("trials.parquet", "curves.parquet", "steps.parquet", "controls.parquet", "across.parquet")
    for name in (*tables, "study.yaml", "quarantine.csv", "report.html"):
        assert (folder / name).exists(), name
    assert not list(folder.rglob("*.partial"))
    assert not list(folder.glob(".tune*"))
    ladder = read_ladder(folder / "ladders" / "digits__templates__0.json")
    predictions = pd.read_parquet(folder / "predictions" / "digits__semscale-mini__templates__0.parquet")
    assert list(predictions.columns) == ["file", "true_class", "10", "20", "30"]
    # the accuracy follows from the two files alone
    for step in ladder.steps:
        owner = {text: name for name, texts in step.categories.items() for text in texts}
        right = (predictions[str(step.n_categories)].map(owner) == predictions["true_class"]).mean()
        trial = second.trials.query("dataset == 'digits' and strategy == 'templates' and scale == @step.scale")
        assert right == pytest.approx(trial["accuracy"].item())


def test_evidence_agrees_with_the_trials(second: SweepResult) -> None:
    folder = second.directory
    tables = {name: pd.read_parquet(folder / f"{name}.parquet") for name in ("flips", "winners", "confusions", "map")}
    curve = ["dataset", "strategy", "scale"]
    trials = second.trials.set_index(curve)
    assert {key[:2] for key in tables["winners"].set_index(curve).index} == {
        (row["dataset"], row["strategy"]) for row in second.curves.to_dict("records") if row["role"] == "strategy"
    }
    for key, rows in tables["winners"].groupby(curve):
        trial = trials.loc[key]
        assert rows[["images", "right", "gained", "lost"]].sum().tolist() == [
            LIMIT, trial["n_correct"], trial["gained"], trial["lost"]
        ]  # fmt: skip
    for key, rows in tables["flips"].groupby([*curve, "direction"]):
        assert rows["n"].unique().tolist() == [len(rows)] == [trials.loc[key[:3]][key[3]]]
    for key, rows in tables["confusions"].groupby(curve):
        right = rows[rows["true_class"] == rows["predicted_class"]]
        assert right[["before", "after"]].sum().tolist() == [
            trials.loc[(*key[:2], s)]["n_correct"] for s in (1, key[2])
        ]
        assert rows[["before", "after"]].sum().tolist() == [LIMIT, LIMIT]
    assert tables["map"].groupby(["dataset", "kind"]).size()["shapes", "image"] == LIMIT
    assert tables["map"][["x", "y"]].notna().all(axis=None)


def test_report_shows_images_and_surroundings_and_is_the_same_again(second: SweepResult) -> None:
    page = (second.directory / "report.html").read_bytes()
    pictures = pd.read_parquet(second.directory / "thumbnails.parquet")["picture"]
    assert len(pictures)
    assert all(base64.b64encode(picture) in page for picture in pictures)
    weights = json.loads((second.directory / "environment.json").read_text())["models"]["semscale-mini"]
    assert weights["weights_sha256"].encode() in page
    assert b"grpc://127.0.0.1:" in page
    assert regenerate_report(str(second.directory)).local.read_bytes() == page


def test_run_directory_of_another_study_is_refused(mini_server: str, folder: Path, first: SweepResult) -> None:
    with pytest.raises(SemscaleError, match="belongs to another study"):
        sweep(make_study(mini_server, folder / "store", steps=2), first.directory, SilentReporter())


def test_wrong_model_name_is_refused_by_the_handshake(mini_server: str, tmp_path: Path) -> None:
    study = make_study(mini_server, tmp_path / "store", models=["ViT-B-32::openai"])
    with pytest.raises(SemscaleError) as caught:
        sweep(study, tmp_path / "run", SilentReporter())
    assert "runs another model" in str(caught.value)
    assert mini_server in str(caught.value)


def test_duplicates_move_nothing_to_the_last_digit(second: SweepResult) -> None:
    copies = second.trials[second.trials["strategy"] == "duplicates"]
    for _, rows in copies.groupby("dataset"):
        assert rows["n_categories"].tolist() == [rows["n_classes"].iloc[0] * scale for scale in range(1, STEPS + 1)]
        for column in ("accuracy", "top5", "macro_f1", "mean_margin", "calibration_error"):
            assert rows[column].nunique() == 1, column
    for dataset in ("digits", "shapes"):
        predictions = pd.read_parquet(
            second.directory / "predictions" / f"{dataset}__semscale-mini__duplicates__0.parquet"
        )
        steps = predictions.columns[2:]
        assert len(steps) == STEPS
        assert all(predictions[step].equals(predictions[steps[0]]) for step in steps)


def test_every_strategy_is_compared_with_every_control_at_equal_counts(second: SweepResult) -> None:
    controls = second.conclusions.controls
    assert len(controls) == 2 * 2 * (STEPS + 1)
    trials = second.trials.set_index(["dataset", "strategy", "scale"])
    for row in controls.dropna(subset="scale").to_dict("records"):
        arm = trials.loc[(row["dataset"], row["strategy"], row["scale"])]
        control = trials.loc[(row["dataset"], row["control"], row["scale"])]
        assert arm["n_categories"] == control["n_categories"]
        assert row["difference"] == pytest.approx(arm["accuracy"] - control["accuracy"])
    assert set(second.curves[second.curves["role"] == "control"]["strategy"]) == {"duplicates", "random-words"}


def test_json_is_all_of_stdout_and_plain_progress_names_every_stage(alone: Printed) -> None:
    document = alone.document
    assert (document["trials"], document["images_sent"], document["quarantined"]) == (CURVES * STEPS, 2 * LIMIT, 0)
    assert (document["run"], document["mlflow"]) == (str(alone.run), f"semscale ui {alone.run}")
    curves = pd.read_parquet(alone.run / "curves.parquet")
    assert [row["baseline"] for row in document["curves"]] == curves["baseline"].tolist()
    assert {row["strategy"]: row["role"] for row in document["curves"]}["duplicates"] == "control"
    for word in (
        "listing: done, 2 datasets",
        f"encoding digits: done, {LIMIT} images",
        f"encoding categories: done, {document['texts_sent']} texts",
        "scoring",
        f"trials: done, {CURVES * STEPS}",
        f"concluding: done, {CURVES} curves",
        "writing tables and report: done",
    ):
        assert word in alone.progress


def test_files_own_templates_and_orders_make_curves(mini_server: str, folder: Path, first: SweepResult) -> None:
    file = first.directory / "ladders" / "digits__templates__0.json"
    strategies = [
        {"strategy": "file", "name": "templates", "options": {"path": str(file)}},
        {"strategy": "custom", "options": {"templates": ["a photo of a {c}", "the {domain} {c}"]}},
    ]
    tree = {"datasets": ["digits"], "strategies": strategies, "controls": ["swapped"], "orders": [0, 1, 2]}
    result = sweep(make_study(mini_server, folder / "store", **tree), folder / "runs" / "orders", SilentReporter())
    assert len(result.trials) == 4 * 3 * STEPS
    assert result.images_sent == 0  # another study of the same images
    assert set(result.curves["strategy"]) == {"templates", "custom", "swapped", "swapped-of-custom"}
    assert set(result.curves["n_orders"]) == {3}
    again = result.trials.query("strategy == 'templates' and order == 0")["n_correct"].tolist()
    assert again == first.trials.query("dataset == 'digits' and strategy == 'templates'")["n_correct"].tolist()
    # the same texts in another order are the same categories in the end
    last = result.trials.query("strategy in ('templates', 'custom') and scale == @STEPS")
    assert (last.groupby("strategy")["n_correct"].nunique() == 1).all()
    means = result.trials.query("strategy == 'templates'").groupby("scale")["accuracy"].mean()
    steps = result.conclusions.steps.query("strategy == 'templates'")
    assert steps["accuracy"].tolist() == pytest.approx(means.tolist())
    assert len(result.conclusions.additions.query("strategy == 'custom'")) == STEPS - 1
    assert (result.trials["ceiling"] >= result.trials["accuracy"]).all()
    # with several orders a difference is still on the same images, and has no two-by-two table
    rows = compare([str(run.directory) for run in (first, result)]).comparisons
    assert [(row["scale"], row["other_scale"]) for row in rows[:2]] == [(1, 1), (STEPS, STEPS)]
    for row in rows:
        assert row["paired"]
        assert row["gained"] is row["lost"] is None
        assert row["low"] <= row["difference"] <= row["high"]
        assert row["other_accuracy"] == pytest.approx(means[row["other_scale"]])
    assert rows[0]["difference"] == 0


def test_each_aggregation_is_what_a_study_of_its_own_finds(
    several: SweepResult, first: SweepResult, alone: Printed
) -> None:
    for name, run in zip(NAMES, (first.directory, alone.run), strict=True):
        exact = name == NAMES[0]  # the other one was encoded in other batches
        for table in ("trials", "curves", "steps", "controls", "across"):
            both = [pd.read_parquet(folder / f"{table}.parquet") for folder in (several.directory, run)]
            mine = [one[one["aggregation"] == name].drop(columns="mlflow_run_id", errors="ignore") for one in both]
            pd.testing.assert_frame_equal(*(one.reset_index(drop=True) for one in mine), check_exact=exact)
        files = sorted((run / "predictions").glob("*.parquet"))
        assert len(files) == CURVES
        for file in files:
            assert file.stem.endswith("__0")
            twin = several.directory / "predictions" / f"{file.stem}__{name}.parquet"
            pd.testing.assert_frame_equal(pd.read_parquet(twin), pd.read_parquet(file))


def test_the_grid_holds_every_aggregation_once(several: SweepResult) -> None:
    assert len(several.trials) == CURVES * len(NAMES) * STEPS
    assert several.trials["mlflow_run_id"].nunique() == len(several.trials)
    assert list(dict.fromkeys(several.curves["aggregation"])) == NAMES
    # with class names alone all aggregations are one
    start = several.trials.query("scale == 1").groupby(["dataset", "strategy"])["n_correct"]
    assert (start.nunique() == 1).all()


def test_runs_say_their_aggregation_where_there_are_several(
    several: SweepResult, alone: Printed, client: MlflowClient
) -> None:
    run = client.get_run(several.trials.query("aggregation == 'logsumexp'")["mlflow_run_id"].iloc[0])
    assert run.info.run_name == "digits / templates / logsumexp / s=01"
    assert run.data.tags["aggregation"] == run.data.params["aggregation"] == "logsumexp"
    assert run.data.tags["semscale_key"].endswith("/digits__semscale-mini__templates__logsumexp/o=0/s=1")
    run = client.get_run(pd.read_parquet(alone.run / "trials.parquet")["mlflow_run_id"][0])
    assert run.info.run_name == "digits / templates / s=01"
    assert run.data.tags["semscale_key"].endswith("/digits__semscale-mini__templates/o=0/s=1")


def test_each_is_compared_with_the_first_on_the_same_images(several: SweepResult, first: SweepResult) -> None:
    found = pd.read_parquet(several.directory / "aggregations.parquet")
    assert len(found) == CURVES * (len(NAMES) - 1) * (STEPS + 1)
    assert set(found["against"]) == {"max"}
    accuracy = several.trials.set_index(["dataset", "strategy", "aggregation", "scale"])["accuracy"]
    for row in found.dropna(subset="scale").to_dict("records"):
        dataset, strategy, scale = row["dataset"], row["strategy"], row["scale"]
        base = accuracy[dataset, strategy, "max", scale]
        assert row["difference"] == pytest.approx(accuracy[dataset, strategy, row["aggregation"], scale] - base)
    assert not (first.directory / "aggregations.parquet").exists()


def test_the_table_names_them(several: SweepResult, first: SweepResult) -> None:
    def printed(result: SweepResult) -> str:
        console = Console(width=120, file=io.StringIO())
        show_sweep(console, result)
        return str(console.file.getvalue())  # type: ignore[attr-defined]

    assert printed(several).split()[:3] == ["dataset", "strategy", "aggregation"]
    assert printed(several).count("logsumexp") == CURVES
    assert "aggregation" not in printed(first).splitlines()[1]


@pytest.mark.faults
def test_runs_go_to_a_tracking_server_and_are_found_there_again(
    mini_server: str,
    folder: Path,
    tmp_path: Path,
    mlflow_process: Callable[[str, str, Path], AbstractContextManager[str]],
) -> None:
    with mlflow_process("server", f"sqlite:///{tmp_path / 'server.db'}", tmp_path) as address:
        tree = {"datasets": ["digits"], "controls": [], "steps": 2}
        study = make_study(mini_server, folder / "store", **tree, tracking={"uri": address, "experiment": "shared"})
        for _ in range(2):
            result = sweep(study, tmp_path / "run", SilentReporter())
        client = MlflowClient(tracking_uri=address)
        assert kinds(runs_of(client, "shared", "run")) == {"trial": 2, "curve": 1, "study": 1}
        trial = result.trials["mlflow_run_id"].iloc[0]
        assert {item.path for item in client.list_artifacts(trial)} >= {"categories.json"}
        assert len(client.get_metric_history(result.curves["mlflow_run_id"].iloc[0], "accuracy")) == 2
        assert address in result.ui_command


def test_replay_counts_the_same(several: SweepResult) -> None:
    steps = replay([several.directory]).steps
    assert len(steps) == len(several.trials)
    ours = several.trials.set_index(["dataset", "strategy", "aggregation", "n_categories"])["n_correct"]
    for row in steps:
        strategy, _, aggregation = row["family"].removesuffix(")").partition(" (")
        assert row["correct"] == ours[row["dataset"], strategy, aggregation, row["n_categories"]]


CURVE = {"dataset": "digits", "model": "semscale-mini", "strategy": "templates", "aggregation": "max"}


@pytest.fixture(scope="module")
def fewer(first: SweepResult, alone: Printed, folder: Path) -> Path:
    """A run cut to its first 30 digits and two steps of one curve, with tables as a study makes them."""
    run = Path(shutil.copytree(first.directory, folder / "fewer"))
    predictions = run / "predictions" / "digits__semscale-mini__templates__0.parquet"
    table = pd.read_parquet(predictions).iloc[:30, :4]
    table.assign(file=["other.png", *table["file"][1:]]).to_parquet(predictions)
    file = run / "ladders" / "digits__templates__0.json"
    ladder = read_ladder(file)
    dataclasses.replace(ladder, steps=ladder.steps[:2], provenance={}).save(file)
    marks = np.stack([right(run, "digits x templates", column) for column in (0, 1)], axis=1)
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


def compared(*runs: Path) -> Any:
    done = CliRunner().invoke(main, ["compare", *map(str, runs), "--json"])
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout)


def test_compare_is_the_paired_difference_where_the_images_are_the_same(first: SweepResult, alone: Printed) -> None:
    runs = first.directory, alone.run
    found = compared(*runs)
    assert found["differs"] == {"aggregation": {"A": "max", "B": "logsumexp"}}
    assert {"models", "weights", "images of digits", "steps"} <= set(found["same"])
    assert [(row["run"], row["curve"]) for row in found["curves"][:2]] == [
        ("A", "digits x templates"),
        ("B", "digits x templates"),
    ]
    rows = found["comparisons"]
    assert [row["at"] for row in rows] == ["scale 1", "last common scale", "peak"] * CURVES
    tested = {}
    for row in rows:
        assert row["paired"]
        assert row["same_sets"]
        before, after = (
            right(run, row["curve"], row[s] - 1) for run, s in zip(runs, ("scale", "other_scale"), strict=True)
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


def test_compare_of_other_images_says_so_and_pairs_nothing(first: SweepResult, alone: Printed, fewer: Path) -> None:
    found = compared(first.directory, fewer, alone.run)
    rows = [row for row in found["comparisons"] if row["other_run"] == "B"]
    assert [(row["at"], row["paired"], row["p"], row["p_holm"]) for row in rows] == [
        (scale, False, None, None) for scale in ("scale 1", "last common scale", "peak")
    ]
    assert (rows[1]["scale"], rows[1]["other_scale"]) == (2, 2)
    sides = []
    for run in (first.directory, fewer):
        marks = right(run, "digits x templates", 1)
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
    several: SweepResult, first: SweepResult, alone: Printed
) -> None:
    found = compared(several.directory, alone.run)
    assert {row["curve"].split(" x ")[2] for row in found["comparisons"]} == {"logsumexp"}
    assert {row["difference"] for row in found["comparisons"]} == {0}
    assert {row["p_holm"] for row in found["comparisons"]} == {1}
    assert len(found["alone"]["A"]) == CURVES


def test_compare_prints_tables(first: SweepResult, alone: Printed, fewer: Path) -> None:
    done = CliRunner().invoke(main, ["compare", *map(str, (first.directory, alone.run))])
    assert done.exit_code == 0, done.stderr
    for part in ("the same: ", "digits x templates", "on the same images", "p Holm"):
        assert part in done.stdout
    assert re.search(r"^aggregation +max +logsumexp$", done.stdout, flags=re.MULTILINE)
    assert "reading runs: done" in done.stderr
    done = CliRunner().invoke(main, ["compare", str(first.directory), str(fewer)])
    assert re.search(r"digits: not the same images in A \(60\) and B \(30\); \d+ are in both", done.stdout)


def test_only_what_is_missing_is_sent_and_recorded_again(alone: Printed, folder: Path, client: MlflowClient) -> None:
    before = pd.read_parquet(alone.run / "trials.parquet")
    client.delete_run(before["mlflow_run_id"][1])
    next((folder / "other-store").glob("*/image/*.parquet")).unlink()
    repeated = sweep(load_study(folder / "alone.yaml"), alone.run, SilentReporter())
    assert (repeated.images_sent > 0, repeated.texts_sent) == (True, 0)
    other = repeated.trials["mlflow_run_id"] != before["mlflow_run_id"]
    assert other[other].index.tolist() == [1]
    assert set(repeated.trials["mlflow_run_id"]) == {
        run.info.run_id for run in runs_of(client, study="alone") if run.data.tags["kind"] == "trial"
    }
    numbers = [trials.drop(columns="mlflow_run_id") for trials in (before, repeated.trials)]
    pd.testing.assert_frame_equal(*numbers)


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda run: (run / "curves.parquet").unlink(), "the run is not finished"),
        (lambda run: (run / "study.yaml").unlink(), "not a run directory"),
        (lambda run: shutil.rmtree(run / "predictions"), "a file of the run is missing"),
        (lambda run: (run / "steps.parquet").write_bytes(b"PAR1"), "a table of the run cannot be read"),
        (lambda run: drop_column(run / "curves.parquet", "peak"), "has another format"),
        (lambda run: drop_column(next(run.glob("predictions/*")), "true_class"), "has another format"),
        (lambda run: drop_row(next(run.glob("predictions/*"))), "do not fit its tables"),
    ],
)
def test_compare_refuses_what_is_no_whole_run(
    first: SweepResult, alone: Printed, tmp_path: Path, harm: Callable[[Path], object], message: str
) -> None:
    run = shutil.copytree(first.directory, tmp_path / "run")
    harm(run)
    done = CliRunner().invoke(main, ["compare", str(alone.run), str(run), "--json"])
    assert (done.exit_code, done.stdout) == (1, "")
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_compare_reads_runs_from_an_object_store(
    first: SweepResult, alone: Printed, s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    here = compared(first.directory, alone.run)
    s3.mkdir("beside")
    s3.put(f"{first.directory}/", "beside/run/", recursive=True)
    locations = ["s3://beside/run", str(alone.run)]
    done = CliRunner().invoke(main, ["compare", *locations, "--json"])
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["comparisons"] == here["comparisons"]
    s3.pipe_file("beside/run/steps.parquet", b"PAR1")  # read instead of the local copy
    done = CliRunner().invoke(main, ["compare", *locations])
    assert "s3://beside/run/steps.parquet" in done.stderr
    assert "a table of the run cannot be read" in done.stderr


def test_compare_wants_two_different_runs(first: SweepResult, alone: Printed, tmp_path: Path) -> None:
    run = str(first.directory)
    assert CliRunner().invoke(main, ["compare", run]).exit_code == 2
    assert "a run is given twice" in CliRunner().invoke(main, ["compare", run, f"{run}/."]).stderr
    assert "no such folder" in CliRunner().invoke(main, ["compare", run, str(tmp_path / "nowhere")]).stderr


def drop_column(path: Path, name: str) -> None:
    pd.read_parquet(path).drop(columns=name).to_parquet(path)


def drop_row(path: Path) -> None:
    table = pd.read_parquet(path)
    owner = table["true_class"] == table.iloc[:, 2].str.lower()
    table[~owner | (owner.cumsum() > 1)].to_parquet(path)  # without the first that its class name has right
