"""Images and texts to embeddings, in minibatches of one fixed shape."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from semscale.serving.model import LoadedModel
from semscale.serving.pixels import PixelReader

Embeddings = NDArray[np.float32]


class BatchEncoder:
    """Encode pixels and texts so that a result does not depend on what else was in the request.

    A matrix product may add up in another order for another number of rows, so a model's output for one image
    depends (by up to 1e-6) on the size of the batch it is in. Every minibatch therefore has the same shape: the last
    one is filled up with zeros. Position and neighbours then change nothing, to the last bit.

    Args:
        loaded: the model on its device.
        minibatch_size: rows per minibatch.
    """

    def __init__(self, loaded: LoadedModel, minibatch_size: int) -> None:
        self._loaded = loaded
        self._device = torch.device(loaded.identity.device)
        self._dtype = loaded.torch_dtype
        self.minibatch_size = minibatch_size
        self.reader = PixelReader(loaded.preprocess, loaded.identity.image_size)

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
        result: torch.Tensor = self._loaded.model.encode_image(  # type: ignore[operator]
            self.reader.normalise(pixels).to(self._dtype)
        )
        return result

    def _text_tower(self, tokens: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self._loaded.model.encode_text(tokens)  # type: ignore[operator]
        return result

    def _in_fixed_shapes(self, rows: torch.Tensor, tower: Callable[[torch.Tensor], torch.Tensor]) -> Embeddings:
        results = []
        with torch.inference_mode():
            for start in range(0, len(rows), self.minibatch_size):
                batch = chunk = rows[start : start + self.minibatch_size]
                if len(chunk) < self.minibatch_size:
                    batch = chunk.new_zeros((self.minibatch_size, *chunk.shape[1:]))
                    batch[: len(chunk)] = chunk
                results.append(tower(batch.to(self._device))[: len(chunk)].float().cpu())
        embeddings: Embeddings = torch.cat(results).numpy()
        return embeddings
