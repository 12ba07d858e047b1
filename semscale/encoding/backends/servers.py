"""Backends of clip-servers: those that the study names, or some of its own on the loopback address."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from semscale.common.access import Access, read_access
from semscale.common.errors import SemscaleError, ServerError
from semscale.common.progress import Reporter
from semscale.common.text import counted
from semscale.config import StudyConfig
from semscale.encoding.backends.base import EncodingBackend
from semscale.encoding.server_discovery import Addresses, Servers
from semscale.encoding.store_backed_encoder import StoreBackedEncoder
from semscale.store.encoder_fingerprint import EncoderIdentity
from semscale.store.mirrored_directory import MirroredDirectory

if TYPE_CHECKING:  # jina comes with it
    from semscale.serving.launcher import ServerHandle

_LOOK_EVERY = 1.0


class _ServerBackend(EncodingBackend, Servers):
    """Clip-servers, which Ray actors send to; Ray must be initialised before it is opened."""

    def __init__(
        self, study: StudyConfig, model: str, store: MirroredDirectory, report: Reporter, access: Access
    ) -> None:
        EncodingBackend.__init__(self, study, model, store, report)
        Servers.__init__(self, (), access, study.server.patience, report.note)

    def open(self) -> StoreBackedEncoder:
        """Return the distributed encoder."""
        from semscale.encoding.distributed_encoder import DistributedEncoder  # Ray comes with it

        how = self._study.encoding.model_dump(include={"actors", "batch_size", "deadline"})
        return DistributedEncoder(self.fingerprint(), self, self._store, **how)


class NamedServers(_ServerBackend):
    """The servers that the study names, by addresses, host names or files of addresses."""

    def __init__(self, study: StudyConfig, model: str, store: MirroredDirectory, report: Reporter) -> None:
        access = read_access(study.server.token_file, study.server.ca_file)
        super().__init__(study, model, store, report, access)
        self._addresses = Addresses(study.server.urls)
        self.can_change = self._addresses.can_change
        self._problems: set[str] = set()

    def _cached(self) -> None:
        return None  # they are always asked

    def _identify(self) -> EncoderIdentity:
        from semscale.encoding.verification import identify_encoder  # jina comes with it

        # also those that are of no use now: the actors ask each of them again before anything is sent
        self.urls = self._first_addresses()
        return identify_encoder(self, self._model, self._store, self._draft)

    def discover(self) -> Sequence[str]:
        """Return the addresses of the moment; amid the work a bad line of a file costs a note."""
        try:
            self.urls = self._addresses.now()
        except SemscaleError as error:
            if str(error) not in self._problems:
                self._problems.add(str(error))
                self.note(" ".join(str(error).split()))
        return self.urls

    def _first_addresses(self) -> Sequence[str]:
        """Return the addresses that the study names, waiting as long as its patience for the first one."""
        begun, said, names = time.monotonic(), False, ", ".join(self._study.server.urls)
        while not (urls := self._addresses.now()):
            if (waited := time.monotonic() - begun) > self.patience:
                hint = "start servers and write their addresses there, and give the same command again"
                found = f"no address for {waited:.0f} s"
                raise ServerError("there is no clip-server", where=names, found=found, hint=hint)
            if not said:
                self.note(f"waiting for an address in {names}...")
                said = True
            time.sleep(_LOOK_EVERY)
        return urls


class OwnServers(_ServerBackend):
    """Servers on the loopback address, started when there is something to send."""

    def __init__(
        self, study: StudyConfig, model: str, store: MirroredDirectory, report: Reporter, logs: Path, stack: ExitStack
    ) -> None:
        super().__init__(study, model, store, report, Access())
        self._log_file = logs / "clip-server.log"
        self._stack = stack
        self._server: ServerHandle | None = None

    def start(self) -> Sequence[str]:
        """Start the servers, and make sure that they are what :meth:`fingerprint` said."""
        self._identify()
        return self.urls

    def _identify(self) -> EncoderIdentity:
        from semscale.encoding.verification import identify_encoder  # jina comes with it

        origin = self._origin()
        urls = self._launch()
        found = identify_encoder(Servers(urls), self._model, self._store, self._draft)
        identity = self._accept(found, origin)
        self.urls = urls
        return identity

    def check(self) -> None:
        """Raise SemscaleError if the servers have ended for good."""
        if self._server is not None and not self._server.is_running():
            hint = f"its log says why: {self._log_file}; what is encoded is kept"
            raise ServerError("the clip-server ends again and again", where=self._model, hint=hint)

    def _launch(self) -> Sequence[str]:
        from semscale.serving.launcher import launch_server

        how = self._study.server.model_dump(include={"replicas", "device", "dtype", "trust_remote_code"})
        title = f"starting clip-server, {counted(how['replicas'], 'replicas')}"
        with ExitStack() as shown:
            if self._identity is None:
                shown.enter_context(self._report.stage(title))
            else:
                self.note(title)  # amid the stage of encoding
            self._log_file.parent.mkdir(parents=True, exist_ok=True)
            self._server = self._stack.enter_context(launch_server(self._model, log_file=self._log_file, **how))
        return self._server.urls
