"""The main job against a real clip-server, a real Ray and a real MLflow store."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from click.testing import CliRunner
from mlflow import MlflowClient

from semscale.categories.files import read_ladder
from semscale.cli import main
from semscale.config import StudyConfig, study_from
from semscale.errors import SemscaleError
from semscale.runs.compare import compare
from semscale.study.arms import make_arms
from semscale.study.progress import Quiet
from semscale.study.results import regenerate_report
from semscale.study.study import SweepResult, sweep

pytestmark = pytest.mark.usefixtures("ray_session")

STEPS, LIMIT = 3, 70
# templates, templates-fixed, duplicates, random-words; on each of digits and shapes
CURVES = 2 * 4


def make_study(url: str, store: Path, **changes: Any) -> StudyConfig:
    tree: dict[str, Any] = {"steps": STEPS, "limit": LIMIT, "server": {"urls": [url]}, "store": str(store)}
    return study_from(tree | changes)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sweep")


@pytest.fixture(scope="module")
def study(mini_server: str, place: Path) -> StudyConfig:
    return make_study(mini_server, place / "store")


@pytest.fixture(scope="module")
def first(study: StudyConfig, place: Path) -> SweepResult:
    return sweep(study, place / "runs" / "first", Quiet())


@pytest.fixture(scope="module")
def second(study: StudyConfig, place: Path, first: SweepResult) -> SweepResult:
    return sweep(study, place / "runs" / "first", Quiet())


@pytest.fixture(scope="module")
def client(place: Path) -> MlflowClient:
    return MlflowClient(tracking_uri=f"sqlite:///{place / 'runs' / 'mlflow.db'}")


def runs_of(client: MlflowClient, experiment: str = "semscale") -> list[Any]:
    return list(client.search_runs([client.get_experiment_by_name(experiment).experiment_id], max_results=1000))


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
            assert note.count("**digits x ") == note.count("**shapes x ") == 2  # controls are no answers
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


def test_results_do_not_depend_on_actors_or_batches(first: SweepResult, mini_server: str, place: Path) -> None:
    tree = {"datasets": ["digits"], "controls": [], "encoding": {"actors": 1, "batch_size": 24}}
    other = sweep(make_study(mini_server, place / "other-store", **tree), place / "runs" / "other", Quiet())
    key = ["dataset", "strategy", "scale"]
    ours, theirs = (run.trials.drop(columns="mlflow_run_id").set_index(key) for run in (first, other))
    pd.testing.assert_frame_equal(ours.loc[theirs.index], theirs)
    for path in (other.directory / "predictions").iterdir():
        pd.testing.assert_frame_equal(
            pd.read_parquet(first.directory / "predictions" / path.name), pd.read_parquet(path)
        )


def test_run_directory_of_another_study_is_refused(mini_server: str, place: Path, first: SweepResult) -> None:
    with pytest.raises(SemscaleError, match="belongs to another study"):
        sweep(make_study(mini_server, place / "store", steps=2), first.directory, Quiet())


def test_wrong_model_name_is_refused_by_the_handshake(mini_server: str, tmp_path: Path) -> None:
    study = make_study(mini_server, tmp_path / "store", models=["ViT-B-32::openai"])
    with pytest.raises(SemscaleError) as caught:
        sweep(study, tmp_path / "run", Quiet())
    assert "runs another model" in str(caught.value)
    assert mini_server in str(caught.value)


def test_json_is_all_of_stdout_and_plain_progress_names_every_stage(mini_server: str, tmp_path: Path) -> None:
    words = ["sweep", "--dataset", "digits", "--limit", "20", "--steps", "1", "--server", mini_server]
    words += ["--store", str(tmp_path / "store"), "--out", str(tmp_path / "run")]
    done = CliRunner().invoke(main, [*words, "--json"])
    assert done.exit_code == 0, done.stderr
    document = json.loads(done.stdout)
    assert (document["trials"], document["images_sent"], document["quarantined"]) == (3, 20, 0)
    assert document["run"] == str(tmp_path / "run")
    assert document["mlflow"] == f"semscale ui {tmp_path / 'run'}"
    curves = pd.read_parquet(tmp_path / "run" / "curves.parquet")
    assert [row["baseline"] for row in document["curves"]] == curves["baseline"].tolist()
    assert {row["strategy"]: row["role"] for row in document["curves"]}["duplicates"] == "control"
    text = done.stderr
    for word in (
        "listing: done, 1 datasets",
        "encoding digits: done, 20 images",
        "encoding categories: done, 10 texts",
        "scoring",
        "trials: done, 3",
        "concluding: done, 3 curves",
        "writing tables and report: done",
    ):
        assert word in text


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
    assert len(controls) == 2 * 2 * 2 * (STEPS + 1)
    trials = second.trials.set_index(["dataset", "strategy", "scale"])
    for row in controls.dropna(subset="scale").to_dict("records"):
        arm = trials.loc[(row["dataset"], row["strategy"], row["scale"])]
        control = trials.loc[(row["dataset"], row["control"], row["scale"])]
        assert arm["n_categories"] == control["n_categories"]
        assert row["difference"] == pytest.approx(arm["accuracy"] - control["accuracy"])
    assert set(second.curves[second.curves["role"] == "control"]["strategy"]) == {"duplicates", "random-words"}


def test_orders_share_the_texts_and_pool_into_one_curve(mini_server: str, place: Path, first: SweepResult) -> None:
    study = make_study(
        mini_server,
        place / "store",
        datasets=["digits"],
        strategies=["templates"],
        controls=[],
        orders=[0, 1, 2],
        steps=12,
    )
    result = sweep(study, place / "runs" / "orders", Quiet())
    assert len(result.trials) == 3 * 12
    assert result.images_sent == 0  # another study of the same images
    assert len(result.curves) == 1
    assert result.curves["n_orders"].item() == 3
    last = result.trials[result.trials["scale"] == 12]
    # the same texts in another order are the same categories in the end
    assert last["n_correct"].nunique() == 1
    means = result.trials.groupby("scale")["accuracy"].mean()
    assert result.conclusions.steps["accuracy"].tolist() == pytest.approx(means.tolist())
    assert len(result.conclusions.additions) == 11
    # with several orders a difference is still on the same images, and has no two-by-two table
    rows = compare([str(run.directory) for run in (first, result)]).comparisons
    assert [(row["scale"], row["other_scale"]) for row in rows[:2]] == [(1, 1), (STEPS, STEPS)]
    for row in rows:
        assert row["paired"]
        assert row["gained"] is row["lost"] is None
        assert row["low"] < row["difference"] < row["high"]
        assert row["other_accuracy"] == pytest.approx(means[row["other_scale"]])
    assert rows[0]["difference"] == 0
    assert (result.trials["ceiling"] >= result.trials["accuracy"]).all()


def test_a_ladder_file_and_own_templates_are_strategies(mini_server: str, place: Path, first: SweepResult) -> None:
    file = first.directory / "ladders" / "digits__templates__0.json"
    strategies = [
        {"strategy": "file", "name": "again", "options": {"path": str(file)}},
        {"strategy": "custom", "options": {"templates": ["a photo of a {c}", "the {domain} {c}"]}},
    ]
    study = make_study(mini_server, place / "store", datasets=["digits"], strategies=strategies, controls=["swapped"])
    result = sweep(study, place / "runs" / "file", Quiet())
    again = result.trials[result.trials["strategy"] == "again"]["n_correct"].tolist()
    assert again == first.trials.query("dataset == 'digits' and strategy == 'templates'")["n_correct"].tolist()
    assert set(result.curves["strategy"]) == {"again", "custom", "swapped", "swapped-of-custom"}


def test_runs_go_to_a_tracking_server_and_are_found_there_again(
    mini_server: str,
    place: Path,
    tmp_path: Path,
    mlflow_process: Callable[[str, str, Path], AbstractContextManager[str]],
) -> None:
    with mlflow_process("server", f"sqlite:///{tmp_path / 'server.db'}", tmp_path) as address:
        tree = {"datasets": ["digits"], "strategies": ["templates"], "controls": [], "steps": 2}
        study = make_study(mini_server, place / "store", **tree, tracking={"uri": address, "experiment": "shared"})
        for _ in range(2):
            result = sweep(study, tmp_path / "run", Quiet())
        client = MlflowClient(tracking_uri=address)
        assert kinds(runs_of(client, "shared")) == {"trial": 2, "curve": 1, "study": 1}
        trial = result.trials["mlflow_run_id"].iloc[0]
        assert {item.path for item in client.list_artifacts(trial)} >= {"categories.json"}
        assert len(client.get_metric_history(result.curves["mlflow_run_id"].iloc[0], "accuracy")) == 2
        assert address in result.ui_command
