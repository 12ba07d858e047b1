"""Filters of the page, of the descriptions and of the UI, in a real store: each finds the runs that it promises."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from semscale.report.headlines import Headline
from semscale.tracking import descriptions, run_contents
from semscale.tracking.idempotent_runs import DatasetUsed, create_run
from semscale.tracking.run_contents import CurveRecord, TrialRecord
from semscale.tracking.tracking_store import TrackingStore

PAGE = (Path(run_contents.__file__).parent / "README.md").read_text(encoding="utf-8")
FILTERS = dict(re.findall(r"^\| ([^|`]+) \| `(\w+\.[^`]+)` \|$", PAGE, flags=re.MULTILINE))
EXPECTED = {
    "the curves of one dataset": {"digits-templates", "digits-duplicates"},
    "the trials of one strategy from scale 4 on": {"digits-templates-4", "digits-templates-12"},
    "the curves that gain": {"digits-templates"},
    "the curves with a peak of at least 90 %": {"digits-templates"},
    "the trials that use a dataset": {f"digits-templates-{scale}" for scale in (1, 4, 12)},
    "incomplete runs": {"unfinished"},
}


def _row(strategy: str, **values: Any) -> dict[str, Any]:
    names = (*run_contents._TRIAL_METRICS, *run_contents._CURVE_METRICS, *run_contents._STEP_METRICS, "gained", "lost")
    key = {"dataset": "digits", "model": "m", "strategy": strategy, "aggregation": "max", "order": 0, "trend": "flat"}
    counts = {"n_categories": 10, "n_images": 10, "n_classes": 10, "n_orders": 1, "best_form": "flat"}
    return dict.fromkeys(names, 0.5) | key | counts | values


@pytest.fixture
def filled(store: TrackingStore) -> TrackingStore:
    """A study of two curves, one of them with trials and a gain, and a run that was interrupted."""
    client, dataset = store.client(), DatasetUsed("digits", "ab" * 32, "bundled", "digits", 896, 10)
    study = run_contents.start_study_run(client, store, "study", "study")
    for strategy, role, verdict, peak in (
        ("templates", "strategy", "up", 0.95),
        ("duplicates", "control", "none", 0.5),
    ):
        name, row = f"digits-{strategy}", _row(strategy, role=role, peak=peak)
        run = run_contents.start_curve_run(client, study, name, name, row, dataset)
        rows = [_row(strategy, scale=scale) for scale in (1, 4, 12)]
        for trial in rows if verdict == "up" else ():
            title = f"{name}-{trial['scale']}"
            record = TrialRecord(title, run.info.run_id, title, trial, {}, {}, dataset)
            run_contents.record_trial(client, store, "study", record)
        table = pd.DataFrame(rows)
        run_contents.finish_curve_run(client, run, CurveRecord(row, table, table, Headline(name, verdict, "+1", "")))
    run_contents.finish_study_run(client, study, run_contents.RunContent(), [dataset])
    create_run(client, store.experiment_id, "unfinished", name="unfinished", tags={"kind": "curve"})
    return store


def test_every_filter_of_the_page_finds_its_runs(filled: TrackingStore) -> None:
    client = filled.client()
    runs = {title: client.search_runs([filled.experiment_id], text) for title, text in FILTERS.items()}
    assert {title: {run.info.run_name for run in found} for title, found in runs.items()} == EXPECTED


def test_the_filters_of_the_experiment_are_on_the_page() -> None:
    filters = descriptions.CURVES_OF_A_DATASET, descriptions.TRIALS_OF_A_STRATEGY, descriptions.CURVES_THAT_GAIN
    assert set(filters) <= set(FILTERS.values())


def test_the_page_names_everything_that_is_logged(filled: TrackingStore) -> None:
    runs = filled.client().search_runs([filled.experiment_id])
    logged = {name for run in runs for data in (run.data.tags, run.data.params, run.data.metrics) for name in data}
    assert not [name for name in logged if not name.startswith("mlflow.") and f"`{name}`" not in PAGE]
