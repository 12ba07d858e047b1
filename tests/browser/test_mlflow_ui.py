"""The MLflow UI of a finished sweep, in a real headless Chromium: what a person opens first must be there."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from mlflow import MlflowClient
from playwright.sync_api import ConsoleMessage, Page, expect, sync_playwright

from semscale.common.progress import SilentReporter
from semscale.config import study_from
from semscale.report.headlines import headline
from semscale.study.pipeline import SweepResult, sweep
from semscale.tracking.descriptions import CURVES_OF_A_DATASET, CURVES_THAT_GAIN, TRIALS_OF_A_STRATEGY

pytestmark = pytest.mark.browser

expect.set_options(timeout=60_000)  # two cores, and somebody else may want them
# a person who has chosen "Model training" and closed the assistant, which takes a quarter of the window
SETTINGS = {
    "mlflow.workflowType_v1": '"machine_learning"',
    "mlflow.assistant.panelOpen_v1": "false",
    "mlflow.assistant.fab.autoOpenedOnFirstLoad_v1": "true",
}
# MLflow's own: it asks who is there even where there are no users, and watches sizes that change
THEIRS = ("users/current", "ResizeObserver loop")


@pytest.fixture(scope="module")
def result(ray_session: None, tmp_path_factory: pytest.TempPathFactory, full_pictures: bool) -> SweepResult:
    place = tmp_path_factory.mktemp("ui")
    tree: dict[str, Any] = {"encoder": "local", "store": str(place / "store")}
    if not full_pictures:
        # all shapes, so that there is a curve that gains
        tree |= {"datasets": [{"spec": "digits", "limit": 60}, "shapes"], "scales": [1, 4, 7]}
    return sweep(study_from(tree), place / "runs" / "quickstart", SilentReporter())


@pytest.fixture(scope="module")
def ui(result: SweepResult, mlflow_process: Callable[[str, str, Path], AbstractContextManager[str]]) -> Iterator[str]:
    folder = result.directory.parent
    with mlflow_process("ui", f"sqlite:///{folder / 'mlflow.db'}", folder) as address:
        yield address


@pytest.fixture(scope="module")
def errors() -> list[str]:
    """What the console has complained about so far, beside what MLflow complains about itself."""
    return []


@pytest.fixture(scope="module")
def page(ui: str, errors: list[str]) -> Iterator[Page]:
    chromium = shutil.which("chromium")
    assert chromium, "these tests need chromium (Debian: apt install chromium)"
    with sync_playwright() as engine:
        browser = engine.chromium.launch(
            executable_path=chromium,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"],
        )
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.set_default_timeout(60_000)
        page.add_init_script(f"for (const [k, v] of Object.entries({json.dumps(SETTINGS)})) localStorage.setItem(k, v)")

        def listen(message: ConsoleMessage) -> None:
            text = f"{message.text} {message.location['url']}"
            if message.type == "error" and not any(words in text for words in THEIRS):
                errors.append(text)

        page.on("console", listen)
        page.on("pageerror", lambda error: errors.append(str(error)))
        # a run's address typed while the first page still loads ends in "Something went wrong"
        page.goto(ui, wait_until="networkidle")
        yield page
        browser.close()


@pytest.fixture(scope="module")
def listed(page: Page, ui: str) -> Page:
    """The list of runs, sorted by name: that makes a plain list of what is found."""
    page.goto(f"{ui}/#/experiments/1/runs")
    expect(page.get_by_text("matching runs")).to_be_visible()
    page.get_by_text("Sort:").click()
    with page.expect_response("**/runs/search*"):
        page.locator("[role=menu], [role=listbox], [role=dialog]").last.get_by_text("Run Name", exact=True).click()
    expect(page.get_by_text("Sort: Run Name")).to_be_visible()
    page.mouse.move(700, 60)  # not over a row, which changes under it
    return page


def search(listed: Page, words: str) -> None:
    """Type a filter as a person does, and wait: of two answers under way MLflow shows the one that comes last."""
    field = listed.get_by_placeholder("metrics.rmse")
    field.fill(words)
    with listed.expect_response("**/runs/search*"):
        field.press("Enter")


def names_of(rows: pd.DataFrame) -> list[str]:
    scales = [f" / s={row['scale']:02d}" if "scale" in row else "" for row in rows.to_dict("records")]
    return [f"{row['dataset']} / {row['strategy']}{s}" for row, s in zip(rows.to_dict("records"), scales, strict=True)]


def run_address(ui: str, run_id: str, artifact: str = "") -> str:
    return f"{ui}/#/experiments/1/runs/{run_id}" + (f"/artifacts/{artifact}" if artifact else "")


def shapes_trial(result: SweepResult) -> Any:
    return result.trials.query("dataset == 'shapes' and strategy == 'templates-fixed'").iloc[-1]


def curve_of(result: SweepResult) -> Any:
    return result.curves.query("dataset == 'shapes' and strategy == 'templates-fixed'").iloc[0]


def that_gain(result: SweepResult) -> pd.DataFrame:
    found = result.conclusions
    ours = found.curves[found.curves["role"] == "strategy"]
    return ours[[headline(row, found.steps, found.controls).verdict == "up" for row in ours.to_dict("records")]]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (CURVES_OF_A_DATASET, lambda result: result.curves.query("dataset == 'digits'")),
        (TRIALS_OF_A_STRATEGY, lambda result: result.trials.query("strategy == 'templates' and scale >= 4")),
        (CURVES_THAT_GAIN, that_gain),
    ],
)
def test_the_usual_filters_find_their_runs(
    words: str, expected: Callable[[SweepResult], pd.DataFrame], listed: Page, result: SweepResult
) -> None:
    rows = expected(result)
    assert len(rows) > 0
    search(listed, words)
    expect(listed.get_by_text(f"{len(rows)} matching runs")).to_be_visible()
    for name in names_of(rows):
        expect(listed.get_by_text(name, exact=True).first).to_be_visible()


def test_selected_curve_runs_are_compared_and_draw_accuracy_over_scale(
    listed: Page, result: SweepResult, take_picture: Callable[[Page, str], None]
) -> None:
    page = listed
    search(page, "tags.kind = 'curve'")
    expect(page.get_by_text(f"{len(result.curves)} matching runs")).to_be_visible()
    page.get_by_role("checkbox", name="Select all runs").click()
    page.get_by_test_id("runs-compare-button").click()
    comparing = f"Comparing {len(result.curves)} Runs from 1 Experiment"
    expect(page.get_by_role("heading", name=comparing)).to_be_visible()
    page.get_by_role("link", name="accuracy", exact=True).click()
    for name in names_of(result.curves):
        expect(page.get_by_text(f"{name} (accuracy)")).to_be_attached()
    expect(page.get_by_role("radio", name="Step")).to_be_checked()
    take_picture(page, "mlflow-curves.png")


def test_the_experiment_says_how_to_read_it(page: Page, ui: str) -> None:
    page.goto(f"{ui}/#/experiments/1/runs")
    expect(page.get_by_text("Accuracy of CLIP labelling against scale")).to_be_visible()
    expect(page.get_by_text(CURVES_THAT_GAIN)).to_be_attached()


def test_a_curve_says_its_answer(page: Page, ui: str, result: SweepResult) -> None:
    found, curve = result.conclusions, curve_of(result)
    page.goto(run_address(ui, curve["mlflow_run_id"]))
    said = headline(curve.to_dict(), found.steps, found.controls)
    expect(page.get_by_text(f"{said.curve}: {said.change} {said.detail}.")).to_be_visible()
    expect(page.get_by_role("columnheader", name="change, points")).to_be_attached()
    expect(page.get_by_text("verdict: ")).to_contain_text(said.verdict)


def test_a_trial_shows_its_numbers_its_dataset_and_its_tags(
    page: Page, ui: str, result: SweepResult, take_picture: Callable[[Page, str], None]
) -> None:
    trial = shapes_trial(result)
    page.goto(run_address(ui, trial["mlflow_run_id"]))
    expect(page.get_by_role("heading", name=names_of(pd.DataFrame([trial]))[0])).to_be_visible()
    numbers = f"{100 * trial['accuracy']:.2f} % of {trial['n_images']} images of shapes labelled right"
    expect(page.get_by_text(numbers)).to_be_visible()
    expect(page.get_by_text(f"{trial['gained']} gained, {trial['lost']} lost")).to_be_visible()
    for words in ("kind: trial", "dataset: shapes", "strategy: templates-fixed", f"scale: {trial['scale']}"):
        expect(page.get_by_text(words, exact=True)).to_be_visible()
    take_picture(page, "mlflow-trial.png")
    page.get_by_text("shapes (").first.click()
    details = page.get_by_role("dialog")
    for words in (f"images: {trial['n_images']}", f"classes: {trial['n_classes']}", "source: shapes", "Digest:"):
        expect(details).to_contain_text(words)
    details.get_by_role("button", name="Close").click()


def test_a_trials_label_set_is_a_table_and_the_curve_has_confusion_matrices(
    page: Page, ui: str, result: SweepResult, take_picture: Callable[[Page, str], None]
) -> None:
    page.goto(run_address(ui, shapes_trial(result)["mlflow_run_id"], "categories.json"))
    for title in ("class", "category", "scale", "images", "right"):
        expect(page.get_by_role("columnheader", name=title)).to_be_visible()
    expect(page.get_by_role("cell", name="Large circle", exact=True)).to_be_visible()
    page.get_by_text("Path: ").first.evaluate("line => { line.style.visibility = 'hidden' }")  # of this machine
    take_picture(page, "mlflow-categories.png")
    page.goto(run_address(ui, curve_of(result)["mlflow_run_id"], "confusion-01.png"))
    page.reload()  # from one run to another the UI keeps its list of artifacts
    picture = page.locator("img[src^='blob:']").filter(visible=True).first
    expect(picture).to_be_visible()
    assert picture.evaluate("image => image.naturalWidth") > 300


def test_a_study_says_its_answers_and_has_a_picture_of_each_dataset(page: Page, ui: str, result: SweepResult) -> None:
    client = MlflowClient(f"sqlite:///{result.directory.parent / 'mlflow.db'}")
    study = client.get_run(result.curves["mlflow_run_id"].iloc[0]).data.tags["mlflow.parentRunId"]
    page.goto(run_address(ui, study))
    expect(page.get_by_text(f"{len(result.trials)} trials, {len(result.curves)} curves.")).to_be_visible()
    expect(page.get_by_text("shapes x templates-fixed: ")).to_be_attached()
    page.goto(run_address(ui, study, "curves-shapes.png"))
    picture = page.locator("img[src^='blob:']").filter(visible=True).first
    expect(picture).to_be_visible()
    assert picture.evaluate("image => image.naturalWidth") > 300


def test_the_console_has_no_error_of_ours(page: Page, errors: list[str]) -> None:
    """Last: what the browser said to all of the above."""
    assert not errors


def test_report_opens_without_an_error(
    page: Page, result: SweepResult, take_picture: Callable[[Page, str], None]
) -> None:
    errors: list[str] = []
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.goto(f"file://{result.directory / 'report.html'}")
    expect(page.get_by_role("heading", name="Answers")).to_be_visible()
    expect(page.locator("body[data-charts=drawn]")).to_be_attached()
    assert page.locator(".chart svg").count() == 2 + 2 + 2  # curves, small multiples, maps
    rows = page.get_by_role("region", name="Table of curves").locator("tr")
    assert rows.count() == 1 + len(result.curves)
    assert page.locator(".answers li").count() == len(result.curves.query("role == 'strategy'"))
    assert page.locator(".pictures img").count() > 0
    assert not errors
    page.set_viewport_size({"width": 1280, "height": 1120})  # answers and curves
    take_picture(page, "report.png")
    page.set_viewport_size({"width": 1280, "height": 800})
    page.emulate_media(color_scheme="dark")
    page.evaluate("document.getElementById('changes').scrollIntoView()")
    take_picture(page, "report-dark.png")
    page.emulate_media(color_scheme="light")
    page.set_viewport_size({"width": 390, "height": 844})
    page.evaluate("document.getElementById('curves').scrollIntoView()")
    take_picture(page, "report-phone.png")
