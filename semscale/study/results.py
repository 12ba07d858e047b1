"""The tables and the report of a finished study: written by the sweep, and read back for the report alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from semscale.categories.files import read_ladder
from semscale.categories.ladder import Ladder
from semscale.config import StudyConfig
from semscale.errors import SemscaleError
from semscale.redact import redact
from semscale.report.evidence import CategorySet, Evidence
from semscale.report.page import write_report
from semscale.study.conclude import Conclusions
from semscale.study.encode import EncodedModel
from semscale.study.environment import environment_of
from semscale.study.evidence import collect_evidence
from semscale.study.rundir import RunDirectory
from semscale.study.score import ScoredLadder

_EVIDENCE = ("flips", "thumbnails", "winners", "confusions", "points")
_FILES = {"points": "map"}

# a report is no place for the texts of a thousand classes
_MOST_CLASSES = 25


def write_results(
    study: StudyConfig,
    directory: RunDirectory,
    trials: pd.DataFrame,
    found: Conclusions,
    scored: Sequence[ScoredLadder],
    encoded: Sequence[EncodedModel],
) -> list[str]:
    """Write the tables and the report; return the names of the files that MLflow keeps as well."""
    tables = {"trials.parquet": trials, **found.tables()}
    evidence = collect_evidence(scored, encoded, found.curves)
    for name in ("flips", "thumbnails", "winners", "confusions", "map"):
        if f"{name}.parquet" not in evidence:  # what an earlier semscale may have left there
            (directory.path / f"{name}.parquet").unlink(missing_ok=True)
    for name, table in (tables | evidence).items():
        directory.write_table(name, table)
    directory.write("environment.json", json.dumps(environment_of(encoded), indent=1).encode())
    ladders = {(one.dataset, one.strategy): one.ladder for one in scored if one.order == study.orders[0]}
    read = read_evidence(directory.path, study, list(ladders.values()))
    try:
        write_report(directory.path, study.name, trials, found.curves, found.steps, found.controls, found.across, read)
    except OSError as error:
        raise directory.unwritable(error) from error
    return ["study.yaml", *tables, "quarantine.csv", "environment.json", "report.html"]


def read_evidence(run: Path, study: StudyConfig, ladders: Sequence[Ladder] | None = None) -> Evidence:
    """Read what the report shows beside the tables of numbers; what an older run has not is empty.

    Args:
        run: the run directory.
        study: its study.
        ladders: those of the first order; read from their files unless given, which takes a while with many classes.

    Raises:
        SemscaleError: a file cannot be read.
    """
    tables = {name: read_table(run / f"{_FILES.get(name, name)}.parquet") for name in _EVIDENCE}
    return Evidence(
        **tables,
        quarantine=read_table(run / "quarantine.csv"),
        categories=_category_sets(_ladders(run, study) if ladders is None else ladders),
        environment=_environment(run / "environment.json", study),
    )


def read_table(path: Path) -> pd.DataFrame:
    """Read a table of a run; an empty one where there is no such file.

    Raises:
        SemscaleError: it cannot be read.
    """
    if not path.is_file():
        return pd.DataFrame()
    try:
        return pd.read_csv(path, dtype=str, keep_default_na=False) if path.suffix == ".csv" else pd.read_parquet(path)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _unreadable(path, error) from error


def _environment(path: Path, study: StudyConfig) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if path.is_file():
        try:
            found = dict(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise _unreadable(path, error) from error
    server = study.server
    own = f"{server.replicas} replicas on {server.device}, started by the sweep"
    seeds = {config.name or config.spec: config.seed for config in study.datasets if config.limit or config.per_class}
    return found | {
        "servers": [redact(url) for url in server.urls] or [own],
        "orders": list(study.orders),
        "margin": study.margin,
        "seeds": {redact(str(name)): seed for name, seed in seeds.items()},
    }


def _ladders(run: Path, study: StudyConfig) -> list[Ladder]:
    return [read_ladder(path) for path in (run / "ladders").glob(f"*__{study.orders[0]}.json")]


def _category_sets(ladders: Sequence[Ladder]) -> list[CategorySet]:
    sets = []
    for ladder in sorted(ladders, key=lambda one: (one.dataset, one.strategy)):
        last = ladder.steps[-1].categories
        shown = {name: list(last[name]) for name in ladder.classes[:_MOST_CLASSES]}
        sets.append(
            CategorySet(ladder.dataset, ladder.strategy, ladder.scales, shown, len(ladder.classes), ladder.notes)
        )
    return sets


def _unreadable(path: Path, error: Exception) -> SemscaleError:
    return SemscaleError(
        "a table of the run cannot be read",
        where=str(path),
        found=str(error).splitlines()[0],
        hint=f"remove it and give: semscale sweep --resume {path.parent}",
    )
