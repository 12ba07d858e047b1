"""Small pictures of images that flipped, for the report; few, small, and never a reason to stop."""

from __future__ import annotations

import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pandas as pd

from semscale.datasets.base import Reader
from semscale.datasets.picture import BadImageError, decode
from semscale.study.encode import EncodedModel

PER_DIRECTION = 8
"""Pictures of a curve's gained and of its lost images."""

MOST_PICTURES = 320
MOST_BYTES = 1_000_000

_SIDE = 72
_QUALITY = 72
_READS = 8


def thumbnails_of(flips: pd.DataFrame, encoded: Sequence[EncodedModel]) -> pd.DataFrame:
    """Return thumbnails.parquet: ``dataset``, ``file`` and ``picture``, a JPEG of at most 72 x 72 pixels.

    The first images of every curve come first, so that none is without when the budget ends.

    Args:
        flips: flips.parquet with the column ``row``, an index into the dataset's encoded images.
        encoded: knows the datasets' readers.
    """
    if not len(flips):
        return pd.DataFrame()
    curve = ["dataset", "model", "strategy", "aggregation", "direction"]
    wanted = flips.assign(place=flips.groupby(curve, sort=False).cumcount())
    wanted = wanted[wanted["place"] < PER_DIRECTION].sort_values("place", kind="stable")
    wanted = wanted.drop_duplicates(["dataset", "file"]).head(MOST_PICTURES)
    arms = {arm.arm.dataset.name: arm for one in encoded for arm in one.arms}
    work = []
    for dataset, rows in wanted.groupby("dataset", sort=False):
        arm = arms[str(dataset)]
        samples = arm.arm.dataset.samples.pick(arm.images.positions[rows["row"].to_numpy()])
        work += [
            (index, arm.arm.dataset.reader, place) for index, place in zip(rows.index, samples.places(), strict=True)
        ]
    with ThreadPoolExecutor(_READS) as pool:
        found = dict(zip((index for index, _, _ in work), pool.map(lambda job: thumbnail(*job[1:]), work), strict=True))
    table = wanted[["dataset", "file"]].assign(picture=[found[index] for index in wanted.index])
    table = table[table["picture"].notna()]
    within = table["picture"].map(len).cumsum() <= MOST_BYTES
    return table[within].reset_index(drop=True)


def thumbnail(reader: Reader, place: str) -> bytes | None:
    """Return a JPEG of an image, or None when it cannot be read now: it has been before."""
    try:
        picture = decode(reader.read(place), draft=_SIDE)
    except (OSError, BadImageError):
        return None
    picture = picture.convert("RGB")
    picture.thumbnail((_SIDE, _SIDE))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=_QUALITY, optimize=True)
    return buffer.getvalue()
