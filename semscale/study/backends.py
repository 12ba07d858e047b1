"""Encoding backends: clip-servers, a model in this process, or the embedding store alone."""

from __future__ import annotations

import tempfile
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from semscale.access import Access, read_access
from semscale.config import StudyConfig
from semscale.encoding.encoder import Encoder
from semscale.encoding.encoder_fingerprint import (
    PROBE_TEXT,
    EncoderIdentity,
    cache_fingerprint,
    cached_fingerprint,
    check_probe,
    evict_fingerprint,
    probe_image,
    stored_identity,
)
from semscale.encoding.folder import Folder
from semscale.encoding.local import LocalEncoder
from semscale.encoding.segment import l2_normalize
from semscale.encoding.servers import Addresses, Servers
from semscale.errors import SemscaleError
from semscale.models.model_fingerprint import model_origin
from semscale.study.progress import Reporter
from semscale.text import counted

if TYPE_CHECKING:  # torch and jina come with them
    from semscale.models.encoder import InProcessModel
    from semscale.serving.launcher import ServerHandle

_LOOK_EVERY = 1.0


class EncodingBackend(ABC):
    """What encodes for one model of a study, as its sections ``server`` and ``encoding`` say."""

    def __init__(self, study: StudyConfig, model: str, store: Folder, report: Reporter) -> None:
        self._study, self._model, self._store, self._report = study, model, store, report
        self._draft = study.encoding.draft
        self._identity: EncoderIdentity | None = None

    def fingerprint(self) -> EncoderIdentity:
        """Return which encoder it is; nothing is loaded or started for a model whose files were loaded before."""
        if self._identity is None:
            self._identity = self._cached() or self._identify()
            if self._identity.info and (note := self._identity.info.get("note")):
                self._report.note(f"{self._model}: {note}")
        return self._identity

    @abstractmethod
    def open(self) -> Encoder:
        """Return the encoder, a context manager."""

    @abstractmethod
    def _identify(self) -> EncoderIdentity:
        """Find out which encoder it is."""

    def _origin(self) -> str | None:
        """Return the digest of the model's files, if they are on this machine; drafts have one of their own."""
        origin = model_origin(self._model, self._study.server.device, self._study.server.dtype)
        return f"{origin}-draft" if origin and self._draft else origin

    def _cached(self) -> EncoderIdentity | None:
        origin = self._origin()
        return cached_fingerprint(self._store, self._model, origin, self._draft) if origin else None

    def _accept(self, identity: EncoderIdentity, origin: str | None) -> EncoderIdentity:
        """Return the identity of what was just loaded from the files of this origin, unless another was cached."""
        found, expected = identity.fingerprint, (self._identity or identity).fingerprint
        if found != expected:
            if origin:
                evict_fingerprint(self._store, origin)
            what, hint = "it is another encoder than the model's files gave before", "give the same command again"
            raise SemscaleError(what, where=self._model, found=found, expected=expected, hint=hint)
        if origin and origin == self._origin():  # files that changed meanwhile are not known
            cache_fingerprint(self._store, identity, origin)
        return identity


class StoreOnly(EncodingBackend):
    """The embedding store alone: everything that a study needs must be in it."""

    def open(self) -> Encoder:
        """Return an encoder that refuses what is not stored."""
        return LocalEncoder(self.fingerprint(), None, self._store)

    def _identify(self) -> EncoderIdentity:
        folders = [name.partition("/")[0] for name in self._store.find("*/encoder.json")]
        found = [one for name in folders if (one := stored_identity(self._store, name, self._model, self._draft))]
        dtype = self._study.server.dtype
        if dtype is not None and len(found) > 1:
            found = [one for one in found if one.info is None or one.info.get("dtype") == dtype]
        if len(found) == 1:
            return found[0]
        what, hint = "no rows", "encode the study first, with the same --store: semscale encode STUDY"
        if found:
            what, hint = "several encoders", "name the servers and use `semscale sweep`, or say server: {dtype: ...}"
        what, where = f"the embedding store has {what} of this model", f"{self._model}, {self._store}"
        raise SemscaleError(what, where=where, found=", ".join(one.fingerprint for one in found) or None, hint=hint)


