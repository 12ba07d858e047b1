"""The result files of a run directory, to be compared bit for bit."""

from __future__ import annotations

from pathlib import Path

import pandas as pd


def results_of(run: Path) -> dict[str, object]:
    """Return every result file: tables without the ids of MLflow's runs, the others as bytes."""
    found: dict[str, object] = {}
    for path in sorted(run.rglob("*")):
        name = path.relative_to(run).as_posix()
        # the report names the folder; study.yaml names the servers
        if not path.is_file() or name.startswith("logs") or name in ("report.html", "study.yaml", ".lock"):
            continue
        if path.suffix != ".parquet":
            found[name] = path.read_bytes()
            continue
        table = pd.read_parquet(path)
        # floats as their shortest exact text: equal text is equal bits
        found[name] = table.drop(columns=[column for column in table if "run_id" in column]).to_csv()
    assert {"trials.parquet", "curves.parquet", "quarantine.csv"} <= set(found)
    assert any(name.startswith("predictions/") for name in found)
    return found
