"""Image pipeline of the workers: reading, decoding, and resizing bit for bit as torchvision and open_clip do.

With draft decoding (`encoding.draft`) libjpeg decodes a large JPEG at a half, a quarter or an eighth of its size, which
is faster and changes pixels slightly; the embeddings have a separate fingerprint.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from semscale.common.errors import ServerError
from semscale.common.filesystem import read_with_retries
from semscale.datasets.dataset import Reader
from semscale.datasets.image_decoding import BadImageError, decode
from semscale.store.encoder_fingerprint import EncoderIdentity

# Resizing the shorter side to the model's size makes a thin image enormous: 1 x 50,000 pixels would need 7.5 GB.
_MAX_RESIZED_PIXELS = 32_000_000

Picture = npt.NDArray[np.uint8]

_RESAMPLING = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


def can_prepare(spec: Mapping[str, Any] | None) -> bool:
    """Return whether the workers can do this preprocessing; if not, whole files are sent."""
    if spec is None or spec.get("mode", "RGB") != "RGB" or spec.get("interpolation") not in _RESAMPLING:
        return False
    height, width = _target(spec)
    resize_mode = spec.get("resize_mode") or "shortest"
    return resize_mode == "squash" or (resize_mode == "shortest" and height == width)


def check_draft(identity: EncoderIdentity, where: str) -> None:
    """Raise ServerError for draft decoding if the preprocessing of the model is unknown."""
    if identity.draft and not can_prepare(identity.preprocess):
        hint = "omit encoding.draft, or use `semscale serve`"
        raise ServerError("draft decoding needs a model whose preprocessing is known", where=where, hint=hint)


def draft_side(spec: Mapping[str, Any]) -> int:
    """Return the least shorter side of a draft, in pixels: twice the model's, so that it is still resized."""
    return 2 * max(_target(spec))


def prepare(image: Image.Image, spec: Mapping[str, Any]) -> Picture:
    """Resize and crop an image as open_clip does and return its pixels, uint8 [height, width, 3].

    The image is in the mode of its file, since open_clip resizes before it converts; ``spec`` is open_clip's
    preprocessing configuration. Raises BadImageError if resizing a thin image would need gigabytes.

    >>> prepare(Image.new("L", (8, 4), 255), {"size": 2, "interpolation": "bicubic"}).shape
    (2, 2, 3)
    """
    height, width = _target(spec)
    resampling = _RESAMPLING[spec["interpolation"]]
    if spec.get("resize_mode") == "squash":
        image = image.resize((width, height), resampling)
    else:
        image = _resize_shortest_side(image, height, resampling)
        image = _center_crop(image, height, width)
    return np.asarray(image.convert("RGB"), dtype=np.uint8)


def to_ppm(picture: Picture) -> bytes:
    """Return an image as a binary PPM file, which every server can read."""
    height, width, _ = picture.shape
    return b"P6\n%d %d\n255\n" % (width, height) + picture.tobytes()


def to_file(image: Image.Image, content: bytes) -> bytes:
    """Return the file to send if the server preprocesses: the original, or a PNG if decoding changed the mode."""
    with Image.open(io.BytesIO(content)) as stored:
        if stored.mode == image.mode:
            return content
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _target(spec: Mapping[str, Any]) -> tuple[int, int]:
    size = spec["size"]
    return (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))


def _resize_shortest_side(image: Image.Image, side: int, resampling: Image.Resampling) -> Image.Image:
    # the integer arithmetic of torchvision.transforms.functional.resize
    width, height = image.size
    short, long = min(width, height), max(width, height)
    if side * side * long > _MAX_RESIZED_PIXELS * short:
        raise BadImageError(f"an image of {width} x {height} pixels is too long to be resized")
    new_long = int(side * long / short)
    return image.resize((side, new_long) if width <= height else (new_long, side), resampling)


def _center_crop(image: Image.Image, height: int, width: int) -> Image.Image:
    # the rounding of torchvision.transforms.functional.center_crop
    left = round((image.size[0] - width) / 2.0)
    top = round((image.size[1] - height) / 2.0)
    return image.crop((left, top, left + width, top + height))


def read_all(reader: Reader, locations: Sequence[str]) -> tuple[list[bytes | None], dict[int, str]]:
    """Return the files, None for unreadable ones, and the reasons of these by index; SemscaleError if transient."""

    def read(location: str) -> bytes | str:
        try:
            return read_with_retries(reader.read, location)
        except OSError as error:
            return f"cannot be read: {error.strerror or error}"

    parallel = getattr(reader, "parallel", 1)
    if parallel > 1:
        threads = ThreadPoolExecutor(parallel)
        try:
            answers = list(threads.map(read, locations))
        finally:
            threads.shutdown(cancel_futures=True)
    else:  # in this thread, in which the reader may have its file open
        answers = [read(location) for location in locations]
    contents = [answer if isinstance(answer, bytes) else None for answer in answers]
    return contents, {i: answer for i, answer in enumerate(answers) if isinstance(answer, str)}


def decode_all(
    contents: Sequence[bytes | None], wanted: Sequence[int], spec: Mapping[str, Any] | None, draft: bool
) -> tuple[dict[int, Picture | bytes], dict[int, str]]:
    """Return the wanted images by index (files if the preprocessing is unknown), and the reasons of the bad ones."""
    if not can_prepare(spec):
        spec = None
    least_side = draft_side(spec) if spec is not None and draft else None
    pictures: dict[int, Picture | bytes] = {}
    bad: dict[int, str] = {}
    for i in wanted:
        content = contents[i]
        assert content is not None  # only readable ones are wanted
        try:
            image = decode(content, least_side)
            pictures[i] = to_file(image, content) if spec is None else prepare(image, spec)
        except BadImageError as error:
            bad[i] = str(error)
    return pictures, bad
