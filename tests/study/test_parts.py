"""Stages of a study run separately: encoding ahead, a study from the store alone, the regenerated report."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from click.testing import CliRunner, Result

from semscale.cli import main
from semscale.common.errors import SemscaleError
from semscale.common.progress import SilentReporter
from semscale.config import StudyConfig, study_from
from semscale.study.encoding_stage import EncodeResult, encode_study
from semscale.study.pipeline import SweepResult, run_directory_for, sweep
from semscale.study.result_tables import regenerate_report

Studies = Callable[..., StudyConfig]


@dataclass
class Parts:
    """A study whose parts were run one after the other in one run directory."""

    study: StudyConfig
    run: Path
    filled: EncodeResult
    scored: SweepResult


def make_study(url: str, store: Path, **changes: Any) -> StudyConfig:
    tree = {"datasets": ["shapes"], "controls": ["duplicates"], "steps": 3, "limit": 60, "store": str(store)}
    return study_from(tree | {"server": {"urls": [url]} if url else {}} | changes)


@pytest.fixture(scope="module")
def parts(mini_server: str, ray_session: None, tmp_path_factory: pytest.TempPathFactory) -> Parts:
    folder = tmp_path_factory.mktemp("parts")
    study = make_study(mini_server, folder / "store")
    run = folder / "runs" / "parts"
    filled = encode_study(study, run, SilentReporter())
    # no server listens on this port
    nowhere = make_study("grpc://127.0.0.1:1", folder / "store")
    return Parts(study, run, filled, sweep(nowhere, run, SilentReporter(), stored=True))


def test_store_is_filled_and_nothing_else_is_done(parts: Parts) -> None:
    assert (parts.filled.images_sent, parts.filled.quarantined) == (60, 0)
    assert parts.filled.texts_sent > 0
    assert parts.filled.work[["images", "texts"]].sum().tolist() == [60, parts.filled.texts_sent]
    assert len(list((parts.run / "ladders").iterdir())) == 3
    assert (parts.run / "logs" / "encoding.csv").exists()


def test_study_from_the_store_alone_is_the_study(parts: Parts, mini_server: str, tmp_path: Path) -> None:
    assert (parts.scored.images_sent, parts.scored.texts_sent) == (0, 0)
    whole = sweep(make_study(mini_server, tmp_path / "store"), parts.run.parent / "whole", SilentReporter())
    pd.testing.assert_frame_equal(
        whole.trials.drop(columns="mlflow_run_id"), parts.scored.trials.drop(columns="mlflow_run_id"), check_exact=True
    )
    for path in (parts.run / "predictions").iterdir():
        assert path.read_bytes() == (whole.directory / "predictions" / path.name).read_bytes()


@pytest.mark.parametrize(
    ("changes", "what", "found"),
    [
        ({"limit": 61}, "lacks images of shapes", "1 of 61 are not in it: 'shapes/"),
        ({"steps": 4}, "lacks category texts", "are not in it: 'Large circles'"),
        ({"models": ["ViT-B-32::laion2b_s34b_b79k"]}, "has no rows of this model", None),
    ],
)
@pytest.mark.usefixtures("ray_session")
def test_what_the_store_lacks_is_named(parts: Parts, changes: dict[str, Any], what: str, found: str | None) -> None:
    assert parts.study.store
    study = make_study("", Path(parts.study.store), **changes)
    run = parts.run.parent / study.digest()
    with pytest.raises(SemscaleError, match=what) as error:
        sweep(study, run, SilentReporter(), stored=True)
    assert found is None or found in str(error.value)
    assert "semscale encode" in str(error.value)
    assert not (run / "logs").exists()  # no server was started


def test_report_is_the_same_again(parts: Parts) -> None:
    first = (parts.run / "report.html").read_bytes()
    (parts.run / "report.html").unlink()
    assert regenerate_report(str(parts.run)).local.read_bytes() == first


def test_report_of_an_unfinished_run_is_refused(parts: Parts, tmp_path: Path) -> None:
    def report(run: Path) -> Result:
        return CliRunner().invoke(main, ["report", str(run)])

    assert "no such folder" in report(tmp_path / "nowhere").stderr
    assert "no study.yaml in it" in report(tmp_path).stderr
    (tmp_path / "study.yaml").write_text((parts.run / "study.yaml").read_text())
    unfinished = report(tmp_path)
    assert "no trials.parquet, curves.parquet, steps.parquet" in unfinished.stderr
    assert "semscale sweep --resume" in unfinished.stderr
    for path in parts.run.glob("*.parquet"):
        (tmp_path / path.name).write_bytes(path.read_bytes()[:100])
    assert "a table of the run cannot be read" in report(tmp_path).stderr


def test_runs_outlive_a_job(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    study = study_from({"name": "one"})
    name = f"one-{study.digest()}"
    monkeypatch.delenv("SEMSCALE_RUNS", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert run_directory_for(study).local == Path.cwd() / "semscale-runs" / name
    assert str(run_directory_for(study)) == f"semscale-runs/{name}"
    # as Ray sets it in a job, whose working directory is a copy that goes with it
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    assert run_directory_for(study).local == tmp_path / "semscale-runs" / name
    monkeypatch.setenv("SEMSCALE_RUNS", "~/shared")
    assert run_directory_for(study).local == tmp_path / "shared" / name
    assert run_directory_for(study, runs=str(tmp_path / "given")).local == tmp_path / "given" / name
