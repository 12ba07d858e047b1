"""Result files of a labelling, written as ``NAME.partial`` and renamed when they are complete."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import BinaryIO

from semscale.errors import SemscaleError
from semscale.files import take_lock

RESULTS, QUARANTINE, STATISTICS = "results.csv", "quarantine.csv", "stats.csv"


class ResultFiles:
    """CSV files that grow as ``.partial`` and get their names at the end, those of an earlier run being replaced then.

    Texts are written as they are, also with a leading sign that spreadsheets take for that of a formula, so that the
    files can be joined with the input.

    Args:
        folder: made if missing.
        names: of the files.

    Raises:
        SemscaleError: the folder cannot be written, or another process is writing there.
    """

    def __init__(self, folder: Path, names: Iterable[str]) -> None:
        self.folder = folder
        self._files: dict[str, BinaryIO] = {}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for name in names:
                self._files[name] = _open_locked(folder / f"{name}.partial")
            for file in self._files.values():
                file.truncate(0)
        except OSError as error:
            self.close()
            raise _not_writable(folder, error) from error
        except SemscaleError:
            self.close()
            raise

    def append(self, name: str, rows: Iterable[Sequence[str]]) -> None:
        """Add rows to a file. Raises SemscaleError if they cannot be written."""
        buffer = io.StringIO(newline="")
        csv.writer(buffer, lineterminator="\n").writerows(rows)
        self.write(name, buffer.getvalue())

    def write(self, name: str, text: str) -> None:
        """Add a text to a file. Raises SemscaleError if it cannot be written."""
        try:
            self._files[name].write(text.encode())
            self._files[name].flush()
        except OSError as error:
            raise _not_writable(self.folder / name, error) from error

    def finish(self) -> None:
        """Give the files their names, the results last: where they are, everything is.

        Raises:
            SemscaleError: the folder cannot be written.
        """
        try:
            for name in sorted(self._files, key=lambda name: name == RESULTS):
                os.fsync(self._files[name].fileno())
                os.replace(self.folder / f"{name}.partial", self.folder / name)
        except OSError as error:
            raise _not_writable(self.folder, error) from error

    def close(self) -> None:
        """Close the files; unfinished ones stay partial."""
        for file in self._files.values():
            file.close()


def _open_locked(path: Path) -> BinaryIO:
    file = path.open("ab")
    # the process that had the lock may just have given the file its final name
    if not (take_lock(file) and path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat())):
        file.close()
        raise SemscaleError(
            "another process is labelling into this folder",
            where=str(path.parent),
            hint="wait for it, or use another --out",
        )
    return file


def _not_writable(path: Path, error: OSError) -> SemscaleError:
    return SemscaleError(
        "the results cannot be written",
        where=str(path),
        found=error.strerror or str(error),
        hint="free some space, or choose another --out; what is encoded is kept",
    )
