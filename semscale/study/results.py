"""The tables and the report of a finished study: written by the sweep, and read back for the report alone."""

from __future__ import annotations

import importlib.metadata
import json
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

import semscale
from semscale.categories.files import read_ladder
from semscale.categories.ladder import Ladder
from semscale.config import StudyConfig, load_study
from semscale.encoding.folder import Folder
from semscale.errors import SemscaleError, cannot_write
from semscale.redact import redact
from semscale.report.evidence import CategorySet, Evidence
from semscale.report.page import write_report
from semscale.study.conclude import Conclusions
from semscale.study.encode import EncodedModel
from semscale.study.report_data import collect_report_data
from semscale.study.rundir import RunDirectory, study_file
from semscale.study.score import ScoredLadder

_EVIDENCE = ("flips", "thumbnails", "winners", "confusions", "points")
_FILES = {"points": "map"}

# a report is no place for the texts of a thousand classes
_MOST_CLASSES = 25
_PACKAGES = ("numpy", "pandas", "scipy", "ray", "mlflow", "clip-client", "jina", "pillow", "pyarrow")
_OF_ENCODER = ("architecture", "weights_sha256", "embedding_dim", "dtype", "device", "logit_scale", "versions")
_NEEDED = ("trials", "curves", "steps")
# a study may have nothing for these
_OPTIONAL = ("controls", "across")
_BESIDE = ("*.parquet", "*.json", "quarantine.csv", "ladders/*.json")


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
    evidence = collect_report_data(scored, encoded, found.curves)
    for name, table in (tables | evidence).items():
        directory.write_table(name, table)
    directory.write("environment.json", json.dumps(_environment_of(encoded), indent=1).encode())
    ladders = {(one.dataset, one.strategy): one.ladder for one in scored if one.order == study.orders[0]}
    read = read_evidence(directory.path, study, list(ladders.values()))
    try:
        write_report(directory.path, study.name, trials, found.curves, found.steps, found.controls, found.across, read)
    except OSError as error:
        raise directory.unwritable(error) from error
    return ["study.yaml", *tables, "quarantine.csv", "environment.json", "report.html"]


def regenerate_report(where: str) -> Folder:
    """Write ``report.html`` of a finished run again, as this version of semscale writes it.

    Args:
        where: the run directory, also in an object store.

    Returns:
        Where the file is.

    Raises:
        SemscaleError: not a run directory, an unfinished run, or a table that cannot be read.
    """
    marker = study_file(where)
    folder = Folder.of(where)
    for pattern in _BESIDE:
        folder.pull(pattern)
    run = folder.local
    missing = [name for name in _NEEDED if not (run / f"{name}.parquet").is_file()]
    if missing:
        raise SemscaleError(
            "the run is not finished",
            where=str(folder),
            found="no " + ", ".join(f"{name}.parquet" for name in missing),
            hint=f"semscale sweep --resume {where}",
        )
    study = load_study(marker)
    tables = [read_table(run / f"{table}.parquet") for table in (*_NEEDED, *_OPTIONAL)]
    trials, curves, steps, controls, across = tables
    evidence = read_evidence(run, study)
    try:
        written = write_report(run, study.name, trials, curves, steps, controls, across, evidence)
    except OSError as error:
        raise cannot_write("the report", run, error, hint="free some space, or see to the folder's rights") from error
    folder.push(written.name)
    return folder / written.name


def read_evidence(run: Path, study: StudyConfig, ladders: Sequence[Ladder] | None = None) -> Evidence:
    """Read what the report shows beside the tables of numbers; a study may have nothing for some.

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


def _environment_of(encoded: Sequence[EncodedModel]) -> dict[str, Any]:
    """Return environment.json: nothing in it tells one occasion from another, or names a machine."""
    models: dict[str, dict[str, Any]] = {}
    for one in encoded:
        info = one.identity.info or {}
        models[one.identity.model] = {
            "encoder": one.identity.fingerprint,
            **{name: info[name] for name in _OF_ENCODER if info.get(name) is not None},
        }
    return {
        "semscale": semscale.__version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "packages": {name: found for name in _PACKAGES if (found := _version(name))},
        "models": models,
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
