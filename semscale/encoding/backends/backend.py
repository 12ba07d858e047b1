"""Encoding backend: computes the embeddings of one model of a study, and knows the model's fingerprint."""

from __future__ import annotations

from abc import ABC, abstractmethod

from semscale.common.errors import StoreError
from semscale.common.progress import ProgressReporter
from semscale.config import StudyConfig
from semscale.encoding.store_backed_encoder import StoreBackedEncoder
from semscale.models.model_fingerprint import model_files_digest
from semscale.store.encoder_fingerprint import (
    EncoderIdentity,
    cache_fingerprint,
    cached_fingerprint,
    evict_fingerprint,
)
from semscale.store.mirrored_directory import MirroredDirectory


class EncodingBackend(ABC):
    """Base of the backends, configured by the sections ``server`` and ``encoding`` of a study."""

    def __init__(self, study: StudyConfig, model: str, store: MirroredDirectory, report: ProgressReporter) -> None:
        self._study, self._model, self._store, self._report = study, model, store, report
        self._draft = study.encoding.draft
        self._identity: EncoderIdentity | None = None

    def fingerprint(self) -> EncoderIdentity:
        """Return the encoder's identity; a model whose files were loaded before is neither loaded nor started."""
        if self._identity is None:
            self._identity = self._cached() or self._identify()
            if self._identity.info and (note := self._identity.info.get("note")):
                self._report.note(f"{self._model}: {note}")
        return self._identity

    @abstractmethod
    def open(self) -> StoreBackedEncoder:
        """Return the encoder, a context manager."""

    @abstractmethod
    def _identify(self) -> EncoderIdentity:
        """Load the model, or ask the servers, and return the identity."""

    def _files_digest(self) -> str | None:
        """Return the digest of the model's files if they are on this machine; it differs for draft decoding."""
        digest = model_files_digest(self._model, self._study.server.device, self._study.server.dtype)
        return f"{digest}-draft" if digest and self._draft else digest

    def _cached(self) -> EncoderIdentity | None:
        digest = self._files_digest()
        return cached_fingerprint(self._store, self._model, digest, self._draft) if digest else None

    def _accept(self, identity: EncoderIdentity, files_digest: str | None) -> EncoderIdentity:
        """Cache and return the identity of the loaded model; StoreError if another one was cached for its files."""
        found, expected = identity.fingerprint, (self._identity or identity).fingerprint
        if found != expected:
            if files_digest:
                evict_fingerprint(self._store, files_digest)
            what, hint = "it is another encoder than the model's files gave before", "run the same command again"
            raise StoreError(what, where=self._model, found=found, expected=expected, hint=hint)
        if files_digest and files_digest == self._files_digest():  # not if they changed meanwhile
            cache_fingerprint(self._store, identity, files_digest)
        return identity