class InProcess(EncodingBackend):
    """A model in this process, which is loaded once and only when it is needed."""

    _loaded: InProcessModel | None = None

    def open(self) -> Encoder:
        """Return the encoder in this process."""
        return LocalEncoder(self.fingerprint(), self.load, self._store)

    def load(self) -> InProcessModel:
        """Return the model; raises SemscaleError if it cannot be had or is not what :meth:`fingerprint` said."""
        self._identify()
        assert self._loaded is not None
        return self._loaded

    def _identify(self) -> EncoderIdentity:
        if self._loaded is None or self._identity is None:
            origin = self._origin()
            self._report.note(f"loading {self._model}")
            loaded = self._read()
            self._identity = self._accept(self._verify(loaded), origin)
            self._loaded = loaded
        return self._identity

    def _read(self) -> InProcessModel:
        try:
            from semscale.models.encoder import InProcessModel
        except ModuleNotFoundError as error:
            what, hint = "encoding in this process needs open_clip and torch", 'pip install "semscale[server]"'
            raise SemscaleError(what, where="encoder: local", found=f"no module {error.name}", hint=hint) from error
        with warnings.catch_warnings():
            # in a notebook tqdm, which comes with the hub's client, asks for widgets that nothing here needs
            warnings.filterwarnings("ignore", message="IProgress not found")
            where = self._study.server
            return InProcessModel(self._model, where.device, where.dtype, where.trust_remote_code)

    def _verify(self, loaded: InProcessModel) -> EncoderIdentity:
        identity = EncoderIdentity.of(self._model, loaded.info, int(loaded.info["embedding_dim"]), self._draft)
        identity.check_draft(self._model)
        image, of_image = loaded.encode_images([probe_image()])
        text, of_text = loaded.encode_texts([PROBE_TEXT])
        probe, reasons = np.concatenate([image, text]), [*of_image, *of_text]
        l2_normalize(probe, reasons, "the model gave")
        if fault := next((reason for reason in reasons if reason is not None), None):
            raise SemscaleError("the model cannot encode", where=self._model, found=fault)
        check_probe(self._model, identity, probe, self._store)
        return identity


class _ServerBackend(EncodingBackend, Servers):
    """Clip-servers, which Ray actors send to; Ray must be initialised before it is opened."""

    def __init__(self, study: StudyConfig, model: str, store: Folder, report: Reporter, access: Access) -> None:
        EncodingBackend.__init__(self, study, model, store, report)
        Servers.__init__(self, (), access, study.server.patience, report.note)

    def open(self) -> Encoder:
        """Return the distributed encoder."""
        from semscale.encoding.distributed import DistributedEncoder  # Ray comes with it

        how = self._study.encoding.model_dump(include={"actors", "batch_size", "deadline"})
        return DistributedEncoder(self.fingerprint(), self, self._store, **how)


class NamedServers(_ServerBackend):
    """The servers that the study names, by addresses, host names or files of addresses."""

    def __init__(self, study: StudyConfig, model: str, store: Folder, report: Reporter) -> None:
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
                raise SemscaleError("there is no clip-server", where=names, found=found, hint=hint)
            if not said:
                self.note(f"waiting for an address in {names}...")
                said = True
            time.sleep(_LOOK_EVERY)
        return urls


class OwnServers(_ServerBackend):
    """Servers on the loopback address, started when there is something to send."""

    def __init__(
        self, study: StudyConfig, model: str, store: Folder, report: Reporter, logs: Path, stack: ExitStack
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
            raise SemscaleError("the clip-server ends again and again", where=self._model, hint=hint)

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


@contextmanager
def open_encoder(
    study: StudyConfig, model: str, store: Folder, report: Reporter, logs: Path | None = None, stored: bool = False
) -> Iterator[Encoder]:
    """Open the encoder of a model, with Ray if servers encode and it is not running yet.

    ``logs`` is the folder for the log of servers of our own; with ``stored`` everything must be in the store.
    """
    with ExitStack() as stack:
        backend: EncodingBackend
        if stored:
            backend = StoreOnly(study, model, store, report)
        elif study.encoder == "local":
            backend = InProcess(study, model, store, report)
        else:
            import ray

            from semscale.study.cluster import connect

            if not ray.is_initialized():
                connect(study, store, report, stack)
            if study.server.urls:
                backend = NamedServers(study, model, store, report)
            else:
                logs = logs or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="semscale-")))
                backend = OwnServers(study, model, store, report, logs, stack)
        with backend.open() as encoder:
            yield encoder
