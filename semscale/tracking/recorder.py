"""Recording beside the work: finished trials go into a queue, and from there into MLflow, each once.

Workers need no MLflow then, which takes longer to import than a small trial to evaluate; and a tracking server that is
away for a while holds up nobody: what was evaluated waits here.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any

from semscale.tracking.idempotent_runs import delete_duplicate_runs
from semscale.tracking.retry import Note, RetryPolicy
from semscale.tracking.run_contents import TrialRecord, record_trial
from semscale.tracking.tracking_store import TrackingStore

# with a server several requests are under way at a time; a file has one writer
_THREADS = 4
# records hold tables each: this many are some MB
_MOST_WAITING = 512


class Recorder(AbstractContextManager["Recorder"]):
    """Records trials in threads of its own; a context manager, left when everything is recorded.

    `known` is key -> run of the study's trials that are there already; `advance` is called after every trial that was
    recorded; `note` says that the store is waited for, up to `patience` seconds. An error in the block lets it record
    what it was given, as far as the store answers; Ctrl-C does not.
    """

    def __init__(
        self,
        store: TrackingStore,
        study_name: str,
        known: Mapping[str, Any],
        advance: Callable[[], None],
        note: Note,
        patience: float = 300.0,
    ) -> None:
        self._store, self._study_name, self._known, self._advance = store, study_name, known, advance
        self._retry = RetryPolicy(store.uri, note, patience)
        self._local = threading.local()
        self._waiting = threading.BoundedSemaphore(_MOST_WAITING)
        self._pool = ThreadPoolExecutor(1 if store.is_file else _THREADS, thread_name_prefix="recorder")
        self._done: dict[str, Future[str]] = {}
        self._error: BaseException | None = None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is not None:
            self._retry.give_up()
            if not isinstance(error, Exception):
                self._error = self._error or error
        self._pool.shutdown(wait=True)

    def put(self, trial: TrialRecord) -> None:
        """Take a trial to be recorded; wait only while hundreds are waiting, and raise an earlier one's error."""
        while not self._waiting.acquire(timeout=0.5):
            self._raise_error()
        self._raise_error()
        self._done[trial.key] = self._pool.submit(self._record, trial)

    def run_ids(self) -> dict[str, str]:
        """Wait until all trials are recorded and return their run ids by key; raise what could not be recorded."""
        self._pool.shutdown(wait=True)
        self._raise_error()
        found = {key: future.result() for key, future in self._done.items()}
        if self._retry.repeated:
            where = self._store.client(), self._store.experiment_id
            self._retry.call(delete_duplicate_runs, *where, found, kind="trial", study=self._study_name)
        return found

    def _record(self, trial: TrialRecord) -> str:
        again = False

        def attempt() -> str:
            nonlocal again
            ask, again = again, True
            # after a fault nobody knows what the store has of it, so it is asked
            run = None if ask else self._known.get(trial.key)
            return record_trial(self._client(), self._store, self._study_name, trial, run, may_exist=ask)

        try:
            self._raise_error()  # those behind one that failed are not tried
            run_id = self._retry.call(attempt)
        except BaseException as error:
            self._error = self._error or error
            self._retry.give_up()
            raise
        finally:
            self._waiting.release()
        self._advance()
        return run_id

    def _client(self) -> Any:
        if not hasattr(self._local, "client"):
            self._local.client = self._store.client()
        return self._local.client

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error
