"""Tables and report of a finished study: written by the sweep, and read back for the report alone."""

from __future__ import annotations

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
from semscale.errors import SemscaleError, cannot_write, summarize
from semscale.redact import redact
from semscale.report.evidence import CategorySet, Evidence, RunTables
from semscale.report.page import write_report
from semscale.study.conclude import Conclusions
from semscale.study.encode import EncodedModel
from semscale.study.report_data import collect_report_data
from semscale.study.rundir import RunDirectory, study_file
from semscale.study.score import ScoredLadder
from semscale.text import package_version

_EVIDENCE = {name: name for name in ("flips", "thumbnails", "winners", "confusions")} | {"points": "map"}
# a report is no place for the texts of a thousand classes
_MOST_CLASSES = 25
_PACKAGES = ("numpy", "pandas", "scipy", "ray", "mlflow", "clip-client", "jina", "pillow", "pyarrow")
_OF_ENCODER = ("architecture", "weights_sha256", "embedding_dim", "dtype", "device", "logit_scale", "versions")
_NEEDED = ("trials", "curves", "steps")
# a study may have nothing for these
_OPTIONAL = ("controls", "across")


def write_results(
    directory: RunDirectory,
    trials: pd.DataFrame,
    found: Conclusions,
    scored: Sequence[ScoredLadder],
    encoded: Sequence[EncodedModel],
) -> list[str]:
    """Write the tables and the report; return the names of the files that MLflow keeps as well."""
    tables = {"trials.parquet": trials, **found.tables()}
    for name, table in (tables | collect_report_data(scored, encoded, found.curves)).items():
        directory.write_table(name, table)
    directory.write("environment.json", json.dumps(_environment_of(encoded), indent=1).encode())
    try:
        _write_page(directory.path, directory.study)
    except OSError as error:
        raise directory.unwritable(error) from error
    return ["study.yaml", *tables, "quarantine.csv", "environment.json", "report.html"]


def regenerate_report(where: str) -> Folder:
    """Write ``report.html`` of a finished run directory, also in an object store, again; return where it is."""
    marker = study_file(where)
    folder = Folder.of(where)
    for pattern in ("*.parquet", "*.json", "quarantine.csv", "ladders/*.json"):
        folder.pull(pattern)
    run = folder.local
    if missing := [f"{name}.parquet" for name in _NEEDED if not (run / f"{name}.parquet").is_file()]:
        resume = f"semscale sweep --resume {where}"
        raise SemscaleError("the run is not finished", where=str(folder), found=f"no {', '.join(missing)}", hint=resume)
    try:
        written = _write_page(run, load_study(marker))
    except OSError as error:
        raise cannot_write("the report", run, error, hint="free some space, or see to the folder's rights") from error
    folder.push(written.name)
    return folder / written.name


def _write_page(run: Path, study: StudyConfig) -> Path:
    """Write the report from the files of a run directory; a study may have nothing for some."""
    tables = RunTables(*(read_table(run / f"{table}.parquet") for table in (*_NEEDED, *_OPTIONAL)))
    ladders = [read_ladder(path) for path in (run / "ladders").glob(f"*__{study.orders[0]}.json")]
    evidence = Evidence(
        **{name: read_table(run / f"{file}.parquet") for name, file in _EVIDENCE.items()},
        quarantine=read_table(run / "quarantine.csv"),
        categories=[_category_set(one) for one in sorted(ladders, key=lambda one: (one.dataset, one.strategy))],
        environment=_read_environment(run / "environment.json", study),
    )
    return write_report(run, study.name, tables, evidence)


def read_table(path: Path) -> pd.DataFrame:
    """Read a table of a run; an empty one where there is no such file, SemscaleError if it cannot be read."""
    if not path.is_file():
        return pd.DataFrame()
    try:
        return pd.read_csv(path, dtype=str, keep_default_na=False) if path.suffix == ".csv" else pd.read_parquet(path)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> SemscaleError:
    hint = f"remove it and give: semscale sweep --resume {path.parent}"
    return SemscaleError("a table of the run cannot be read", where=str(path), found=summarize(error), hint=hint)


def _category_set(ladder: Ladder) -> CategorySet:
    texts = ladder.steps[-1].categories
    shown = {name: list(texts[name]) for name in ladder.classes[:_MOST_CLASSES]}
    return CategorySet(ladder.dataset, ladder.strategy, ladder.scales, shown, len(ladder.classes), ladder.notes)


def _read_environment(path: Path, study: StudyConfig) -> dict[str, Any]:
    """Read environment.json, and add what the study file says of servers and seeds."""
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


def _environment_of(encoded: Sequence[EncodedModel]) -> dict[str, Any]:
    """Return environment.json: nothing in it tells one run of the study from another, or names a machine."""
    models = {}
    for model in encoded:
        info = model.identity.info or {}
        known = {name: info[name] for name in _OF_ENCODER if info.get(name) is not None}
        models[model.identity.model] = {"encoder": model.identity.fingerprint, **known}
    return {
        "semscale": semscale.__version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "packages": {name: version for name in _PACKAGES if (version := package_version(name))},
        "models": models,
    }
