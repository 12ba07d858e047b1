"""The files of a labelling while they grow: what is on the disk after a window is never done again."""

from __future__ import annotations

import contextlib
import csv
import io
import os
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from semscale.errors import SemscaleError
from semscale.locks import take_lock

RESULTS, QUARANTINE, STATISTICS = "results.csv", "quarantine.csv", "stats.csv"
_STATE = "results.csv.state"


@dataclass(frozen=True)
class Mark:
    """How far a labelling has come.

    Attributes:
        purpose: what is labelled, with what: only the same purpose goes on.
        done: items that are behind.
        chain: a digest of all of them.
        bad: how many of them are in the quarantine.
        arrays: the sums of the statistics.
    """

    purpose: str
    done: int
    chain: str
    bad: int
    arrays: Mapping[str, NDArray[np.generic]]


class Journal:
    """Results and quarantine as ``.partial`` files that only grow, and a state file that says how much of them counts.

    Rows are on the disk before the state is, and the state is replaced as a whole; rows beyond it, of a window amid
    which the process was killed, are cut off. Use as a context manager.

    Args:
        folder: where the files lie; made if missing.
        headers: file name -> its columns, for results and quarantine.

    Raises:
        SemscaleError: the folder cannot be written, or another process is writing there.
    """

    def __init__(self, folder: Path, headers: Mapping[str, Sequence[str]]) -> None:
        self.folder = folder
        self._headers = headers
        self._files: dict[str, BinaryIO] = {}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for name in headers:
                self._files[name] = _open(folder / f"{name}.partial")
            _lock(self._files[RESULTS], folder / f"{RESULTS}.partial")
        except OSError as error:
            self.close()
            raise _unwritable(folder, error) from error
        except SemscaleError:
            self.close()
            raise

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the files; what is in them stays."""
        for file in self._files.values():
            file.close()

    def resume(self, purpose: str) -> tuple[Mark | None, str | None]:
        """Return how far an earlier process came, or None, and then why not, if there was one."""
        path = self.folder / _STATE
        if not path.exists():
            return None, None
        try:
            with np.load(path, allow_pickle=False) as kept:
                state = {name: kept[name] for name in kept.files}
            lengths = {name: int(state.pop(f"bytes of {name}")) for name in self._headers}
            words = {name: str(state.pop(name)) for name in ("purpose", "chain")}
            done, bad = int(state.pop("done")), int(state.pop("bad"))
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None, "the state of an earlier run cannot be read"
        if words["purpose"] != purpose:
            return None, "the input, the categories or the model are others than in an earlier run"
        for name, length in lengths.items():
            if os.fstat(self._files[name].fileno()).st_size < length:
                return None, f"{name}.partial of an earlier run is cut off"
        for name, length in lengths.items():
            _cut(self._files[name], length)
        return Mark(words["purpose"], done, words["chain"], bad, state), None

    def restart(self) -> None:
        """Begin with nothing but the headers."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.folder / _STATE)
        for name, header in self._headers.items():
            _cut(self._files[name], 0)
            self._write(name, csv_bytes([header]))

    def append(self, rows: Mapping[str, Iterable[Sequence[str]]], mark: Mark) -> None:
        """Add the rows of a window, by file name, and then say that they count.

        Raises:
            SemscaleError: the disk is full, for one.
        """
        for name, new in rows.items():
            self._write(name, csv_bytes(new))
        state: dict[str, NDArray[np.generic]] = {
            **mark.arrays,
            "purpose": np.array(mark.purpose),
            "chain": np.array(mark.chain),
            "done": np.array(mark.done),
            "bad": np.array(mark.bad),
        }
        for name, file in self._files.items():
            state[f"bytes of {name}"] = np.array(file.tell())
        buffer = io.BytesIO()
        np.savez(buffer, **state)  # type: ignore[arg-type]
        write_whole(self.folder / _STATE, buffer.getvalue())

    def finish(self) -> None:
        """Give the files their names; nothing is left to go on with.

        Raises:
            SemscaleError: the folder cannot be written.
        """
        try:
            # the results last: where they are, everything is
            for name in sorted(self._headers, key=lambda name: name == RESULTS):
                os.replace(self.folder / f"{name}.partial", self.folder / name)
            (self.folder / _STATE).unlink(missing_ok=True)
        except OSError as error:
            raise _unwritable(self.folder, error) from error
        self.close()

    def _write(self, name: str, content: bytes) -> None:
        file = self._files[name]
        try:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        except OSError as error:
            raise _unwritable(self.folder, error) from error


def csv_bytes(rows: Iterable[Sequence[str]]) -> bytes:
    """Return rows as a CSV file has them.

    Names and texts stay as they are, also with a sign before them that a spreadsheet takes for a formula's: whoever
    joins the file with the input must find them again.

    >>> csv_bytes([("file", "label"), ("a, b.png", "cat")])
    b'file,label\\n"a, b.png",cat\\n'
    """
    buffer = io.StringIO(newline="")
    csv.writer(buffer, lineterminator="\n").writerows(rows)
    return buffer.getvalue().encode()


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that a reader, and a process after a crash, finds the old or the new one.

    Raises:
        SemscaleError: it cannot be written.
    """
    partial = path.with_name(path.name + ".new")
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise _unwritable(path, error) from error


def _open(path: Path) -> BinaryIO:
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b")


def _lock(file: BinaryIO, path: Path) -> None:
    # whoever had the lock may just have given the file its final name
    mine = take_lock(file) and path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat())
    if not mine:
        raise SemscaleError(
            "another process is labelling into this folder",
            where=str(path.parent),
            hint="wait for it, or use another --out",
        )


def _cut(file: BinaryIO, length: int) -> None:
    file.truncate(length)
    file.seek(length)


def _unwritable(path: Path, error: OSError) -> SemscaleError:
    return SemscaleError(
        "the results cannot be written",
        where=str(path),
        found=error.strerror or str(error),
        hint="free some space, or choose another --out; what is encoded is kept",
    )
