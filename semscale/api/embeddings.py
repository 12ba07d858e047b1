"""Embeddings of images and texts, by a model in this process or by clip-servers."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from semscale.common.errors import SemscaleError
from semscale.common.progress import Quiet, Reporter, open_console, reporter
from semscale.config import study_from
from semscale.datasets.base import Dataset
from semscale.store.mirrored_directory import store_directory
from semscale.store.segment import Float32

if TYPE_CHECKING:
    from semscale.encoding.store_backed_encoder import StoreBackedEncoder


@dataclass(frozen=True)
class Images:
    """The n usable images of a dataset: a row each (``image``, ``file``, ``true_class``), index of the true class
    int32[n], and unit rows, float32 [n, dimension].
    """

    table: pd.DataFrame
    class_index: npt.NDArray[np.int32]
    embeddings: Float32


class Encoder(AbstractContextManager["Encoder"]):
    """Encodes images and texts with a CLIP model; what was encoded once, by whatever command, is not encoded again.

    Args:
        model: ``semscale-mini``, ``ARCHITECTURE::PRETRAINED`` of open_clip, ``hf-hub:NAME``, ``ARCHITECTURE::FILE``.
        servers: addresses of clip-servers, ``grpc://host:port``; without them the model runs in this process.
        device: ``cpu``, or ``cuda`` for a model in this process.
        dtype: ``fp32``, ``fp16`` or ``bf16``; default: fp32 on a CPU, fp16 on a GPU.
        store: folder of the embedding store; default: ``SEMSCALE_STORE`` or this user's cache.
        max_bad_fraction: a larger share of images that cannot be used is an error.
        progress: show what is going on.

    Nothing is loaded or started before the first call. With servers Ray is started; ``close()``, or the end of a
    ``with`` block, ends it.

    Attributes:
        model: the model's name.
        quarantine: a row per image that could not be used: ``dataset``, ``file``, ``reason``.

    >>> encoder = Encoder("semscale-mini")
    >>> encoder.texts(["cat", "dog"]).shape
    (2, 96)
    """

    def __init__(  # noqa: PLR0913 -- keywords are what people look up
        self,
        model: str = "semscale-mini",
        *,
        servers: str | Sequence[str] = (),
        device: str = "cpu",
        dtype: str | None = None,
        store: str | Path | None = None,
        max_bad_fraction: float = 0.01,
        progress: bool = False,
    ) -> None:
        urls = [servers] if isinstance(servers, str) else list(servers)
        self.model = model
        self.quarantine = pd.DataFrame(columns=["dataset", "file", "reason"])
        where = {"encoder": "server" if urls else "local", "server": {"urls": urls, "device": device, "dtype": dtype}}
        keys = {"models": [model], "max_bad_fraction": max_bad_fraction, "store": None if store is None else str(store)}
        self._study = study_from({**where, **keys}, where="Encoder")
        self._report: Reporter = reporter(open_console()) if progress else Quiet()
        self._stack = ExitStack()
        self._opened: StoreBackedEncoder | None = None
        # a notebook ends without closing anything
        self._end = weakref.finalize(self, self._stack.close)

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the model or the connections; what is encoded is kept, and the next call opens it again."""
        self._opened = None
        self._stack.close()

    @property
    def logit_scale(self) -> float:
        """What the model multiplies cosines with."""
        return self._encoder().identity.logit_scale

    def images(self, dataset: Dataset) -> Images:
        """Return the embeddings of a dataset's images; those that cannot be used go to :attr:`quarantine`.

        Raises:
            SemscaleError: too many images cannot be used, the model cannot be had, or no server answers.
        """
        encoder = self._encoder()
        n = len(dataset.samples)
        most = int(self._study.max_bad_fraction * (n + len(dataset.rejected)))
        with self._report.stage(f"encoding {dataset.name}", n, "images") as advance:
            found = encoder.encode_images(dataset, advance, most)
        bad = [(dataset.name, file, reason) for file, reason in found.quarantine.items()]
        rows = pd.DataFrame(bad, columns=self.quarantine.columns)
        self.quarantine = pd.concat([self.quarantine, rows]).drop_duplicates()
        samples = dataset.samples.pick(found.positions)
        classes = np.array(dataset.classes, dtype=object)[samples.class_index]
        table = pd.DataFrame({"image": found.positions, "file": samples.files(), "true_class": classes})
        return Images(table, samples.class_index, encoder.image_embeddings(found.keys))

    def texts(self, texts: Sequence[str]) -> Float32:
        """Return the embeddings of texts, float32 [len(texts), dimension], unit length.

        Raises:
            SemscaleError: a text is empty, the model cannot be had, or no server answers.
        """
        if isinstance(texts, str):
            raise SemscaleError("expected a list of texts", where="Encoder.texts", found=repr(texts))
        encoder = self._encoder()
        with self._report.stage("encoding texts", len(texts), "texts") as advance:
            encoder.encode_texts(list(texts), advance)
        return encoder.text_embeddings(texts)

    def _encoder(self) -> StoreBackedEncoder:
        if self._opened is None:
            from semscale.encoding.backends import open_encoder

            store = store_directory(self._study.store)
            self._opened = self._stack.enter_context(open_encoder(self._study, self.model, store, self._report))
        return self._opened
