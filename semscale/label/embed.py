"""Embeddings of a window of items, through the store; a bad item costs a reason and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from semscale.datasets.base import Dataset
from semscale.datasets.samples import Sample, SampleTable
from semscale.encoding.encoder import Encoder
from semscale.encoding.image_outcomes import TooManyBadImagesError
from semscale.encoding.segment import Float32
from semscale.label.listing import Item, Listing

_ANY = "image"

Progress = Callable[[int, int], None]


class Embedded(NamedTuple):
    """Embeddings of a window.

    Attributes:
        items: those that have a row, in order.
        rows: float32[len(items), d], unit length.
        rejected: the others, each with its reason, in order.
        sent: documents that went to the servers.
    """

    items: list[Item]
    rows: Float32
    rejected: list[tuple[Item, str]]
    sent: int


def embed(encoder: Encoder, listing: Listing, window: Sequence[Item], progress: Progress) -> Embedded:
    """Encode what is not in the store and return the rows of a window."""
    usable = [item for item in window if item.reason is None]
    reasons, rows, sent = dict[str, str](), np.empty((0, encoder.identity.dimension), np.float32), 0
    if usable and listing.reader is None:
        sent = encoder.encode_texts([item.name for item in usable], progress, reasons)
        texts = [item.name for item in usable if item.name not in reasons]
        rows = encoder.text_embeddings(texts) if texts else rows
    elif usable and listing.reader is not None:
        samples = [Sample(item.name, _ANY, item.place) for item in usable]
        dataset = Dataset(listing.title, _ANY, (_ANY,), SampleTable.of((_ANY,), samples), listing.reader)
        try:
            encoded = encoder.encode_images(dataset, progress)
        except TooManyBadImagesError as error:  # not one of this window can be used; the next ones may
            reasons.update(error.quarantine)
        else:
            reasons.update(encoded.quarantine)
            rows, sent = encoder.image_embeddings(encoded.keys), encoded.sent
    found = [(item, item.reason or reasons.get(item.name)) for item in window]
    good = [item for item, reason in found if reason is None]
    return Embedded(good, rows, [(item, reason) for item, reason in found if reason is not None], sent)
