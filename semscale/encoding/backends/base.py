"""Encoding backend: what encodes for one model of a study, and which encoder it is."""

from __future__ import annotations

from abc import ABC, abstractmethod

from semscale.common.errors import StoreError
from semscale.common.progress import Reporter
from semscale.config import StudyConfig
from semscale.encoding.store_backed_encoder import StoreBackedEncoder
from semscale.models.model_fingerprint import model_origin
from semscale.store.encoder_fingerprint import (
    EncoderIdentity,
    cache_fingerprint,
    cached_fingerprint,
    evict_fingerprint,
)
from semscale.store.mirrored_directory import MirroredDirectory


class EncodingBackend(ABC):
    """What encodes for one model of a study, as its sections ``server`` and ``encoding`` say."""

    def __init__(self, study: StudyConfig, model: str, store: MirroredDirectory, report: Reporter) -> None:
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
    def open(self) -> StoreBackedEncoder:
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
            raise StoreError(what, where=self._model, found=found, expected=expected, hint=hint)
        if origin and origin == self._origin():  # files that changed meanwhile are not known
            cache_fingerprint(self._store, identity, origin)
        return identity
