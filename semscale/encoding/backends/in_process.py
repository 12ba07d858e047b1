"""Backends without servers: a model in this process, or the embedding store alone."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np

from semscale.common.errors import ServerError
from semscale.encoding.backends.base import EncodingBackend
from semscale.encoding.image_pipeline import check_draft
from semscale.encoding.local_encoder import LocalEncoder
from semscale.encoding.store_backed_encoder import StoreBackedEncoder
from semscale.store.encoder_fingerprint import PROBE_TEXT, EncoderIdentity, check_probe, probe_image, stored_identity
from semscale.store.segment import l2_normalize

if TYPE_CHECKING:  # torch comes with it
    from semscale.models.model_encoder import InProcessModel


class StoreOnly(EncodingBackend):
    """The embedding store alone: everything that a study needs must be in it."""

    def open(self) -> StoreBackedEncoder:
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
        raise ServerError(what, where=where, found=", ".join(one.fingerprint for one in found) or None, hint=hint)


class InProcess(EncodingBackend):
    """A model in this process, which is loaded once and only when it is needed."""

    _loaded: InProcessModel | None = None

    def open(self) -> StoreBackedEncoder:
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
            from semscale.models.model_encoder import InProcessModel
        except ModuleNotFoundError as error:
            what, hint = "encoding in this process needs open_clip and torch", 'pip install "semscale[server]"'
            raise ServerError(what, where="encoder: local", found=f"no module {error.name}", hint=hint) from error
        with warnings.catch_warnings():
            # in a notebook tqdm, which comes with the hub's client, asks for widgets that nothing here needs
            warnings.filterwarnings("ignore", message="IProgress not found")
            where = self._study.server
            return InProcessModel(self._model, where.device, where.dtype, where.trust_remote_code)

    def _verify(self, loaded: InProcessModel) -> EncoderIdentity:
        identity = EncoderIdentity.of(self._model, loaded.info, int(loaded.info["embedding_dim"]), self._draft)
        check_draft(identity, self._model)
        image, of_image = loaded.encode_images([probe_image()])
        text, of_text = loaded.encode_texts([PROBE_TEXT])
        probe, reasons = np.concatenate([image, text]), [*of_image, *of_text]
        l2_normalize(probe, reasons, "the model gave")
        if fault := next((reason for reason in reasons if reason is not None), None):
            raise ServerError("the model cannot encode", where=self._model, found=fault)
        check_probe(self._model, identity, probe, self._store)
        return identity
