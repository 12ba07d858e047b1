"""Tables and report of a finished study: written by the sweep, read again to regenerate the report."""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

import semscale
from semscale.categories.ladder import Ladder
from semscale.categories.ladder_files import read_ladder
from semscale.common.errors import write_error
from semscale.common.progress import ProgressReporter
from semscale.common.redact import mask_url
from semscale.common.text import counted, package_version
from semscale.config import StudyConfig
from semscale.report.evidence import CategorySet, Evidence, RunTables
from semscale.report.page import write_report
from semscale.store.mirrored_directory import MirroredDirectory
from semscale.study.conclusion_stage import Conclusions
from semscale.study.encoding_stage import EncodedModel
from semscale.study.report_data import collect_report_data
from semscale.study.run_directory import RunDirectory, finished_run, read_environment, read_table
from semscale.study.scoring_stage import ScoredLadder

_EVIDENCE = {name: name for name in ("flips", "thumbnails", "winners", "confusions")} | {"points": "map"}
# classes whose texts are in the report
_MAX_CLASSES = 25
_PACKAGES = ("numpy", "pandas", "scipy", "ray", "mlflow", "clip-client", "jina", "pillow", "pyarrow")
_ENCODER_INFO = ("architecture", "weights_sha256", "embedding_dim", "dtype", "device", "logit_scale", "versions")
_REQUIRED = ("trials", "curves", "steps")
# empty in some studies
_OPTIONAL = ("controls", "across")


def write_results(
    directory: RunDirectory,
    trials: pd.DataFrame,
    conclusions: Conclusions,
    scored: Sequence[ScoredLadder],
    encoded: Sequence[EncodedModel],
    report: ProgressReporter,
) -> list[str]:
    """Write the tables and the report; return the names of the files to log as artifacts of the study run."""
    tables = {"trials.parquet": trials, **conclusions.tables()}
    for name, table in (tables | collect_report_data(scored, encoded, conclusions.curves, report)).items():
        directory.write_table(name, table)
    directory.write("environment.json", json.dumps(_environment(encoded), indent=1).encode())
    files = ["study.yaml", *tables, "quarantine.csv", "environment.json"]
    with report.optional(f"report.html (`semscale report {directory.folder}` writes it)"):
        _write_page(directory.folder, directory.study)
        files.append("report.html")
    return files


def regenerate_report(run: str) -> MirroredDirectory:
    """Rewrite ``report.html`` of a finished run directory, local or in an object store; return its location."""
    folder, study = finished_run(run, _REQUIRED)
    for pattern in ("*.parquet", "quarantine.csv", "ladders/*.json"):
        folder.pull_missing(pattern)
    try:
        written = _write_page(folder, study)
    except OSError as error:
        hint = "free some space, or check the folder's permissions"
        raise write_error("the report", folder.local, error, hint=hint) from error
    folder.push(written.name)
    return folder / written.name


def _write_page(run: MirroredDirectory, study: StudyConfig) -> Path:
    """Write the report from the files of a run directory."""
    tables = RunTables(*(read_table(run, f"{table}.parquet") for table in (*_REQUIRED, *_OPTIONAL)))
    ladders = [read_ladder(path) for path in (run.local / "ladders").glob(f"*__{study.orders[0]}.json")]
    evidence = Evidence(
        **{name: read_table(run, f"{file}.parquet") for name, file in _EVIDENCE.items()},
        quarantine=read_table(run, "quarantine.csv"),
        categories=[_category_set(one) for one in sorted(ladders, key=lambda one: (one.dataset, one.strategy))],
        environment=_report_environment(run, study),
    )
    return write_report(run.local, study.name, tables, evidence)


def _category_set(ladder: Ladder) -> CategorySet:
    texts = ladder.steps[-1].categories
    shown = {name: list(texts[name]) for name in ladder.classes[:_MAX_CLASSES]}
    return CategorySet(ladder.dataset, ladder.strategy, ladder.scales, shown, len(ladder.classes), ladder.notes)


def _report_environment(run: MirroredDirectory, study: StudyConfig) -> dict[str, Any]:
    """Return environment.json with the servers, orders, margin and seeds of the study file."""
    server = study.server
    started = f"{counted(server.replicas, 'replicas')} on {server.device}, started by the sweep"
    seeds = {config.name or config.spec: config.seed for config in study.datasets if config.limit or config.per_class}
    return read_environment(run) | {
        "servers": [mask_url(url) for url in server.urls] or [started],
        "orders": list(study.orders),
        "margin": study.margin,
        "seeds": {mask_url(str(name)): seed for name, seed in seeds.items()},
    }


def _environment(encoded: Sequence[EncodedModel]) -> dict[str, Any]:
    """Return environment.json: equal for repeated runs of a study, without names of machines."""
    models = {}
    for model in encoded:
        info = model.identity.info or {}
        details = {name: info[name] for name in _ENCODER_INFO if info.get(name) is not None}
        models[model.identity.model] = {"encoder": model.identity.fingerprint, **details}
    return {
        "semscale": semscale.__version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "packages": {name: version for name in _PACKAGES if (version := package_version(name))},
        "models": models,
    }
