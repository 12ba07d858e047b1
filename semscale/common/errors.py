"""Exceptions for errors that the user can fix, by kind.

Everything that a user can get wrong (a path, a key of the study file, a server that does not answer) raises a
:class:`SemscaleError`, which the command line prints without a traceback. Programming errors are other exceptions.
"""

from __future__ import annotations

import contextlib
import errno
import shutil
from pathlib import Path


class SemscaleError(Exception):
    """An error that the user can fix.

    Args:
        what: the problem, as one sentence.
        where: its file, line, key, option or address.
        found: the current value.
        expected: a valid value.
        hint: what to do next.

    >>> print(SemscaleError("unknown dataset", found="digitz", expected="digits or shapes"))
    unknown dataset
      found:    digitz
      expected: digits or shapes
    """

    def __init__(
        self, what: str, *, where: str | None = None, found: str | None = None, expected: str | None = None,
        hint: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__(what)
        self.what = what
        self.where = where
        self.found = found
        self.expected = expected
        self.hint = hint

    def __str__(self) -> str:
        details = {"where": self.where, "found": self.found, "expected": self.expected, "to do": self.hint}
        lines = [f"  {label + ':':<9} {value}" for label, value in details.items() if value is not None]
        return "\n".join([self.what, *lines])

    def __reduce__(self) -> tuple[object, ...]:
        # Ray pickles exceptions; the default would drop the keyword arguments
        return _restore, (type(self), self.what), self.__dict__


def _restore(kind: type[SemscaleError], what: str) -> SemscaleError:
    error = kind.__new__(kind)  # not through __init__, whose arguments differ between kinds
    error.args = (what,)
    return error


class ConfigError(SemscaleError):
    """A study file, an option, a name or a credential that is not valid."""


class DatasetError(SemscaleError):
    """A dataset, its classes or its images."""


class CategoryError(SemscaleError):
    """A strategy, its options, a ladder or its texts."""


class ModelError(SemscaleError):
    """A model's name, weights, loading, or lack of memory."""


class ServerError(SemscaleError):
    """A clip-server that does not start, answer or match, or an encoder without a result."""


class ClusterError(SemscaleError):
    """A Ray cluster or its jobs."""


class StoreError(SemscaleError):
    """The embedding store: it cannot be read or written, or lacks the rows that are needed."""


class TrackingError(SemscaleError):
    """The MLflow tracking store."""


def write_error(
    what: str, folder: Path, error: OSError, *, hint: str, kind: type[SemscaleError] = SemscaleError
) -> SemscaleError:
    """Return the error for a folder that cannot be written; for a full disk it contains the free space.

    >>> full = OSError(errno.ENOSPC, "No space left on device")
    >>> print(str(write_error("the store", Path("/"), full, hint="free some")).splitlines()[0])
    the store cannot be written: the disk is full
    """
    found = error.strerror or " ".join(str(error).split())
    if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return kind(f"{what} cannot be written", where=str(folder), found=found, hint=hint)
    with contextlib.suppress(OSError):
        found = f"{shutil.disk_usage(folder).free / 1e6:,.1f} MB free ({found})"
    return kind(f"{what} cannot be written: the disk is full", where=str(folder), found=found, hint=hint)


def summarize(error: BaseException) -> str:
    """Return the first line of an exception's message, or the name of its class if that is empty.

    >>> summarize(ValueError("no number\\nin line 3")), summarize(TimeoutError())
    ('no number', 'TimeoutError')
    """
    return next((line for line in str(error).strip().splitlines()), type(error).__name__)
