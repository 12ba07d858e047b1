"""Batch encoder: images and texts to embeddings, in minibatches of one fixed shape."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from semscale.models.loading import LoadedModel
from semscale.models.transforms import PixelReader
from semscale.text import package_version

Embeddings = NDArray[np.float32]

# Tokenisers cut a text at some 77 tokens; a text as long as a book is a mistake and costs seconds to tokenise.
MAX_TEXT_CHARACTERS = 20_000
_PACKAGES = {"semscale": "semscale", "torch": "torch", "open_clip": "open_clip_torch"}


class BatchEncoder:
    """Encode pixels and texts so that a result does not depend on what else was in the request.

    A matrix product may add up in another order for another number of rows, so a model's output for one image
    depends (by up to 1e-6) on the size of the batch it is in. Every minibatch therefore has the same shape: the last
    one is filled up with zeros. Position and neighbours then change nothing, to the last bit.

    Args:
        loaded: the model on its device.
        minibatch_size: rows per minibatch; None: see :func:`minibatch_rows`.
        compiled: compile the towers with ``torch.compile``, which takes a minute, here; results then differ in the last
            bits from those of the plain model.
    """

    def __init__(self, loaded: LoadedModel, minibatch_size: int | None = None, compiled: bool = False) -> None:
        identity = loaded.identity
        self._loaded = loaded
        self._images: Callable[[torch.Tensor], torch.Tensor] = loaded.model.encode_image  # type: ignore[assignment]
        self._texts: Callable[[torch.Tensor], torch.Tensor] = loaded.model.encode_text  # type: ignore[assignment]
        self._device = torch.device(identity.device)
        self.minibatch_size = minibatch_size or minibatch_rows(identity.device, identity.image_size)
        self.reader = PixelReader(loaded.preprocess, identity.image_size)
        self.info: dict[str, Any] = asdict(identity) | {
            "image_size": list(identity.image_size),
            "minibatch_size": self.minibatch_size,
            "fixed_shapes": True,
            "packed": True,
            **({"compiled": True} if compiled else {}),
            "versions": {name: package_version(package) or "unknown" for name, package in _PACKAGES.items()},
        }
        if compiled:
            self._images = torch.compile(self._images, dynamic=False)
            self._texts = torch.compile(self._texts, dynamic=False)
            # now and not amid the first request, which has a deadline
            self.encode_pixels(np.zeros((1, *identity.image_size, 3), dtype=np.uint8))
            self.encode_tokens(torch.zeros(1, identity.context_length, dtype=torch.long))

    def tokenize(self, texts: Sequence[str]) -> torch.Tensor:
        """Tokenise texts with the model's own tokenizer: int64 (n, context_length), longer texts are cut."""
        return self._loaded.tokenizer(list(texts))

    def encode_pixels(self, pixels: NDArray[np.uint8]) -> Embeddings:
        """Encode uint8 pixels (n, height, width, 3) to float32 (n, embedding_dim), not normalised."""
        dtype = self._loaded.torch_dtype
        return self._in_fixed_shapes(
            torch.from_numpy(pixels), lambda batch: self._images(self.reader.normalise(batch).to(dtype))
        )

    def encode_tokens(self, tokens: torch.Tensor) -> Embeddings:
        """Encode token rows (n, context_length) to float32 (n, embedding_dim), not normalised."""
        return self._in_fixed_shapes(tokens, self._texts)

    def _in_fixed_shapes(self, rows: torch.Tensor, tower: Callable[[torch.Tensor], torch.Tensor]) -> Embeddings:
        results = []
        with torch.inference_mode():
            for start in range(0, len(rows), self.minibatch_size):
                batch = chunk = rows[start : start + self.minibatch_size]
                if len(chunk) < self.minibatch_size:
                    batch = chunk.new_zeros((self.minibatch_size, *chunk.shape[1:]))
                    batch[: len(chunk)] = chunk
                if self._device.type != "cpu":
                    # from pinned memory the copy runs beside the minibatch before
                    batch = batch.pin_memory().to(self._device, non_blocking=True)
                results.append(tower(batch)[: len(chunk)].float())
            # one wait for the device, and not one for every minibatch
            embeddings: Embeddings = torch.cat(results).cpu().numpy()
        return embeddings


def minibatch_rows(device: str, image_size: tuple[int, int]) -> int:
    """Return how many rows a model computes at once unless somebody says otherwise.

    On a CPU 16 pictures of 224 pixels keep the cores as busy as more would, and a request of one picture, filled up to
    as many rows, is not kept waiting; of smaller pictures it takes up to 64 before the cost of a call vanishes.

    >>> minibatch_rows("cpu", (224, 224)), minibatch_rows("cpu", (40, 40)), minibatch_rows("cuda:1", (224, 224))
    (16, 64, 256)
    """
    if device.startswith("cuda"):
        return 256
    rows = 16 * 224 * 224 // max(1, image_size[0] * image_size[1])
    return 16 if rows < 32 else 32 if rows < 64 else 64


def text_fault(text: str) -> str | None:
    """Say why a text cannot be encoded; None if it can.

    >>> text_fault("  "), text_fault("a dog")
    ('the text is empty', None)
    """
    if not text.strip():
        return "the text is empty"
    if len(text) > MAX_TEXT_CHARACTERS:
        return f"a text of {len(text)} characters is longer than {MAX_TEXT_CHARACTERS}"
    return None
