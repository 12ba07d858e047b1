"""The run directory: the files that others can read, each written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import pandas as pd

from semscale.categories.ladder import Ladder
from semscale.config import StudyConfig
from semscale.encoding.folder import Folder
from semscale.errors import SemscaleError, cannot_write
from semscale.files import take_lock

# what identifies a curve; with `order` a scored ladder, and with `scale` a trial
CURVE_KEY = ("dataset", "model", "strategy", "aggregation")
LADDER_KEY = ("dataset", "model", "strategy", "order", "aggregation")


RAY_JOB_VARIABLE = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Variable that Ray sets in the environment of a job's driver."""


def default_runs() -> Path:
    """Return the folder of the run directories: ``semscale-runs`` in the working directory, of a Ray job in the home
    directory, since a job's working directory is a copy that is deleted with the job."""
    return (Path.home() if RAY_JOB_VARIABLE in os.environ else Path()) / "semscale-runs"


def out_of(study: StudyConfig, out: str | Path | Folder | None = None, runs: str | None = None) -> Folder:
    """Return the run directory of a study; the same study always gets the same one, another study another.

    Args:
        study: the study.
        out: the run directory itself, if it is given.
        runs: the folder of the run directories; ``SEMSCALE_RUNS`` or :func:`default_runs` by default.
    """
    if out is not None:
        return Folder.of(out)
    return Folder.of(runs or os.environ.get("SEMSCALE_RUNS") or default_runs()) / f"{study.name}-{study.digest()}"


class RunDirectory:
    """Where the results of a study lie; a context manager, within which no other process writes there.

    What a process that was killed left unfinished is removed.

    Args:
        where: the folder, also in an object store; made if missing. The same study may come back to it, another one is
            refused. The lock keeps out only what runs on the same machine, or shares its file system.
        study: the study that writes here.

    Attributes:
        folder: the folder.
        path: the same on this machine.

    Raises:
        SemscaleError: the folder cannot be written, belongs to another study, or another sweep is writing there.
    """

    def __init__(self, where: Path | Folder, study: StudyConfig) -> None:
        self.folder = Folder.of(where)
        self.path = path = self.folder.local
        self.study = study
        marker = path / "study.yaml"
        digest_line = f"# study {study.digest()}: a resolved study file; `semscale sweep study.yaml` repeats it\n"
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._lock = self._take_lock()
        except OSError as error:
            raise self.unwritable(error) from error
        try:
            self.folder.pull(marker.name)
            if marker.exists():
                found = marker.read_text(encoding="utf-8").partition("\n")[0]
                if study.digest() not in found:
                    raise SemscaleError(
                        "the run directory belongs to another study",
                        where=str(self.folder),
                        found=found.removeprefix("# ").partition(":")[0],
                        expected=f"study {study.digest()}",
                        hint="choose another --out, or remove the directory",
                    )
            self._remove_leftovers()
            self.write("study.yaml", (digest_line + study.to_yaml()).encode())
        except OSError as error:
            self.close()
            raise self.unwritable(error) from error
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> RunDirectory:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let other processes write there."""
        self._lock.close()

    def _take_lock(self) -> BinaryIO:
        lock = (self.path / ".lock").open("ab")
        if not take_lock(lock):
            lock.close()
            raise SemscaleError(
                "another sweep is writing into this run directory",
                where=str(self.folder),
                hint="wait until it is done and give the same command again, or choose another --out",
            )
        return lock

    def _remove_leftovers(self) -> None:
        for partial in self.path.rglob("*.partial"):
            partial.unlink(missing_ok=True)
        for folder in self.path.glob(".tune-*"):
            shutil.rmtree(folder, ignore_errors=True)

    def unwritable(self, error: OSError) -> SemscaleError:
        """Return what to say when a file of the run directory cannot be written."""
        hint = "free some space, or choose another --out; the same command goes on with what is stored"
        return cannot_write("the run directory", self.path, error, hint=hint)

    def write(self, name: str, content: bytes) -> Path:
        """Write a file of the run directory; a reader sees the old or the new one, never half of it."""
        target = self.path / name
        partial = target.with_name(target.name + ".partial")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            partial.write_bytes(content)
            os.replace(partial, target)
        except OSError as error:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
            raise self.unwritable(error) from error
        self.folder.push(name)
        return target

    def written(self, name: str) -> bytes:
        """Return a file that another part has written whole into :attr:`path`, and keep it where the others are."""
        content = (self.path / name).read_bytes()
        self.folder.push(name)
        return content

    def write_table(self, name: str, table: pd.DataFrame) -> Path:
        """Write a table as Parquet."""
        return self.write(name, table.to_parquet(index=False))

    def write_ladder(self, ladder: Ladder) -> Path:
        """Write the category sets of one dataset, strategy and order."""
        return self.write(f"ladders/{slug(ladder.dataset, ladder.strategy, ladder.order)}.json", ladder.to_bytes())

    def write_quarantine(self, rows: Sequence[tuple[str, str, str]]) -> Path:
        """Write the images that are out of all arms: dataset, file, reason."""
        table = pd.DataFrame(rows, columns=["dataset", "file", "reason"]).drop_duplicates()
        return self.write("quarantine.csv", table.to_csv(index=False).encode())


def study_file(run: str) -> Path:
    """Return the study file of a run directory, brought here if that lies in an object store.

    Raises:
        SemscaleError: it is no run directory, or cannot be read.
    """
    folder = Folder.of(run)
    folder.pull("study.yaml")
    file = folder.local / "study.yaml"
    if not file.is_file():
        raise SemscaleError(
            "not a run directory",
            where=str(folder),
            found="no study.yaml in it" if folder.is_remote or folder.local.is_dir() else "no such folder",
            expected="the directory that a sweep printed as its results",
        )
    return file


def slug(*parts: object) -> str:
    """Join the parts of a file name with ``__``, each made of harmless characters only.

    >>> slug("digits", "ViT-B-32::laion2b", "templates", 0)
    'digits__ViT-B-32-laion2b__templates__0'
    """
    return "__".join(re.sub(r"[^A-Za-z0-9._-]+", "-", str(part)).strip("-.") or "-" for part in parts)
