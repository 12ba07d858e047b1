"""Going on when the tracking store comes back: what a fault of the moment is, and how long it may last."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

import requests
from mlflow.exceptions import MlflowException

from semscale.errors import SemscaleError
from semscale.redact import redact, without

T = TypeVar("T")
Note = Callable[[str], None]

_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 10.0
# what goes by: nobody there, a locked database, a server that restarts or asks for fewer requests
_PASSING = {
    "TEMPORARILY_UNAVAILABLE",
    "INTERNAL_ERROR",
    "DEADLINE_EXCEEDED",
    "REQUEST_LIMIT_EXCEEDED",
    "RESOURCE_EXHAUSTED",
    "ABORTED",
}
_LASTING = ("disk is full", "readonly database", "unable to open database")
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)


class Patience:
    """Repeats calls to the tracking store until they succeed, says that it waits, and gives up after a while.

    Args:
        uri: of the store, for messages.
        note: says a line.
        seconds: how long a single call may be repeated.

    Use :meth:`give_up` from another thread to end all waiting at once.

    Attributes:
        repeated: whether any call had to be repeated, so that the store may have more than was told.
    """

    def __init__(self, uri: str, note: Note, seconds: float = 300.0) -> None:
        self._secret_uri, self._uri = uri, redact(uri)
        self._note = note
        self._seconds = seconds
        self._stop = threading.Event()
        self._waiting = threading.Lock()
        self.repeated = False

    def give_up(self) -> None:
        """Let every call fail that would have to wait."""
        self._stop.set()

    def call(self, work: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Return what ``work(*args, **kwargs)`` returns, once it succeeds.

        Raises:
            SemscaleError: the store does not take it, or is away for too long.
        """
        start, pause = time.monotonic(), _FIRST_PAUSE
        while True:
            try:
                return work(*args, **kwargs)
            except (MlflowException, requests.RequestException, OSError) as error:
                waited = time.monotonic() - start
                if not passes(error) or waited >= self._seconds or self._stop.is_set():
                    raise self._failure(error, waited) from error
                self.repeated = True
                if self._waiting.acquire(blocking=False):  # one voice for all threads
                    try:
                        self._note(
                            f"MLflow at {self._uri} does not answer ({waited:.0f} s of {self._seconds:.0f} s): "
                            f"{self._words(error)}; trying again"
                        )
                        self._stop.wait(pause)
                    finally:
                        self._waiting.release()
                else:
                    self._stop.wait(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)

    def _failure(self, error: Exception, waited: float) -> SemscaleError:
        return SemscaleError(
            "MLflow does not take the results",
            where=self._uri,
            found=self._words(error) + (f", for {waited:.0f} s" if waited >= 1 else ""),
            hint="when it works again, give the same command again: what is recorded is kept and never doubled",
        )

    def _words(self, error: Exception) -> str:
        # SQLAlchemy begins with how it came to ask, and ends with the whole statement
        lines = [line for line in str(error).strip().splitlines() if not line.startswith("(raised as a result")]
        return without(lines[0] if lines else type(error).__name__, self._secret_uri)[:300]


def passes(error: Exception) -> bool:
    """Tell whether a store that fails in this way may be well again soon."""
    if any(words in str(error) for words in _LASTING):
        return False
    if isinstance(error, MlflowException):
        # a failed connection has no code of its own
        return error.error_code in _PASSING
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return error.response.status_code in (408, 429) or error.response.status_code >= 500
    return isinstance(error, requests.RequestException) or getattr(error, "errno", None) not in _FULL
