"""Retry policy for calls to the tracking store: transient errors, exponential backoff, and a time limit."""

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
from semscale.common.redact import mask_url, scrub

T = TypeVar("T")
Note = Callable[[str], None]

# server unreachable, restarting or limiting the rate; database locked
_TRANSIENT = {
    "TEMPORARILY_UNAVAILABLE", "INTERNAL_ERROR", "DEADLINE_EXCEEDED", "REQUEST_LIMIT_EXCEEDED", "RESOURCE_EXHAUSTED",
    "ABORTED",
}  # fmt: skip
_PERMANENT = ("disk is full", "readonly database", "unable to open database")
_PERMANENT_ERRNO = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)


class RetryPolicy:
    """Repeats calls to the tracking store with exponential backoff and a note, for at most `seconds` each.

    `repeated` is true once a call was repeated: the store may then have executed a call whose response was lost.
    """

    def __init__(self, uri: str, note: Note, seconds: float = 300.0) -> None:
        self._uri, self._note, self._seconds = uri, note, seconds
        self._stop = threading.Event()
        self._note_lock, self._next_note = threading.Lock(), 0.0
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
        """Let calls of all threads fail instead of waiting."""
        self._stop.set()

    def call(self, work: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Return ``work(*args, **kwargs)``; TrackingError if the store rejects the call or stays unreachable."""
        start = time.monotonic()
        try:
            return self._retrying(work, *args, **kwargs)
        except (MlflowException, requests.RequestException, OSError) as error:
            waited = time.monotonic() - start
            raise TrackingError(
                "MLflow cannot record the results",
                where=mask_url(self._uri),
                found=self._reason(error) + (f", for {waited:.0f} s" if waited >= 1 else ""),
                hint="when it works again, run the same command again: recorded runs are kept and not repeated",
            ) from error

    def _before_sleep(self, state: tenacity.RetryCallState) -> None:
        self.repeated = True
        with self._note_lock:  # one note for all threads
            if time.monotonic() < self._next_note:
                return
            self._next_note = time.monotonic() + state.upcoming_sleep
        error = state.outcome.exception() if state.outcome else None
        waited = f"{state.seconds_since_start or 0:.0f} s of {self._seconds:.0f} s"
        self._note(f"MLflow at {mask_url(self._uri)} does not answer ({waited}): {self._reason(error)}; trying again")

    def _reason(self, error: BaseException | None) -> str:
        # without SQLAlchemy's preamble and statement
        lines = [line for line in str(error).strip().splitlines() if not line.startswith("(raised as a result")]
        return scrub(lines[0] if lines else type(error).__name__, self._uri)[:300]


def is_transient(error: BaseException) -> bool:
    """Return whether a repeated call may succeed after this error."""
    if any(text in str(error) for text in _PERMANENT):
        return False
    if isinstance(error, MlflowException):
        # a failed connection has the code INTERNAL_ERROR
        return error.error_code in _TRANSIENT
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return error.response.status_code in (408, 429) or error.response.status_code >= 500
    return isinstance(error, OSError) and error.errno not in _PERMANENT_ERRNO
