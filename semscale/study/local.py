"""A model in this process, where a study says ``encoder: local``: it stands where the clip-servers do."""

from __future__ import annotations

import warnings
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np

from semscale.config import StudyConfig
from semscale.encoding.encoder_fingerprint import (
    PROBE_TEXT,
    EncoderIdentity,
    check_probe,
    fingerprint_of,
    forget_origin,
    probe_image,
    recall_origin,
    remember_origin,
    takes_packed,
)
from semscale.encoding.folder import Folder
from semscale.encoding.image_pipeline import can_prepare
from semscale.encoding.segment import to_unit
from semscale.errors import SemscaleError
from semscale.models.model_fingerprint import model_origin
from semscale.study.progress import Reporter

if TYPE_CHECKING:
    from semscale.models.in_process import InProcessModel  # torch comes with it


class LocalModel:
    """Loads the model when it is needed; a context manager like :class:`semscale.study.endpoints.Endpoints`.

    Args:
        study: its sections ``server`` and ``encoding`` say device, precision and draft decoding.
        model: the model's name.
        store: root of the embedding store.
        report: says that the model is loaded.
    """

    def __init__(self, study: StudyConfig, model: str, store: Folder, report: Reporter) -> None:
        self._settings = study.server
        self._draft = study.encoding.draft
        self._model = model
        self._store = store
        self._report = report
        self._identity: EncoderIdentity | None = None
        self._loaded: InProcessModel | None = None

    def __enter__(self) -> LocalModel:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loaded = None

    def identity(self) -> EncoderIdentity:
        """Return which encoder it is; the model is loaded for the answer unless its files were loaded before.

        Raises:
            SemscaleError: the model cannot be had, or gives other embeddings than those in the store.
        """
        if self._identity is None:
            origin = self._origin()
            self._identity = recall_origin(self._store, self._model, origin, self._draft) if origin else None
        if self._identity is None:
            self.load()
        assert self._identity is not None
        return self._identity

    def load(self) -> InProcessModel:
        """Return the model, loaded once.

        Raises:
            SemscaleError: it cannot be had, is not what :meth:`identity` said, or gives other embeddings than before.
        """
        if self._loaded is None:
            origin = self._origin()
            self._report.note(f"loading {self._model}")
            with warnings.catch_warnings():
                # in a notebook tqdm, which comes with the hub's client, asks for widgets that nothing here needs
                warnings.filterwarnings("ignore", message="IProgress not found")
                loaded = self._read()
            self._identity = self._identify(loaded, origin)
            self._loaded = loaded
        return self._loaded

    def _read(self) -> InProcessModel:
        try:
            from semscale.models.in_process import InProcessModel
        except ModuleNotFoundError as error:
            raise SemscaleError(
                "encoding in this process needs open_clip and torch",
                where="encoder: local",
                found=f"no module {error.name}",
                hint='pip install "semscale[server]", or name servers with --server',
            ) from error
        return InProcessModel(self._model, self._settings.device, self._settings.dtype)

    def _identify(self, loaded: InProcessModel, origin: str | None) -> EncoderIdentity:
        info, draft = loaded.info, self._draft
        dimension = int(info["embedding_dim"])
        fingerprint = fingerprint_of(self._model, info, dimension, draft)
        known = self._identity
        if known is not None and known.fingerprint != fingerprint:
            if origin:
                forget_origin(self._store, origin)
            raise SemscaleError(
                "the model is another encoder than its files gave before",
                where=self._model,
                found=fingerprint,
                expected=known.fingerprint,
                hint="give the same command again: it loads the model first",
            )
        identity = EncoderIdentity(self._model, fingerprint, dimension, info, takes_packed(info), draft)
        if draft and not can_prepare(identity.preprocess):
            raise SemscaleError(
                "draft decoding needs a model whose preprocessing is known",
                where=self._model,
                hint="leave encoding.draft away",
            )
        image, of_image = loaded.encode_images([probe_image()])
        text, of_text = loaded.encode_texts([PROBE_TEXT])
        probe, reasons = np.concatenate([image, text]), [*of_image, *of_text]
        to_unit(probe, reasons, "the model gave")
        if fault := next((reason for reason in reasons if reason is not None), None):
            raise SemscaleError("the model cannot encode", where=self._model, found=fault)
        check_probe(self._model, identity, probe, self._store)
        if origin and origin == self._origin():
            remember_origin(self._store, identity, origin)
        return identity

    def _origin(self) -> str | None:
        origin = model_origin(self._model, self._settings.device, self._settings.dtype)
        return f"{origin}-draft" if origin and self._draft else origin
