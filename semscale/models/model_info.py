"""Model info: the same from a server at ``/info`` as from a model in this process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from semscale.models.model_fingerprint import package_version

if TYPE_CHECKING:
    from semscale.models.loading import ModelIdentity  # torch comes with it

_PACKAGES = ("semscale", "torch", "open_clip_torch")


def describe(identity: ModelIdentity, minibatch_size: int, compiled: bool = False) -> dict[str, Any]:
    """Return model, weights, preprocessing, device and versions as plain values; see the executor for the keys."""
    return identity.to_json() | {
        "minibatch_size": minibatch_size,
        "fixed_shapes": True,
        "packed": True,
        **({"compiled": True} if compiled else {}),
        "versions": {name.removesuffix("_torch"): package_version(name) or "unknown" for name in _PACKAGES},
    }


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
