"""Batch encoder: images and texts to embeddings, in minibatches of one fixed shape."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from semscale.models.loading import LoadedModel
from semscale.models.transforms import PixelReader

Embeddings = NDArray[np.float32]

# Tokenisers cut a text at some 77 tokens; a text as long as a book is a mistake and costs seconds to tokenise.
MAX_TEXT_CHARACTERS = 20_000


class BatchEncoder:
    """Encode pixels and texts so that a result does not depend on what else was in the request.

    A matrix product may add up in another order for another number of rows, so a model's output for one image
    depends (by up to 1e-6) on the size of the batch it is in. Every minibatch therefore has the same shape: the last
    one is filled up with zeros. Position and neighbours then change nothing, to the last bit.

    Args:
        loaded: the model on its device.
        minibatch_size: rows per minibatch.
        compiled: compile the towers with ``torch.compile``, which takes a minute, here; results then differ in the last
            bits from those of the plain model.
    """

    def __init__(self, loaded: LoadedModel, minibatch_size: int, compiled: bool = False) -> None:
        self._loaded = loaded
        self._images: Callable[[torch.Tensor], torch.Tensor] = loaded.model.encode_image  # type: ignore[assignment]
        self._texts: Callable[[torch.Tensor], torch.Tensor] = loaded.model.encode_text  # type: ignore[assignment]
        self._device = torch.device(loaded.identity.device)
        self._dtype = loaded.torch_dtype
        self.minibatch_size = minibatch_size
        self.reader = PixelReader(loaded.preprocess, loaded.identity.image_size)
        if compiled:
            self._images = torch.compile(self._images, dynamic=False)
            self._texts = torch.compile(self._texts, dynamic=False)
            # now and not amid the first request, which has a deadline
            height, width = loaded.identity.image_size
            self.encode_pixels(np.zeros((1, height, width, 3), dtype=np.uint8))
            self.encode_tokens(torch.zeros(1, loaded.identity.context_length, dtype=torch.long))

    def tokenize(self, texts: Sequence[str]) -> torch.Tensor:
        """Tokenise texts with the model's own tokenizer: int64 (n, context_length), longer texts are cut."""
        return self._loaded.tokenizer(list(texts))

    def encode_pixels(self, pixels: NDArray[np.uint8]) -> Embeddings:
        """Encode uint8 pixels (n, height, width, 3) to float32 (n, embedding_dim), not normalised."""
        return self._in_fixed_shapes(torch.from_numpy(pixels), self._image_tower)

    def encode_tokens(self, tokens: torch.Tensor) -> Embeddings:
        """Encode token rows (n, context_length) to float32 (n, embedding_dim), not normalised."""
        return self._in_fixed_shapes(tokens, self._text_tower)

    def _image_tower(self, pixels: torch.Tensor) -> torch.Tensor:
        return self._images(self.reader.normalise(pixels).to(self._dtype))

    def _text_tower(self, tokens: torch.Tensor) -> torch.Tensor:
        return self._texts(tokens)

    def _in_fixed_shapes(self, rows: torch.Tensor, tower: Callable[[torch.Tensor], torch.Tensor]) -> Embeddings:
        results = []
        with torch.inference_mode():
            for start in range(0, len(rows), self.minibatch_size):
                batch = chunk = rows[start : start + self.minibatch_size]
                if len(chunk) < self.minibatch_size:
                    batch = chunk.new_zeros((self.minibatch_size, *chunk.shape[1:]))
                    batch[: len(chunk)] = chunk
                results.append(tower(self._on_device(batch))[: len(chunk)].float())
            # one wait for the device, and not one for every minibatch
            embeddings: Embeddings = torch.cat(results).cpu().numpy()
        return embeddings

    def _on_device(self, batch: torch.Tensor) -> torch.Tensor:
        if self._device.type == "cpu":
            return batch
        # from pinned memory the copy runs beside the minibatch before
        return batch.pin_memory().to(self._device, non_blocking=True)


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
