"""Batches at work: the pixels of some images, what else is known of them, and the unmodified tower's hidden states.

Whatever several settings need of one batch is computed once: hidden states, scores, digests of pixels. Random draws
come from a hash of the image's own pixels, so that an image is treated the same in every batch, process and
version of a library.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from semscale.common.errors import ConfigError
from semscale.tokens.register_neurons import RegisterNeurons
from semscale.tokens.tower import Tower

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)

Made = TypeVar("Made")


@dataclass(frozen=True)
class TokenInputs:
    """Inputs of settings besides pixels; `H` and `W` are those of the tower's images.

    Attributes:
        images: uint8 [B, H, W, 3] on the CPU, the pixels before normalisation; recovered from them unless given.
        masks: bool or number [B, H, W], how much of a pixel belongs to the object.
        other_masks: the same, of another image for each.
        labels: int [B, H, W], the instance of a pixel, 0 for none.
        other_labels: the same, of another image for each.
        neurons: what :func:`semscale.tokens.register_neurons.find_register_neurons` found.
    """

    images: Tensor | None = None
    masks: Tensor | None = None
    other_masks: Tensor | None = None
    labels: Tensor | None = None
    other_labels: Tensor | None = None
    neurons: RegisterNeurons | None = None


@dataclass(frozen=True)
class Outcome:
    """Outcome of a setting: features, and for pictures the tokens that are left of each image.

    Attributes:
        features: float [B, D], not normalised.
        kept: bool [B, N], the patches whose token, or whose tile, is left; None where all are.
        owner: int [B, N], the token that each patch has become part of; None where none were joined.
        labels: int [B, H, W], the region of every pixel; None without regions.
        images: uint8 [B, H, W, 3], what the tower saw where pixels were changed; else None.
        sent_bytes: int [B]; None where nothing is sent.
    """

    features: Tensor
    kept: Tensor | None = None
    owner: Tensor | None = None
    labels: Tensor | None = None
    images: Tensor | None = None
    sent_bytes: Tensor | None = None


class TokenBatch:
    """Some images before a tower.

    Args:
        tower: the tower.
        pixels: float [B, 3, H, W], normalised, on the tower's device and in its dtype.
        inputs: what else is known of the images.
        required: the blocks whose inputs are kept when the unmodified tower runs.
    """

    def __init__(
        self, tower: Tower, pixels: Tensor, inputs: TokenInputs | None = None, required: frozenset[int] = frozenset()
    ) -> None:
        self.tower, self.pixels, self.inputs = tower, pixels, inputs or TokenInputs()
        self._required_layers = required
        self._hidden: dict[int, Tensor] = {}
        self._own: Tensor | None = None
        self._made: dict[object, Any] = {}

    def __len__(self) -> int:
        return len(self.pixels)

    def own_forward(self) -> Tensor:
        """Return the unmodified tower's own result, and keep on its way what settings want."""
        if self._own is None:
            with self.tower.watched(self._required_layers) as seen:
                self._own = self.tower.forward(self.pixels)
            self._hidden |= seen
        return self._own

    def hidden(self, layer: int) -> Tensor:
        """Return what enters a block of the unmodified tower, [B, P + N, C]; `depth`: what leaves the last."""
        if layer not in self._hidden:
            start = max((known for known in self._hidden if known < layer), default=None)
            if start is None:
                start, self._hidden[0] = 0, self.tower.embed(self.pixels)
            if start < layer:
                self._hidden[layer] = self.tower.run(self._hidden[start], start, layer)
        return self._hidden[layer]

    def remember(self, key: object, make: Callable[[], Made]) -> Made:
        """Return what `make` makes, made once per batch and key."""
        if key not in self._made:
            self._made[key] = make()
        made: Made = self._made[key]
        return made

    @property
    def images(self) -> Tensor:
        """The pixels before normalisation, uint8 [B, H, W, 3] on the CPU.

        Recovered from float32 or float16 exactly; bfloat16 has too few digits.
        """
        if self.inputs.images is not None:
            return self.inputs.images
        return self.remember("images", self._recovered)

    def _recovered(self) -> Tensor:
        if self.pixels.dtype == torch.bfloat16:
            raise ConfigError("bfloat16 pixels cannot be turned back into bytes", expected="the images as uint8")
        mean, std = self._normalisation(torch.device("cpu"))
        planes = (self.pixels.float().cpu() * std + mean) * 255
        return planes.round_().clamp_(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()

    def normalise(self, images: Tensor) -> Tensor:
        """Turn uint8 [n, H, W, 3] into what the tower takes, with the operations that made the batch's own pixels."""
        device = self.pixels.device
        mean, std = self._normalisation(device)
        planes = images.to(device).permute(0, 3, 1, 2).contiguous().to(torch.float32)
        return planes.div_(255).sub_(mean).div_(std).to(self.pixels.dtype)

    def _normalisation(self, device: torch.device) -> tuple[Tensor, Tensor]:
        visual: Any = self.tower.visual
        values = getattr(visual, "image_mean", None) or CLIP_MEAN, getattr(visual, "image_std", None) or CLIP_STD
        mean, std = (torch.tensor(each, dtype=torch.float32, device=device).view(1, 3, 1, 1) for each in values)
        return mean, std

    def draws(self, purpose: str, seed: int, count: int) -> NDArray[np.uint64]:
        """Return random numbers [B, count] that depend on each image's pixels, a purpose and a seed, and nothing else.

        They are the output of SHAKE-256, the same with every version of every library.
        """
        rows = [
            np.frombuffer(hashlib.shake_256(digest + f"|{purpose}|{seed}".encode()).digest(8 * count), dtype="<u8")
            for digest in self.remember("digests", self._digests)
        ]
        return np.stack(rows).astype(np.uint64)

    def shuffles(self, purpose: str, seed: int, count: int) -> Tensor:
        """Return a random permutation of `count` for each image, int64 [B, count], as :meth:`draws` draws."""
        order = np.argsort(self.draws(purpose, seed, count), axis=1, kind="stable")
        return torch.from_numpy(order).to(self.pixels.device)

    def _digests(self) -> list[bytes]:
        return [hashlib.sha256(image.contiguous().numpy().tobytes()).digest() for image in self.images]

    def require(self, name: str, what: str) -> Any:
        """Return an input that a setting needs.

        Raises:
            ConfigError: it is not there.
        """
        value = getattr(self.inputs, name)
        if value is None:
            raise ConfigError(f"the token strategy needs {what}", expected=f"the input {name!r}")
        return value

    def object_share(self, name: str = "masks") -> Tensor:
        """Return how much of each patch's cell a given mask covers, float32 [B, N]."""

        def make() -> Tensor:
            masks: Tensor = self.require(name, "a mask for every image").to(self.pixels.device, torch.float32)
            rows, columns = self.tower.grid
            height, width = self.tower.cell
            cells = masks[:, : rows * height, : columns * width].reshape(len(masks), rows, height, columns, width)
            return cells.mean(dim=(2, 4)).flatten(1)

        return self.remember(("share", name), make)
