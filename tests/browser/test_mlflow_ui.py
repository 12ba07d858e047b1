"""The MLflow UI of a finished sweep, in a real headless Chromium: what a person opens first must be there."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from urllib.parse import quote

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from semscale.config import study_from
from semscale.sweep.progress import Quiet
from semscale.sweep.study import SweepResult, sweep

pytestmark = pytest.mark.browser

expect.set_options(timeout=30_000)  # two cores, and somebody else may want them
FILTER = "tags.kind = 'curve'"  # as in the README


@pytest.fixture(scope="module")
def result(
    mini_server: str, ray_session: None, tmp_path_factory: pytest.TempPathFactory, full_pictures: bool
) -> SweepResult:
    place = tmp_path_factory.mktemp("ui")
    tree = {"server": {"urls": [mini_server]}, "store": str(place / "store")}
    if not full_pictures:
        tree |= {"steps": 3, "limit": 60}
    return sweep(study_from(tree), place / "runs" / "quickstart", Quiet())


@pytest.fixture(scope="module")
def ui(result: SweepResult, mlflow_process: Callable[[str, str, Path], AbstractContextManager[str]]) -> Iterator[str]:
    folder = result.directory.parent
    with mlflow_process("ui", f"sqlite:///{folder / 'mlflow.db'}", folder) as address:
        yield address


@pytest.fixture(scope="module")
def page(ui: str) -> Iterator[Page]:
    chromium = shutil.which("chromium")
    assert chromium, "these tests need chromium (Debian: apt install chromium)"
    with sync_playwright() as engine:
        browser = engine.chromium.launch(
            executable_path=chromium,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"],
        )
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.set_default_timeout(60_000)
        page.goto(ui)
        yield page
        browser.close()


def test_selected_curve_runs_draw_accuracy_over_scale(
    page: Page, ui: str, result: SweepResult, take_picture: Callable[[Page, str], None]
) -> None:
    runs = quote(json.dumps(result.curves["mlflow_run_id"].tolist()))
    metric = f'metric="accuracy"&plot_metric_keys={quote(json.dumps(["accuracy"]))}&x_axis=step'
    page.goto(f"{ui}/#/metric?runs={runs}&experiments={quote(json.dumps(['1']))}&{metric}")
    for curve in result.curves.to_dict("records"):
        expect(page.get_by_text(f"{curve['dataset']} / {curve['strategy']} (accuracy)")).to_be_visible()
    expect(page.get_by_text(f"Comparing {len(result.curves)} Runs from 1 Experiment")).to_be_visible()
    take_picture(page, "mlflow-curves.png")


def test_a_trial_shows_its_plot_and_its_label_set(
    page: Page, ui: str, result: SweepResult, take_picture: Callable[[Page, str], None]
) -> None:
    trial = result.trials.query("dataset == 'shapes' and strategy == 'templates-fixed'").iloc[-1]
    name = f"{trial['dataset']} / {trial['strategy']} / s={trial['scale']:02d}"
    run = f"{ui}/#/experiments/1/runs/{trial['mlflow_run_id']}"
    page.goto(f"{run}/artifacts/categories.json")
    expect(page.get_by_role("heading", name=name)).to_be_visible()
    expect(page.locator("code")).to_contain_text('"Large circle"')
    page.get_by_text("confusion.png").first.click()
    picture = page.locator("img[src^='blob:']").filter(visible=True).first
    expect(picture).to_be_visible()
    assert picture.evaluate("image => image.naturalWidth") > 300
    take_picture(page, "mlflow-trial.png")


def test_the_filter_of_the_readme_finds_the_curves(page: Page, ui: str, result: SweepResult) -> None:
    page.goto(f"{ui}/#/experiments/1/runs?searchFilter={quote(FILTER)}")
    # the UI shows the parents of what it finds as well
    expect(page.get_by_text(f"{len(result.curves) + 1} matching runs")).to_be_visible()


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
