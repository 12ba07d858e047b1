"""Encoder of images and texts: a model in this process or clip-servers."""

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

from semscale.common.errors import CategoryError
from semscale.common.progress import ProgressReporter, SilentReporter, choose_reporter, open_console
from semscale.config import study_from
from semscale.datasets.dataset import Dataset
from semscale.store.mirrored_directory import store_directory
from semscale.store.segment import Float32

if TYPE_CHECKING:
    from semscale.encoding.store_backed_encoder import StoreBackedEncoder


@dataclass(frozen=True)
class Images:
    """Usable images of a dataset: a row each (``image``, ``file``, ``true_class``), class indices int32[n], and
    unit-length embeddings, float32 [n, dimension].
    """

    table: pd.DataFrame
    class_index: npt.NDArray[np.int32]
    embeddings: Float32


class Encoder(AbstractContextManager["Encoder"]):
    """Encoder of images and texts with a CLIP model; what the embedding store has is not encoded again.

    Args:
        model: ``semscale-mini``, ``ARCHITECTURE::PRETRAINED`` of open_clip, ``hf-hub:NAME``, ``ARCHITECTURE::FILE``.
        servers: addresses of clip-servers, ``grpc://host:port``; without them the model runs in this process.
        device: ``cpu`` or ``cuda``, for a model in this process.
        dtype: ``fp32``, ``fp16`` or ``bf16``; default: fp32 on a CPU, fp16 on a GPU.
        store: folder of the embedding store; default: ``SEMSCALE_STORE`` or the user's cache.
        max_bad_fraction: largest accepted share of unusable images.
        progress: show progress.

    Nothing is loaded or started before the first call. With servers it starts Ray, until ``close()`` or the end of a
    ``with`` block.

    Attributes:
        model: the model's name.
        quarantine: a row per unusable image: ``dataset``, ``file``, ``reason``.

    >>> encoder = Encoder("semscale-mini")
    >>> encoder.texts(["cat", "dog"]).shape
    (2, 96)
    """

    def __init__(  # noqa: PLR0913 -- public keywords
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
        backend = {"encoder": "server" if urls else "local", "server": {"urls": urls, "device": device, "dtype": dtype}}
        keys = {"models": [model], "max_bad_fraction": max_bad_fraction, "store": None if store is None else str(store)}
        self._study = study_from({**backend, **keys}, where="Encoder")
        self._report: ProgressReporter = choose_reporter(open_console()) if progress else SilentReporter()
        self._stack = ExitStack()
        self._opened: StoreBackedEncoder | None = None
        # notebooks close nothing
        self._finalizer = weakref.finalize(self, self._stack.close)

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the model or the connections; stored embeddings are kept, and the next call opens them again."""
        self._opened = None
        self._stack.close()

    @property
    def logit_scale(self) -> float:
        """Factor by which the model multiplies cosines."""
        return self._encoder().identity.logit_scale

    def images(self, dataset: Dataset) -> Images:
        """Return the embeddings of a dataset's images; unusable ones are added to :attr:`quarantine`.

        Raises:
            DatasetError: too many images are unusable.
            ModelError: the model cannot be loaded.
            ServerError: no server answers.
            StoreError: the embedding store cannot be read or written.
        """
        encoder = self._encoder()
        n = len(dataset.samples)
        most = int(self._study.max_bad_fraction * (n + len(dataset.rejected)))
        with self._report.stage(f"encoding {dataset.name}", n, "images") as advance:
            encoded = encoder.encode_images(dataset, advance, most)
        bad = [(dataset.name, file, reason) for file, reason in encoded.quarantine.items()]
        rows = pd.DataFrame(bad, columns=self.quarantine.columns)
        self.quarantine = pd.concat([self.quarantine, rows]).drop_duplicates()
        samples = dataset.samples.pick(encoded.positions)
        classes = np.array(dataset.classes, dtype=object)[samples.class_index]
        table = pd.DataFrame({"image": encoded.positions, "file": samples.files(), "true_class": classes})
        return Images(table, samples.class_index, encoder.image_embeddings(encoded.keys))

    def texts(self, texts: Sequence[str]) -> Float32:
        """Return the unit-length embeddings of texts, float32 [len(texts), dimension].

        Raises:
            CategoryError: a single text instead of a list.
            SemscaleError: as for :meth:`images`.
        """
        if isinstance(texts, str):
            raise CategoryError("expected a list of texts", where="Encoder.texts", found=repr(texts))
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
