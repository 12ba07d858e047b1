"""From the places of images to what a model is given: read through the dataset's reader, verified, decoded, resized."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from semscale.datasets.base import Reader
from semscale.datasets.picture import BadImageError, decode
from semscale.encoding.identity import EncoderIdentity
from semscale.encoding.preprocess import Picture, can_prepare, draft_side, prepare, whole


def read_all(reader: Reader, places: Sequence[str]) -> tuple[list[bytes | None], dict[int, str]]:
    """Return the files at these places, None for those that cannot be read, and by their number the reasons."""

    def read(place: str) -> bytes | str:
        try:
            return reader.read(place)
        except OSError as error:
            return f"cannot be read: {error.strerror or error}"

    parallel = getattr(reader, "parallel", 1)
    if parallel > 1:
        with ThreadPoolExecutor(parallel) as threads:
            found = list(threads.map(read, places))
    else:
        found = [read(place) for place in places]
    contents = [one if isinstance(one, bytes) else None for one in found]
    return contents, {i: one for i, one in enumerate(found) if isinstance(one, str)}


def decode_all(
    identity: EncoderIdentity, contents: Sequence[bytes | None], wanted: Sequence[int]
) -> tuple[dict[int, Picture | bytes], dict[int, str]]:
    """Decode the wanted ones of some files.

    Returns:
        By their number the pictures, uint8 (height, width, 3) as the model wants them, or files where its
        preprocessing is not known here; and the reasons why the others are bad.
    """
    spec = identity.preprocess
    if spec is not None and not can_prepare(spec):
        spec = None
    draft = draft_side(spec) if spec is not None and identity.draft else None
    pictures: dict[int, Picture | bytes] = {}
    bad: dict[int, str] = {}
    for i in wanted:
        content = contents[i]
        assert content is not None  # only what was read is wanted
        try:
            image = decode(content, draft)
            pictures[i] = whole(image, content) if spec is None else prepare(image, spec)
        except BadImageError as error:
            bad[i] = str(error)
    return pictures, bad
