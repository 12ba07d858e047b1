"""Embeddings of a window of items, through the store; a bad item costs a reason and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from semscale.datasets.base import Dataset
from semscale.datasets.samples import Sample, SampleTable
from semscale.encoding.encoder import Encoder
from semscale.encoding.image_outcomes import TooManyBadImagesError
from semscale.encoding.segment import Float32
from semscale.label.listing import Item, Listing

_ANY = "image"

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Embedded:
    """Embeddings of a window.

    Attributes:
        positions: which items have a row, ascending.
        rows: float32[len(positions), d], unit length.
        reasons: item -> why it has none, for all others.
        sent: documents that went to the servers.
    """

    positions: list[int]
    rows: Float32
    reasons: dict[int, str]
    sent: int


def embed(encoder: Encoder, listing: Listing, window: Sequence[Item], progress: Progress) -> Embedded:
    """Encode what is not in the store and return the rows of a window.

    Raises:
        SemscaleError: no server answers.
    """
    reasons = {i: item.reason for i, item in enumerate(window) if item.reason is not None}
    usable = [i for i in range(len(window)) if i not in reasons]
    if not usable:
        return Embedded([], _nothing(encoder), reasons, 0)
    if listing.reader is None:
        return _embed_texts(encoder, window, usable, reasons, progress)
    samples = [Sample(window[i].name, _ANY, window[i].place) for i in usable]
    dataset = Dataset(listing.title, _ANY, (_ANY,), SampleTable.of((_ANY,), samples), listing.reader)
    try:
        encoded = encoder.encode_images(dataset, progress)
    except TooManyBadImagesError as error:  # not one of this window can be used; the next ones may
        reasons.update({i: error.quarantine[window[i].name] for i in usable})
        return Embedded([], _nothing(encoder), reasons, 0)
    good = {usable[position] for position in encoded.positions.tolist()}
    reasons.update({i: encoded.quarantine[window[i].name] for i in usable if i not in good})
    return Embedded(sorted(good), encoder.image_embeddings(encoded.keys), reasons, encoded.sent)


def _embed_texts(
    encoder: Encoder, window: Sequence[Item], usable: list[int], reasons: dict[int, str], progress: Progress
) -> Embedded:
    refused: dict[str, str] = {}
    sent = encoder.encode_texts([window[i].name for i in usable], progress, refused)
    reasons.update({i: refused[window[i].name] for i in usable if window[i].name in refused})
    good = [i for i in usable if i not in reasons]
    rows = encoder.text_embeddings([window[i].name for i in good]) if good else _nothing(encoder)
    return Embedded(good, rows, reasons, sent)


def _nothing(encoder: Encoder) -> Float32:
    return np.empty((0, encoder.identity.dimension), dtype=np.float32)
