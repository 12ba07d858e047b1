"""Encoding backends: clip-servers, a model in this process, or the embedding store alone."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from semscale.common.progress import ProgressReporter
from semscale.config import StudyConfig
from semscale.encoding.backends.backend import EncodingBackend
from semscale.encoding.backends.in_process import InProcess, StoreOnly
from semscale.encoding.backends.servers import NamedServers, OwnServers
from semscale.encoding.store_backed_encoder import StoreBackedEncoder
from semscale.store.mirrored_directory import MirroredDirectory


@contextmanager
def open_encoder(
    study: StudyConfig,
    model: str,
    store: MirroredDirectory,
    report: ProgressReporter,
    logs: Path | None = None,
    stored: bool = False,
) -> Iterator[StoreBackedEncoder]:
    """Select the backend of a model and open its encoder; connects to Ray if servers encode.

    ``logs`` is the folder for the log of servers that are started here; with ``stored`` nothing is encoded.
    """
    with ExitStack() as stack:
        backend: EncodingBackend
        if stored:
            backend = StoreOnly(study, model, store, report)
        elif study.encoder == "local":
            backend = InProcess(study, model, store, report)
        else:
            import ray

            from semscale.cluster.connection import connect

            if not ray.is_initialized():
                connect(study.ray.address, store.shared_path, report, stack)
            if study.server.urls:
                backend = NamedServers(study, model, store, report)
            else:
                logs = logs or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="semscale-")))
                backend = OwnServers(study, model, store, report, logs, stack)
        with backend.open() as encoder:
            yield encoder
