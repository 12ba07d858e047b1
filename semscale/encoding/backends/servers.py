"""Backends of clip-servers: those that the study names, or servers of the sweep on the loopback address."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from semscale.common.access import read_access
from semscale.common.errors import ServerError
from semscale.common.progress import ProgressReporter
from semscale.common.text import counted
from semscale.config import StudyConfig
from semscale.encoding.backends.backend import EncodingBackend
from semscale.encoding.server_discovery import DiscoveredServers, Servers
from semscale.encoding.store_backed_encoder import StoreBackedEncoder
from semscale.store.encoder_fingerprint import EncoderIdentity
from semscale.store.mirrored_directory import MirroredDirectory

if TYPE_CHECKING:  # importing it imports jina
    from semscale.serving.launcher import ServerHandle


class _ServerBackend(EncodingBackend):
    """Clip-servers to which Ray actors send; Ray must be initialised before it is opened."""

    _servers: Servers

    def open(self) -> StoreBackedEncoder:
        """Return the distributed encoder."""
        from semscale.encoding.distributed_encoder import DistributedEncoder  # imports Ray

        options = self._study.encoding.model_dump(include={"actors", "batch_size", "deadline"})
        return DistributedEncoder(self.fingerprint(), self._servers, self._store, **options)

    def _ask(self, servers: Servers) -> EncoderIdentity:
        from semscale.encoding.verification import identify_encoder  # imports jina

        return identify_encoder(servers, self._model, self._store, self._draft)


class NamedServers(_ServerBackend):
    """The servers that the study names, by addresses, host names or files of addresses."""

    def __init__(self, study: StudyConfig, model: str, store: MirroredDirectory, report: ProgressReporter) -> None:
        super().__init__(study, model, store, report)
        config = study.server
        access = read_access(config.token_file, config.ca_file)
        self._servers: DiscoveredServers = DiscoveredServers(config.urls, access, config.patience, report.note)

    def _cached(self) -> None:
        return None  # they are always asked

    def _identify(self) -> EncoderIdentity:
        # one usable server is enough: the actors verify each of them before anything is sent
        self._servers.wait_for_addresses()
        return self._ask(self._servers)


class OwnServers(_ServerBackend):
    """Servers on the loopback address, launched when there is something to send, and ended with the stack."""

    def __init__(
        self,
        study: StudyConfig,
        model: str,
        store: MirroredDirectory,
        report: ProgressReporter,
        logs: Path,
        stack: ExitStack,
    ) -> None:
        super().__init__(study, model, store, report)
        self._servers: _LaunchedServers = _LaunchedServers(study, model, report, logs, stack, self._identify)

    def _identify(self) -> EncoderIdentity:
        files_digest = self._files_digest()
        self._servers.launch(show_stage=self._identity is None)
        return self._accept(self._ask(Servers(self._servers.urls)), files_digest)


class _LaunchedServers(Servers):
    """Servers launched on demand; ``identify`` launches them and checks that they run the right encoder."""

    def __init__(
        self,
        study: StudyConfig,
        model: str,
        report: ProgressReporter,
        logs: Path,
        stack: ExitStack,
        identify: Callable[[], object],
    ) -> None:
        super().__init__(outage_timeout=study.server.patience, log=report.note)
        self._config, self._model, self._report = study.server, model, report
        self._log_file = logs / "clip-server.log"
        self._stack, self._identify = stack, identify
        self._handle: ServerHandle | None = None

    def start(self) -> Sequence[str]:
        """Launch the servers, verify them, and return their addresses."""
        self._identify()
        return self.urls

    def check_running(self) -> None:
        """Raise ServerError if the servers have ended for good."""
        if self._handle is not None and not self._handle.is_running():
            hint = f"see its log: {self._log_file}; what is encoded is kept"
            raise ServerError("the clip-server keeps crashing", where=self._model, hint=hint)

    def launch(self, *, show_stage: bool) -> None:
        """Launch the servers, as a stage of the progress report or, during another stage, with a message."""
        from semscale.serving.launcher import launch_server

        options = self._config.model_dump(include={"replicas", "device", "dtype", "trust_remote_code"})
        title = f"starting clip-server, {counted(options['replicas'], 'replicas')}"
        with ExitStack() as stage:
            if show_stage:
                stage.enter_context(self._report.stage(title))
            else:
                self.log(title)
            self._log_file.parent.mkdir(parents=True, exist_ok=True)
            self._handle = self._stack.enter_context(launch_server(self._model, log_file=self._log_file, **options))
        self.urls = self._handle.urls
