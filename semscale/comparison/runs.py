"""A finished run directory as it lies there, here or in an object store: its study, its tables, its surroundings."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pandas as pd
import pyarrow as pa

from semscale.config import StudyConfig, load_study
from semscale.encoding.folder import Folder
from semscale.errors import SemscaleError, summarize
from semscale.study.rundir import CURVE_KEY, study_file

# what a comparison reads of each table
_COLUMNS = {
    "trials": (*CURVE_KEY, "order", "scale", "n_correct"),
    "curves": (
        *CURVE_KEY, "role", "n_images", "n_orders", "baseline", "peak", "peak_scale", "peak_change", "critical_scale",
        "critical_low", "critical_high", "trend",
    ),
    "steps": (*CURVE_KEY, "scale", "accuracy", "ci_low", "ci_high", "change_band_low", "change_band_high"),
}  # fmt: skip


@dataclass(frozen=True)
class FinishedRun:
    """What a sweep has left.

    Attributes:
        letter: A, B, ...: what the comparison calls it.
        folder: its directory.
        study: the study as resolved.
        environment: environment.json; empty where there is none.
        trials, curves, steps: its tables.
    """

    letter: str
    folder: Folder
    study: StudyConfig
    environment: dict[str, Any]
    trials: pd.DataFrame
    curves: pd.DataFrame
    steps: pd.DataFrame


def read_run(where: str, letter: str) -> FinishedRun:
    """Read a run directory.

    Args:
        where: the directory, also in an object store.
        letter: what to call it.

    Raises:
        SemscaleError: not a run directory, an unfinished run, or tables that cannot be read or are of another format.
    """
    marker = study_file(where)
    folder = Folder.of(where)
    for name in (*(f"{name}.parquet" for name in _COLUMNS), "environment.json"):
        folder.pull_again(name)  # a copy may be of before the last sweep
    missing = [name for name in _COLUMNS if not (folder.local / f"{name}.parquet").is_file()]
    if missing:
        raise SemscaleError(
            "the run is not finished",
            where=str(folder),
            found="no " + ", ".join(f"{name}.parquet" for name in missing),
            hint=f"semscale sweep --resume {where}",
        )
    study = load_study(marker)
    tables = {name: _table(folder, name, study) for name in _COLUMNS}
    return FinishedRun(letter, folder, study, _environment(folder), **tables)


def read_parquet(folder: Folder, name: str) -> pd.DataFrame:
    """Read a table of a run that is here.

    Raises:
        SemscaleError: it cannot be read.
    """
    try:
        return pd.read_parquet(folder.local / name)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise SemscaleError(
            "a table of the run cannot be read",
            where=f"{folder}/{name}",
            found=summarize(error),
            hint=f"remove it and give: semscale sweep --resume {folder}",
        ) from error


def _table(folder: Folder, name: str, study: StudyConfig) -> pd.DataFrame:
    table = read_parquet(folder, f"{name}.parquet")
    if "aggregation" not in table:  # of a semscale that knew one per study
        table["aggregation"] = study.aggregations[0]
    lacking = [column for column in _COLUMNS[name] if column not in table]
    if lacking:
        raise SemscaleError(
            "a table of the run is of another format",
            where=f"{folder}/{name}.parquet",
            found=f"no column {', '.join(lacking)}",
            hint="run the study again with this version of semscale; what is encoded stays in the store",
        )
    return table


def _environment(folder: Folder) -> dict[str, Any]:
    path = folder.local / "environment.json"
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SemscaleError("environment.json cannot be read", where=str(folder), found=str(error)) from error
    return dict(found) if isinstance(found, dict) else {}
