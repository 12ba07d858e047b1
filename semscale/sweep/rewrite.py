"""The report of a run directory again, from its tables alone."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow as pa

from semscale.config import load_study
from semscale.encoding.folder import Folder
from semscale.errors import SemscaleError, cannot_write
from semscale.report.page import write_report
from semscale.sweep.rundir import study_file

_NEEDED = ("trials", "curves", "steps")
# a study may have nothing for these
_OPTIONAL = ("controls", "across")


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
    folder.pull("*.parquet")
    run = folder.local
    missing = [name for name in _NEEDED if not (run / f"{name}.parquet").is_file()]
    if missing:
        raise SemscaleError(
            "the run is not finished",
            where=str(folder),
            found="no " + ", ".join(f"{name}.parquet" for name in missing),
            hint=f"semscale sweep --resume {where}",
        )
    name = load_study(marker).name
    tables = {table: _read(run / f"{table}.parquet") for table in (*_NEEDED, *_OPTIONAL)}
    try:
        written = write_report(run, name, *(tables[table] for table in (*_NEEDED, *_OPTIONAL)))
    except OSError as error:
        raise cannot_write("the report", run, error, hint="free some space, or see to the folder's rights") from error
    folder.push(written.name)
    return folder / written.name


def _read(path: Path) -> pd.DataFrame:
    if not path.is_file():
        return pd.DataFrame()
    try:
        return pd.read_parquet(path)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise SemscaleError(
            "a table of the run cannot be read",
            where=str(path),
            found=str(error).splitlines()[0],
            hint=f"remove it and give: semscale sweep --resume {path.parent}",
        ) from error
