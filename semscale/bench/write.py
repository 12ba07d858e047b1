"""The files of a benchmark run."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from semscale.errors import SemscaleError


def make_folder(folder: Path) -> None:
    """Make the folder, before anything is measured for it.

    Raises:
        SemscaleError: it cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _cannot(folder, error.strerror or str(error)) from error
    if not os.access(folder, os.W_OK):
        raise _cannot(folder, "not writable")


def write(folder: Path, files: Mapping[str, str]) -> None:
    """Write the files; a reader sees the old or the new one, never half of it.

    Raises:
        SemscaleError: a file cannot be written.
    """
    for name, content in files.items():
        partial = folder / f"{name}.partial"
        try:
            partial.write_text(content, encoding="utf-8")
            partial.replace(folder / name)
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise _cannot(folder / name, error.strerror or str(error)) from error


def _cannot(path: Path, reason: str) -> SemscaleError:
    return SemscaleError("the benchmarks cannot be written", where=str(path), found=reason, hint="choose another --out")
