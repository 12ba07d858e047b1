"""A model without servers: everything that a study needs must be in the store already."""

from __future__ import annotations

import json
from pathlib import Path

from semscale.access import Access
from semscale.config import StudyConfig
from semscale.encoding.encoder_fingerprint import (
    EncoderIdentity,
    fingerprint_of,
    recall_origin,
    record_of,
    takes_packed,
)
from semscale.encoding.folder import Folder
from semscale.errors import SemscaleError
from semscale.models.model_fingerprint import model_origin


class StoredModel:
    """Stands where :class:`semscale.study.endpoints.Endpoints` does, and has nobody to send anything to.

    Args:
        study: its sections ``server`` and ``encoding`` tell encoders of one model apart.
        model: the model's name.
        store: root of the embedding store.
    """

    def __init__(self, study: StudyConfig, model: str, store: Folder) -> None:
        self.access = Access()
        self._server = study.server
        self._draft = study.encoding.draft
        self._model = model
        self._store = store

    def identity(self) -> EncoderIdentity:
        """Return the encoder of this model whose rows are in the store.

        Where the model's files are on this machine they decide, else there must be one encoder of this name only.

        Raises:
            SemscaleError: the store has no encoder of the model, or several.
        """
        origin = model_origin(self._model, self._server.device, self._server.dtype)
        if origin:
            known = recall_origin(self._store, self._model, f"{origin}-draft" if self._draft else origin, self._draft)
            if known is not None:
                return known
        folders = [name.partition("/")[0] for name in self._store.find("*/encoder.json")]
        found = [one for name in folders if (one := self._read(record_of(self._store / name))) is not None]
        wanted = self._server.dtype
        if wanted is not None and len(found) > 1:
            found = [one for one in found if one.info is None or one.info.get("dtype") == wanted]
        if len(found) == 1:
            return found[0]
        raise SemscaleError(
            "the embedding store has several encoders of this model"
            if found
            else "the embedding store has no rows of this model",
            where=f"{self._model}, {self._store}",
            found=", ".join(one.fingerprint for one in found) or None,
            hint="name the servers and use `semscale sweep`, or say server: {dtype: ...}"
            if found
            else "encode the study first, with the same --store: semscale encode STUDY",
        )

    def servers(self) -> None:
        """Return None: there are none."""
        return

    def revive(self) -> None:
        """Return None: there is nothing to start."""
        return

    def watch(self) -> None:
        """Return None: nobody comes."""
        return

    def _read(self, path: Path) -> EncoderIdentity | None:
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            info, dimension = record["info"], len(record["probe"][0])
        except (OSError, ValueError, KeyError, IndexError, TypeError):
            return None
        # the folder's name holds all that decides an embedding, a stock server's model name too
        if fingerprint_of(self._model, info, dimension, self._draft) != path.parent.name:
            return None
        if info is not None and info.get("name") != self._model:
            return None
        return EncoderIdentity(self._model, path.parent.name, dimension, info, takes_packed(info), self._draft)
