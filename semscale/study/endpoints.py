"""The clip-servers of a model: the study's own, or one that is started when there is something to send to it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from semscale.access import Access, read_access
from semscale.config import StudyConfig
from semscale.encoding.addresses import Addresses
from semscale.encoding.encoder_fingerprint import EncoderIdentity, forget_origin, recall_origin, remember_origin
from semscale.encoding.folder import Folder
from semscale.errors import SemscaleError
from semscale.models.model_fingerprint import model_origin
from semscale.study.progress import Reporter

if TYPE_CHECKING:
    from semscale.serving.launcher import ServerHandle

_MOST_REVIVALS = 3
_LOOK_EVERY = 1.0


class Endpoints:
    """Where a model is served; a context manager, with which a server that it started ends.

    Args:
        study: its section ``server`` names endpoints, or says how to start one.
        model: the model's name.
        store: root of the embedding store.
        logs: folder for the log of a server of our own.
        report: says that a server is started.

    Attributes:
        access: what to show to the servers and whom to trust; nothing for a server of our own, on the loopback address.

    Raises:
        SemscaleError: the study's token or certificate authority cannot be read.
    """

    def __init__(self, study: StudyConfig, model: str, store: Folder, logs: Path, report: Reporter) -> None:
        self._settings = study.server
        settings = study.server
        self.access = read_access(settings.token_file, settings.ca_file) if settings.urls else Access()
        self._draft = study.encoding.draft
        self._addresses = Addresses(settings.urls)
        self._model = model
        self._store = store
        self._logs = logs
        self._report = report
        self._stack = ExitStack()
        self._urls: Sequence[str] = ()
        self._identity: EncoderIdentity | None = None
        self._server: ServerHandle | None = None
        self._revivals = 0

    def __enter__(self) -> Endpoints:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def identity(self) -> EncoderIdentity:
        """Return which encoder it is.

        Endpoints that the study names are always asked. A server of our own is started for the answer only when none
        was started on these files before.

        Raises:
            SemscaleError: an endpoint is missing or another encoder, or the server does not start.
        """
        if self._identity is None and not self._settings.urls:
            origin = self._origin()
            self._identity = recall_origin(self._store, self._model, origin, self._draft) if origin else None
        if self._identity is None:
            self._connect()
        assert self._identity is not None
        return self._identity

    def servers(self) -> Sequence[str] | Callable[[], Sequence[str]]:
        """Return the addresses of the servers, or the function that starts one and returns them.

        The function raises SemscaleError if the server does not start, or is not what :meth:`identity` said.
        """
        return self._urls or self._connect

    def _connect(self) -> Sequence[str]:
        from semscale.encoding.handshake import shake_hands  # imports jina, which a filled store does not need

        if self._settings.urls:
            notes: list[str] = []
            urls = self._some_addresses()
            self._identity = shake_hands(
                urls,
                self._model,
                self._store,
                draft=self._draft,
                patience=self._settings.patience,
                notes=notes,
                access=self.access,
            )
            for line in notes:
                self._report.note(line)
            # also those that are of no use now: the actors ask each of them again before anything is sent
            self._urls = urls
            return urls
        origin = self._origin()
        urls = self._launch()
        found = shake_hands(urls, self._model, self._store, draft=self._draft, access=self.access)
        if self._identity is not None and found.fingerprint != self._identity.fingerprint:
            if origin:
                forget_origin(self._store, origin)
            raise SemscaleError(
                "the server is another encoder than the model's files gave before",
                where=self._model,
                found=found.fingerprint,
                expected=self._identity.fingerprint,
                hint="give the same command again: it asks the server first",
            )
        self._identity, self._urls = found, urls
        # files that changed while the server was reading them are not known
        if origin and origin == self._origin():
            remember_origin(self._store, found, origin)
        return urls

    def watch(self) -> Callable[[], Sequence[str]] | None:
        """Return the function that tells where the study's servers are by now; None where that cannot change."""
        if not self._addresses.can_change:
            return None
        problems: set[str] = set()

        def now() -> Sequence[str]:
            try:
                return self._addresses.now()
            except SemscaleError as error:  # amid the work a bad line costs a note; what was there before still holds
                if str(error) not in problems:
                    problems.add(str(error))
                    self._report.note(" ".join(str(error).split()))
                return self._addresses.last()

        return now

    def _some_addresses(self) -> Sequence[str]:
        """Return the addresses that the study names, waiting as long as its patience for the first one."""
        begun, said = time.monotonic(), False
        while not (urls := self._addresses.now()):
            waited = time.monotonic() - begun
            if waited > self._settings.patience:
                raise SemscaleError(
                    "there is no clip-server",
                    where=", ".join(self._settings.urls),
                    found=f"no address for {waited:.0f} s",
                    hint="start servers and write their addresses there, and give the same command again",
                )
            if not said:
                self._report.note(f"waiting for an address in {', '.join(self._settings.urls)}...")
                said = True
            time.sleep(_LOOK_EVERY)
        return urls

    def revive(self) -> Sequence[str] | None:
        """Start our own server again if its process has ended, and return its address; None if there is nothing to do.

        Raises:
            SemscaleError: it has ended too often, or does not start.
        """
        if self._server is None or self._server.is_running():
            return None
        self._revivals += 1
        if self._revivals > _MOST_REVIVALS:
            raise SemscaleError(
                f"the clip-server ended {self._revivals} times",
                where=self._model,
                hint=f"its log says why: {self._logs / 'clip-server.log'}; what is encoded is kept",
            )
        self._report.note(f"the clip-server has ended; starting it again ({self._revivals} of {_MOST_REVIVALS} times)")
        self._urls = self._launch()
        return self._urls

    def _origin(self) -> str | None:
        origin = model_origin(self._model, self._settings.device, self._settings.dtype)
        # the same files give two encoders, whose notes lie apart
        return f"{origin}-draft" if origin and self._draft else origin

    def _launch(self) -> Sequence[str]:
        from semscale.serving.launcher import launch_server

        title = f"starting clip-server, {self._settings.replicas} replicas"
        with ExitStack() as shown:
            if self._identity is None:
                shown.enter_context(self._report.stage(title))
            else:
                self._report.note(title)  # amid the stage of encoding
            self._logs.mkdir(parents=True, exist_ok=True)
            server = self._stack.enter_context(
                launch_server(
                    self._model,
                    replicas=self._settings.replicas,
                    device=self._settings.device,
                    dtype=self._settings.dtype,
                    log_file=self._logs / "clip-server.log",
                )
            )
        self._server = server
        return server.urls
