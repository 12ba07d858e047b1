"""Retry policy of calls to the tracking store: which errors are transient, and how long they may last."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

import requests
import tenacity
from mlflow.exceptions import MlflowException

from semscale.common.errors import TrackingError
from semscale.common.redact import redact, without

T = TypeVar("T")
Note = Callable[[str], None]

# nobody there, a locked database, a server that restarts or asks for fewer requests
_TRANSIENT = {
    "TEMPORARILY_UNAVAILABLE", "INTERNAL_ERROR", "DEADLINE_EXCEEDED", "REQUEST_LIMIT_EXCEEDED", "RESOURCE_EXHAUSTED",
    "ABORTED",
}  # fmt: skip
_PERMANENT = ("disk is full", "readonly database", "unable to open database")
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)


class RetryPolicy:
    """Repeats calls to the tracking store until they succeed, notes that it waits, and gives up after so many seconds.

    `repeated` tells whether any call had to be repeated, so that the store may have more than was told.
    """

    def __init__(self, uri: str, note: Note, seconds: float = 300.0) -> None:
        self._uri, self._note, self._seconds = uri, note, seconds
        self._stop = threading.Event()
        self._speaking, self._quiet_until = threading.Lock(), 0.0
        self._retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception(is_transient),
            stop=tenacity.stop_any(tenacity.stop_after_delay(seconds), tenacity.stop_when_event_set(self._stop)),
            wait=tenacity.wait_exponential(multiplier=0.5, max=10),
            sleep=tenacity.sleep_using_event(self._stop),
            before_sleep=self._before_sleep,
            reraise=True,
        )
        self.repeated = False

    def give_up(self) -> None:
        """Let every call fail that would have to wait, in whatever thread."""
        self._stop.set()

    def call(self, work: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Return ``work(*args, **kwargs)``, once it succeeds; SemscaleError if the store refuses or stays away."""
        start = time.monotonic()
        try:
            return self._retrying(work, *args, **kwargs)
        except (MlflowException, requests.RequestException, OSError) as error:
            waited = time.monotonic() - start
            raise TrackingError(
                "MLflow does not take the results",
                where=redact(self._uri),
                found=self._words(error) + (f", for {waited:.0f} s" if waited >= 1 else ""),
                hint="when it works again, give the same command again: what is recorded is kept and never doubled",
            ) from error

    def _before_sleep(self, state: tenacity.RetryCallState) -> None:
        self.repeated = True
        with self._speaking:  # one voice for all threads
            if time.monotonic() < self._quiet_until:
                return
            self._quiet_until = time.monotonic() + state.upcoming_sleep
        error = state.outcome.exception() if state.outcome else None
        waited = f"{state.seconds_since_start or 0:.0f} s of {self._seconds:.0f} s"
        self._note(f"MLflow at {redact(self._uri)} does not answer ({waited}): {self._words(error)}; trying again")

    def _words(self, error: BaseException | None) -> str:
        # SQLAlchemy begins with how it came to ask, and ends with the whole statement
        lines = [line for line in str(error).strip().splitlines() if not line.startswith("(raised as a result")]
        return without(lines[0] if lines else type(error).__name__, self._uri)[:300]


def is_transient(error: BaseException) -> bool:
    """Tell whether a store that fails in this way may be well again soon."""
    if any(words in str(error) for words in _PERMANENT):
        return False
    if isinstance(error, MlflowException):
        # a failed connection has no code of its own
        return error.error_code in _TRANSIENT
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return error.response.status_code in (408, 429) or error.response.status_code >= 500
    return isinstance(error, OSError) and error.errno not in _FULL
