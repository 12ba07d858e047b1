"""Run directory: the tables and files of a study's results, each written atomically."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from semscale.common.environment import RAY_JOB_VARIABLE
from semscale.common.errors import SemscaleError, summarize, write_error
from semscale.common.files import atomic_write, open_regular_file, try_lock
from semscale.config import StudyConfig, load_study
from semscale.report.headlines import CURVE_KEY
from semscale.store.mirrored_directory import MirroredDirectory

# key columns of a scored ladder; with `scale`, of a trial
LADDER_KEY = ("dataset", "model", "strategy", "order", "aggregation")

_MAX_TEXT_BYTES = 20_000


def with_key(table: pd.DataFrame, curve: tuple[str, ...], **more: object) -> pd.DataFrame:
    """Return rows of a curve with its key columns, and further constant columns, in front."""
    columns: dict[str, Any] = {**dict(zip(CURVE_KEY, curve, strict=True)), **more}
    return table.assign(**columns)[[*columns, *table.columns]]


def concatenate(tables: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """Return the rows of all tables; an empty table if there are none."""
    filled = [table for table in tables if len(table)]
    return pd.concat(filled, ignore_index=True) if filled else pd.DataFrame()


def run_directory_for(
    study: StudyConfig, out: str | Path | MirroredDirectory | None = None, runs: str | None = None
) -> MirroredDirectory:
    """Return the run directory `out`; by default a folder below `runs` that depends on the study alone.

    The default of `runs` is ``SEMSCALE_RUNS``, or ``semscale-runs`` in the working directory; for a Ray job in the home
    directory, since a job's working directory is deleted with the job.
    """
    if out is not None:
        return MirroredDirectory.of(out)
    parent = Path.home() if RAY_JOB_VARIABLE in os.environ else Path()
    runs = runs or os.environ.get("SEMSCALE_RUNS") or str(parent / "semscale-runs")
    return MirroredDirectory.of(runs) / f"{study.name}-{study.digest()}"


class RunDirectory(AbstractContextManager["RunDirectory"]):
    """Files of a study's results, in `folder` and on this machine in `path`, locked against other processes."""

    def __init__(self, folder: Path | MirroredDirectory, study: StudyConfig) -> None:
        self.folder = MirroredDirectory.of(folder)
        self.path, self.study, self.n_quarantined = self.folder.local, study, 0
        self._quarantine: list[tuple[str, str, str]] = []
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = (self.path / ".lock").open("ab")
            try:
                self._take_over()
            except BaseException:
                self._lock.close()
                raise
        except OSError as error:
            raise self._write_error(error) from error

    def __exit__(self, *error: object) -> None:
        self._lock.close()

    def _take_over(self) -> None:
        """Lock the folder, check that it belongs to this study, and remove the leftovers of killed processes."""
        if not try_lock(self._lock):
            hint = "wait until it is done and run the same command again, or choose another --out"
            raise SemscaleError("another sweep is writing into this run directory", where=str(self.folder), hint=hint)
        mark = f"study {self.study.digest()}"
        self.folder.pull_missing("study.yaml")
        marker = self.path / "study.yaml"
        found = marker.read_text(encoding="utf-8").partition("\n")[0] if marker.exists() else mark
        if mark not in found:
            what, hint = "the run directory belongs to another study", "choose another --out, or remove the directory"
            found = found.removeprefix("# ").partition(":")[0]
            raise SemscaleError(what, where=str(self.folder), found=found, expected=mark, hint=hint)
        for partial in self.path.rglob("*.partial"):
            partial.unlink(missing_ok=True)
        for folder in self.path.glob(".tune-*"):
            shutil.rmtree(folder, ignore_errors=True)
        heading = f"# {mark}: a resolved study file; `semscale sweep study.yaml` repeats it\n"
        self.write("study.yaml", (heading + self.study.to_yaml()).encode())

    def _write_error(self, error: OSError) -> SemscaleError:
        """Return the error for a file of the run directory that cannot be written."""
        hint = "free some space, or choose another --out; the same command continues from what is stored"
        return write_error("the run directory", self.path, error, hint=hint)

    def write(self, name: str, content: bytes) -> None:
        """Write a file of the run directory atomically, and push it to an object store."""
        try:
            with atomic_write(self.path / name) as partial:
                partial.write_bytes(content)
        except OSError as error:
            raise self._write_error(error) from error
        self.folder.push(name)

    def push(self, name: str) -> bytes:
        """Push a file that exists in :attr:`path` to an object store, and return its content."""
        self.folder.push(name)
        return (self.path / name).read_bytes()

    def write_table(self, name: str, table: pd.DataFrame) -> None:
        """Write a table as Parquet."""
        self.write(name, table.to_parquet(index=False))

    def quarantine(self, dataset: str, reasons: Mapping[str, str]) -> None:
        """Record unusable images, file -> reason; a file with several reasons counts once."""
        self._quarantine += [(dataset, file, reason) for file, reason in reasons.items()]
        self.n_quarantined = len({row[:2] for row in self._quarantine})
        table = pd.DataFrame(self._quarantine, columns=["dataset", "file", "reason"]).drop_duplicates()
        self.write("quarantine.csv", table.to_csv(index=False).encode())


