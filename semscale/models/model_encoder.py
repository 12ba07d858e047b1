"""Encoder of a loaded model: pixel transforms, and embeddings in minibatches of a fixed shape."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torchvision.transforms import Normalize

from semscale.common.errors import ModelError, summarize
from semscale.common.text import check_text, package_version
from semscale.models.loading import DTYPES, LoadedModel, load_model

Embeddings = NDArray[np.float32]
Content = TypeVar("Content")

# Resizing the shorter edge to the model's size blows up a very long image: 1 x 50,000 pixels would need 7.5 GB.
MAX_RESIZED_PIXELS = 32_000_000
_PACKAGES = {"semscale": "semscale", "torch": "torch", "open_clip": "open_clip_torch"}


class PixelTransform:
    """open_clip's inference transform with uint8 pixels as an intermediate result.

    The transform ends in ToTensor and Normalize, both elementwise: for a whole batch they give the same bits at less
    cost per image, and a GPU receives a quarter of the bytes. `size` is (height, width) of the result in pixels.
    """

    def __init__(self, preprocess: Any, size: tuple[int, int]) -> None:
        *geometry, to_tensor, normalize = preprocess.transforms
        if not type(to_tensor).__name__.endswith("ToTensor") or not isinstance(normalize, Normalize):
            raise TypeError(f"Expected a transform that ends in ToTensor, Normalize, but got {preprocess}")
        self._geometry: list[Callable[[Image.Image], Image.Image]] = geometry
        self._mean = torch.as_tensor(normalize.mean, dtype=torch.float32).view(1, 3, 1, 1)
        self._std = torch.as_tensor(normalize.std, dtype=torch.float32).view(1, 3, 1, 1)
        self.size = size

    def decode(self, blob: bytes) -> NDArray[np.uint8]:
        """Decode an image file to uint8 (height, width, 3); raise ValueError if it is damaged or too large."""
        try:
            with Image.open(io.BytesIO(blob)) as image:
                return self.resize(image)
        except ValueError:
            raise
        except MemoryError as error:  # not the fault of the image
            hint = "free some memory, and run the same command again: what is encoded is kept"
            raise ModelError("the memory is too small for an image", hint=hint) from error
        except Exception as error:  # Pillow's plugins raise any kind for a damaged file
            reason = re.sub(r" ?<_io.BytesIO object at 0x[0-9a-f]+>", "", f"{type(error).__name__}: {error}")
            raise ValueError(reason) from error

    def resize(self, image: Image.Image) -> NDArray[np.uint8]:
        """Resize, crop and convert an open image to uint8 (height, width, 3)."""
        height, width = self.size
        longer, shorter = max(image.size), min(image.size)
        if height * width * longer > MAX_RESIZED_PIXELS * shorter:
            raise ValueError(f"an image of {image.size[0]} x {image.size[1]} pixels is too long to be resized")
        for step in self._geometry:
            image = step(image)
        return np.asarray(image, dtype=np.uint8)

    def normalise(self, pixels: torch.Tensor) -> torch.Tensor:
        """Convert uint8 (n, height, width, 3) to float32 (n, 3, height, width): (x / 255 - mean) / std."""
        mean, std = self._mean.to(pixels.device), self._std.to(pixels.device)
        planes = pixels.permute(0, 3, 1, 2).contiguous().to(torch.float32)
        return planes.div_(255).sub_(mean).div_(std)


class BatchEncoder:
    """Batch-invariant encoder of pixels and texts: results do not depend on the rest of a request.

    A matrix product may sum in another order for another number of rows, so that a model's output for an image
    depends (by up to 1e-6) on the size of its batch. Therefore every minibatch has the same shape: the last one is
    padded with zeros. Position and neighbours then change nothing, to the last bit; only the latent pool of timm towers
    (SigLIP) may round differently at another position on several threads.

    `minibatch_size` None: see :func:`default_minibatch_size`. ``torch.compile`` takes a minute, and changes the last
    bits of the results.
    """

    def __init__(self, loaded: LoadedModel, minibatch_size: int | None = None, compiled: bool = False) -> None:
        info, (height, width) = loaded.info, loaded.info["image_size"]
        self._tokenizer = loaded.tokenizer
        self._image_tower: Callable[[torch.Tensor], torch.Tensor] = loaded.model.encode_image  # type: ignore[assignment]
        self._text_tower: Callable[[torch.Tensor], torch.Tensor] = loaded.model.encode_text  # type: ignore[assignment]
        self._device = torch.device(info["device"])
        self.minibatch_size = minibatch_size or default_minibatch_size(info["device"], height, width)
        self.transform = PixelTransform(loaded.preprocess, (height, width))
        self.info: dict[str, Any] = info | {
            "minibatch_size": self.minibatch_size,
            "fixed_shapes": True,
            "packed": True,
            **({"compiled": True} if compiled else {}),
            "versions": {name: package_version(package) or "unknown" for name, package in _PACKAGES.items()},
        }
        if compiled:
            self._image_tower = torch.compile(self._image_tower, dynamic=False)
            self._text_tower = torch.compile(self._text_tower, dynamic=False)
            # now, since the first request has a deadline
            self.encode_pixels(np.zeros((1, height, width, 3), dtype=np.uint8))
            self.encode_texts([""])

    def encode_pixels(self, pixels: NDArray[np.uint8]) -> Embeddings:
        """Encode uint8 pixels (n, height, width, 3) to float32 (n, embedding_dim), not normalised."""
        dtype = DTYPES[self.info["dtype"]]
        return self._in_fixed_shapes(
            torch.from_numpy(pixels), lambda batch: self._image_tower(self.transform.normalise(batch).to(dtype))
        )

    def encode_texts(self, texts: Sequence[str]) -> Embeddings:
        """Encode texts, truncated to the model's context length, to float32 (n, embedding_dim), not normalised."""
        return self._in_fixed_shapes(self._tokenizer(list(texts)), self._text_tower)

    def _in_fixed_shapes(self, rows: torch.Tensor, tower: Callable[[torch.Tensor], torch.Tensor]) -> Embeddings:
        results = []
        with torch.inference_mode():
            for start in range(0, len(rows), self.minibatch_size):
                batch = chunk = rows[start : start + self.minibatch_size]
                if len(chunk) < self.minibatch_size:
                    batch = chunk.new_zeros((self.minibatch_size, *chunk.shape[1:]))
                    batch[: len(chunk)] = chunk
                if self._device.type != "cpu":
                    # from pinned memory the copy overlaps with the previous minibatch
                    batch = batch.pin_memory().to(self._device, non_blocking=True)
                results.append(tower(batch)[: len(chunk)].float())
            # waits for the device once, not per minibatch
            embeddings: Embeddings = torch.cat(results).cpu().numpy()
        return embeddings


