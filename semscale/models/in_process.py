"""In-process model, computing as a server does; no jina."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from semscale.errors import SemscaleError, summarize
from semscale.models.encoder import BatchEncoder, Embeddings, text_fault
from semscale.models.loading import load_model

Content = TypeVar("Content")


class InProcessModel:
    """A model in this process that encodes with the server's minibatches, so that a CPU gives the server's bits.

    The arguments are those of :func:`semscale.models.loading.load_model`; `info` is what a server of this model says.
    """

    def __init__(self, name: str, device: str = "cpu", dtype: str | None = None) -> None:
        self._encoder = BatchEncoder(load_model(name, device, dtype))
        self.info = self._encoder.info

    def encode_images(self, pictures: Sequence[NDArray[np.uint8] | bytes]) -> tuple[Embeddings, list[str | None]]:
        """Encode pictures, uint8 (height, width, 3) of the model's size, or image files.

        Returns float32 [n, dimension], not normalised, zeros where there is a reason; and per picture None or the
        reason why it cannot be encoded.
        """

        def prepare(picture: NDArray[np.uint8] | bytes) -> NDArray[np.uint8]:
            return self._encoder.reader.decode(picture) if isinstance(picture, bytes) else picture

        return self._encode(pictures, prepare, lambda good: self._encoder.encode_pixels(np.stack(good)))

    def encode_texts(self, texts: Sequence[str]) -> tuple[Embeddings, list[str | None]]:
        """Encode texts; the same answer as for images."""

        def prepare(text: str) -> str:
            if fault := text_fault(text):
                raise ValueError(fault)
            return text

        return self._encode(texts, prepare, lambda good: self._encoder.encode_tokens(self._encoder.tokenize(good)))

    def _encode(
        self, contents: Sequence[Content], prepare: Callable[[Content], Any], encode: Callable[[list[Any]], Embeddings]
    ) -> tuple[Embeddings, list[str | None]]:
        rows = np.zeros((len(contents), self.info["embedding_dim"]), dtype=np.float32)
        reasons: list[str | None] = [None] * len(contents)
        prepared = {}
        for i, content in enumerate(contents):
            try:
                prepared[i] = prepare(content)
            except (ValueError, MemoryError) as error:
                reasons[i] = str(error) or type(error).__name__
        if prepared:
            try:
                rows[list(prepared)] = encode(list(prepared.values()))
            except torch.OutOfMemoryError as error:
                raise SemscaleError(
                    "the memory of the GPU is too small for a minibatch",
                    where=self.info["device_name"],
                    found=summarize(error),
                    hint="a smaller model, --device cpu, or `semscale serve --minibatch-size`",
                ) from error
        return rows, reasons