def study_file(run: str) -> Path:
    """Return the local study file of a run directory, which may be in an object store; SemscaleError if none exists."""
    folder = MirroredDirectory.of(run)
    folder.pull_missing("study.yaml")
    file = folder.local / "study.yaml"
    if not file.is_file():
        found = "no study.yaml in it" if folder.is_remote or folder.local.is_dir() else "no such folder"
        expected = "the directory that a sweep printed as its results"
        raise SemscaleError("not a run directory", where=str(folder), found=found, expected=expected)
    return file


def finished_run(run: str, tables: Iterable[str]) -> tuple[MirroredDirectory, StudyConfig]:
    """Return the folder and the study of a run directory that has these tables; remote files are copied."""
    marker, folder = study_file(run), MirroredDirectory.of(run)
    files = [f"{name}.parquet" for name in tables]
    for name in (*files, "environment.json"):
        folder.pull(name)  # an earlier copy may be stale
    if missing := [name for name in files if not (folder.local / name).is_file()]:
        resume = f"semscale sweep --resume {run}"
        raise SemscaleError("the run is not finished", where=str(folder), found=f"no {', '.join(missing)}", hint=resume)
    return folder, load_study(marker)


def read_parquet(path: Path) -> pd.DataFrame:
    """Return a table; OSError or ValueError if it cannot be read, or if it has texts that would fill the memory.

    A file stores a text that is repeated in millions of rows only once.
    """
    open_regular_file(path).close()
    with pq.ParquetFile(path) as file:
        schema = file.schema_arrow
    texts = [field.name for field in schema if pa.types.is_string(field.type) or pa.types.is_large_string(field.type)]
    with pq.ParquetFile(path, read_dictionary=texts) as file:
        table = file.read()
    for name, column in zip(table.column_names, table.columns, strict=True):
        for chunk in column.chunks if name in texts else ():
            if (length := pc.max(pc.binary_length(chunk.dictionary)).as_py() or 0) > _MAX_TEXT_BYTES:
                raise ValueError(f"a text of {length:,} bytes in the column {name}")
    read: pd.DataFrame = table.cast(schema).to_pandas()
    return read


def read_table(folder: MirroredDirectory, name: str, columns: Sequence[str] = ()) -> pd.DataFrame:
    """Return a table of a run, checked for these columns; an empty table if the file does not exist."""
    path = folder.local / name
    table = pd.DataFrame()
    if path.is_file():
        try:
            csv = path.suffix == ".csv"
            table = pd.read_csv(path, dtype=str, keep_default_na=False) if csv else read_parquet(path)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise _unreadable("cannot be read", folder, name, summarize(error)) from error
    if missing := [column for column in columns if column not in table]:
        raise _unreadable("has another format", folder, name, f"no column {', '.join(missing)}")
    return table


def read_environment(folder: MirroredDirectory) -> dict[str, Any]:
    """Return environment.json of a run; empty if it does not exist."""
    path = folder.local / "environment.json"
    try:
        return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}
    except (OSError, ValueError, TypeError) as error:
        raise _unreadable("cannot be read", folder, path.name, summarize(error)) from error


def _unreadable(what: str, folder: MirroredDirectory, name: str, found: str) -> SemscaleError:
    hint = f"remove it and run: semscale sweep --resume {folder}"
    return SemscaleError(f"a table of the run {what}", where=f"{folder}/{name}", found=found, hint=hint)