def default_minibatch_size(device: str, height: int, width: int) -> int:
    """Return the default number of rows per minibatch.

    On a CPU 16 images of 224 pixels use the cores fully, and a request with one image, padded to as many rows, stays
    fast; smaller images need up to 64 rows until the cost of a call is negligible.

    >>> [default_minibatch_size(*case) for case in (("cpu", 224, 224), ("cpu", 40, 40), ("cuda:1", 224, 224))]
    [16, 64, 256]
    """
    if device.startswith("cuda"):
        return 256
    rows = 16 * 224 * 224 // (height * width)
    return 16 if rows < 32 else 32 if rows < 64 else 64


class InProcessModel:
    """Model in this process that encodes with the server's minibatches, on a CPU with the same bits.

    The arguments are those of :func:`semscale.models.loading.load_model`; `info` equals that of a server of the model.
    """

    def __init__(
        self, name: str, device: str = "cpu", dtype: str | None = None, trust_remote_code: bool = False
    ) -> None:
        self._encoder = BatchEncoder(load_model(name, device, dtype, trust_remote_code))
        self.info = self._encoder.info

    def encode_images(self, images: Sequence[NDArray[np.uint8] | bytes]) -> tuple[Embeddings, list[str | None]]:
        """Encode images, uint8 (height, width, 3) of the model's size, or image files.

        Returns float32 (n, embedding_dim), not normalised, and per image None or the reason why it cannot be encoded;
        its row is then zero.
        """

        def prepare(image: NDArray[np.uint8] | bytes) -> NDArray[np.uint8]:
            return self._encoder.transform.decode(image) if isinstance(image, bytes) else image

        return self._encode(images, prepare, lambda pixels: self._encoder.encode_pixels(np.stack(pixels)))

    def encode_texts(self, texts: Sequence[str]) -> tuple[Embeddings, list[str | None]]:
        """Encode texts; the result is that of :meth:`encode_images`."""
        return self._encode(texts, check_text, self._encoder.encode_texts)

    def _encode(
        self, contents: Sequence[Content], prepare: Callable[[Content], Any], encode: Callable[[list[Any]], Embeddings]
    ) -> tuple[Embeddings, list[str | None]]:
        rows = np.zeros((len(contents), self.info["embedding_dim"]), dtype=np.float32)
        reasons: list[str | None] = [None] * len(contents)
        prepared = {}
        for i, content in enumerate(contents):
            try:
                prepared[i] = prepare(content)
            except ValueError as error:
                reasons[i] = str(error)
        if prepared:
            try:
                rows[list(prepared)] = encode(list(prepared.values()))
            except torch.OutOfMemoryError as error:
                what, where = "the memory of the GPU is too small for a minibatch", self.info["device_name"]
                hint = "a smaller model, --device cpu, or `semscale serve --minibatch-size`"
                raise ModelError(what, where=where, found=summarize(error), hint=hint) from error
        return rows, reasons
