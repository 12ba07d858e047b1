"""The report of a run directory again, from its tables alone."""

from __future__ import annotations

from semscale.config import load_study
from semscale.encoding.folder import Folder
from semscale.errors import SemscaleError, cannot_write
from semscale.report.page import write_report
from semscale.study.results import read_evidence, read_table
from semscale.study.rundir import study_file

_NEEDED = ("trials", "curves", "steps")
# a study may have nothing for these
_OPTIONAL = ("controls", "across")
_BESIDE = ("*.parquet", "*.json", "quarantine.csv", "ladders/*.json")


def rewrite_report(where: str) -> Folder:
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
    for table in tables:
        if len(table) and "aggregation" not in table:  # of a semscale that knew one per study
            table["aggregation"] = study.aggregations[0]
    trials, curves, steps, controls, across = tables
    evidence = read_evidence(run, study)
    try:
        written = write_report(run, study.name, trials, curves, steps, controls, across, evidence)
    except OSError as error:
        raise cannot_write("the report", run, error, hint="free some space, or see to the folder's rights") from error
    folder.push(written.name)
    return folder / written.name
