"""Background recorder of trials: a bounded queue whose threads write to MLflow, each trial once.

Workers need no MLflow, which takes longer to import than a small trial to evaluate, and they continue while a tracking
server is unreachable.
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

# concurrent requests to a server; a database file has one writer
_THREADS = 4
# some MB of records
_MAX_QUEUED = 512


class Recorder(AbstractContextManager["Recorder"]):
    """Records trials in background threads; its context ends when all are recorded.

    `existing` maps keys to the study's trial runs in the store; `advance` is called after each recorded trial, `note`
    with a message while the store does not answer, for up to `timeout` seconds. After an error in the block the queued
    trials are still recorded as far as the store answers, but not after Ctrl-C.
    """

    def __init__(
        self,
        store: TrackingStore,
        study_name: str,
        existing: Mapping[str, Any],
        advance: Callable[[], None],
        note: Note,
        timeout: float = 300.0,
    ) -> None:
        self._store, self._study_name, self._existing, self._advance = store, study_name, existing, advance
        self._retry = RetryPolicy(store.uri, note, timeout)
        self._local = threading.local()
        self._free_slots = threading.BoundedSemaphore(_MAX_QUEUED)
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
        """Queue a trial, waiting while the queue is full; raises the error of an earlier trial."""
        while not self._free_slots.acquire(timeout=0.5):
            self._raise_error()
        self._raise_error()
        self._done[trial.key] = self._pool.submit(self._record, trial)

    def run_ids(self) -> dict[str, str]:
        """Return the run ids by key once all trials are recorded; raises the first error."""
        self._pool.shutdown(wait=True)
        self._raise_error()
        run_ids = {key: future.result() for key, future in self._done.items()}
        if self._retry.repeated:
            where = self._store.client(), self._store.experiment_id
            self._retry.call(delete_duplicate_runs, *where, run_ids, kind="trial", study=self._study_name)
        return run_ids

    def _record(self, trial: TrialRecord) -> str:
        attempted = False

        def attempt() -> str:
            nonlocal attempted
            may_exist, attempted = attempted, True
            # an earlier attempt may have created the run
            run = None if may_exist else self._existing.get(trial.key)
            return record_trial(self._client(), self._store, self._study_name, trial, run, may_exist=may_exist)

        try:
            self._raise_error()  # nothing is recorded after a failure
            run_id = self._retry.call(attempt)
        except BaseException as error:
            self._error = self._error or error
            self._retry.give_up()
            raise
        finally:
            self._free_slots.release()
        self._advance()
        return run_id

    def _client(self) -> Any:
        if not hasattr(self._local, "client"):
            self._local.client = self._store.client()
        return self._local.client

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error
