"""Backends without servers: a model in this process, or the embedding store alone."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np

from semscale.common.errors import ModelError, ServerError, StoreError
from semscale.encoding.backends.backend import EncodingBackend
from semscale.encoding.image_pipeline import check_draft
from semscale.encoding.local_encoder import LocalEncoder
from semscale.encoding.store_backed_encoder import StoreBackedEncoder
from semscale.store.encoder_fingerprint import PROBE_TEXT, EncoderIdentity, check_probe, probe_image, stored_identity
from semscale.store.segment import l2_normalize

if TYPE_CHECKING:  # importing it imports torch
    from semscale.models.model_encoder import InProcessModel


class StoreOnly(EncodingBackend):
    """The embedding store alone: everything that a study needs must be stored."""

    def open(self) -> StoreBackedEncoder:
        """Return an encoder that only reads the store."""
        return LocalEncoder(self.fingerprint(), None, self._store)

    def _identify(self) -> EncoderIdentity:
        folders = [name.partition("/")[0] for name in self._store.find("*/encoder.json")]
        stored = [stored_identity(self._store, name, self._model, self._draft) for name in folders]
        matches = [identity for identity in stored if identity is not None]
        dtype = self._study.server.dtype
        if dtype is not None and len(matches) > 1:
            matches = [identity for identity in matches if identity.info is None or identity.info.get("dtype") == dtype]
        if len(matches) == 1:
            return matches[0]
        content, hint = "no rows", "encode the study first, with the same --store: semscale encode STUDY"
        if matches:
            content, hint = "several encoders", "name the servers and use `semscale sweep`, or set server: {dtype: ...}"
        what, where = f"the embedding store has {content} of this model", f"{self._model}, {self._store}"
        found = ", ".join(identity.fingerprint for identity in matches) or None
        raise StoreError(what, where=where, found=found, hint=hint)


class InProcess(EncodingBackend):
    """A model in this process, loaded once and on demand."""

    _loaded: InProcessModel | None = None

    def open(self) -> StoreBackedEncoder:
        """Return the in-process encoder."""
        return LocalEncoder(self.fingerprint(), self.load, self._store)

    def load(self) -> InProcessModel:
        """Return the model; SemscaleError if it cannot be loaded or its fingerprint has changed."""
        self._identify()
        assert self._loaded is not None
        return self._loaded

    def _identify(self) -> EncoderIdentity:
        if self._loaded is None or self._identity is None:
            files_digest = self._files_digest()
            self._report.note(f"loading {self._model}")
            loaded = self._load_model()
            self._identity = self._accept(self._verify(loaded), files_digest)
            self._loaded = loaded
        return self._identity

    def _load_model(self) -> InProcessModel:
        try:
            from semscale.models.model_encoder import InProcessModel
        except ModuleNotFoundError as error:
            what, hint = "encoding in this process needs open_clip and torch", 'pip install "semscale[server]"'
            raise ModelError(what, where="encoder: local", found=f"no module {error.name}", hint=hint) from error
        with warnings.catch_warnings():
            # tqdm, which the hub's client uses, warns in notebooks without widgets
            warnings.filterwarnings("ignore", message="IProgress not found")
            server = self._study.server
            return InProcessModel(self._model, server.device, server.dtype, server.trust_remote_code)

    def _verify(self, loaded: InProcessModel) -> EncoderIdentity:
        identity = EncoderIdentity.of(self._model, loaded.info, int(loaded.info["embedding_dim"]), self._draft)
        check_draft(identity, self._model)
        image, image_reasons = loaded.encode_images([probe_image()])
        text, text_reasons = loaded.encode_texts([PROBE_TEXT])
        probe, reasons = np.concatenate([image, text]), [*image_reasons, *text_reasons]
        l2_normalize(probe, reasons, "the model gave")
        if reason := next((reason for reason in reasons if reason is not None), None):
            raise ServerError("the model cannot encode", where=self._model, found=reason)
        check_probe(self._model, identity, probe, self._store)
        return identity
