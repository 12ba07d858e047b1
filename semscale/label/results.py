"""Result files of a labelling, which get their names when all of them are complete."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from semscale.errors import SemscaleError, cannot_write
from semscale.files import atomic_write, take_lock

RESULTS, QUARANTINE, STATISTICS = "results.csv", "quarantine.csv", "stats.csv"

Append = Callable[[str, Iterable[Sequence[object]]], None]


@contextmanager
def result_files(folder: Path, headers: Mapping[str, Sequence[str]]) -> Iterator[Append]:
    """Yield the function that adds rows to a CSV file; at the end the files replace older ones, the first one last.

    Texts are written as they are, also with a leading sign that spreadsheets take for that of a formula, so that the
    files can be joined with the input.
    """
    with ExitStack() as stack:
        with _writable(folder):
            folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(folder, os.O_RDONLY)
            stack.callback(os.close, descriptor)
            if not take_lock(descriptor):
                hint = "wait for it, or use another --out"
                raise SemscaleError("another process is labelling into this folder", where=str(folder), hint=hint)
            paths = {name: stack.enter_context(atomic_write(folder / name)) for name in headers}
            files = {
                name: stack.enter_context(path.open("w", encoding="utf-8", newline="")) for name, path in paths.items()
            }

        def append(name: str, rows: Iterable[Sequence[object]]) -> None:
            with _writable(folder):
                csv.writer(files[name], lineterminator="\n").writerows(rows)

        for name, header in headers.items():
            append(name, [header])
        yield append
        with _writable(folder):
            stack.close()


@contextmanager
def _writable(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        hint = "free some space, or choose another --out; what is encoded is kept"
        raise cannot_write("the results", folder, error, hint=hint) from error
