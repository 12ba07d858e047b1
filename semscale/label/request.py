"""Request of a labelling: the input, the categories and the model."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path

from semscale.datasets.build import slug
from semscale.errors import SemscaleError
from semscale.label.listing import Listing, open_listing

DEFAULT_FOLDER = Path("semscale-labels")


@dataclass(frozen=True)
class Request:
    """What is to be labelled, and with what.

    Attributes:
        given: the input, see :func:`semscale.label.listing.open_listing`.
        categories: different ones, in the order that decides ties.
        model: the model's name.
        column: where the texts are, or the images of a table.
        limit: label only the first so many.
        encoder: ``server``, or ``local`` for a model in this process.
        servers: addresses of running servers; without any, one is started for the time of the call.
        actors: encoder actors; by default one for every two CPUs.
    """

    given: str
    categories: tuple[str, ...]
    model: str
    column: str | None = None
    limit: int | None = None
    encoder: str = "server"
    servers: tuple[str, ...] = ()
    actors: int | None = None

    def open(self) -> Listing:
        """Open the input; its items end at the limit.

        Raises:
            SemscaleError: there is no such input, or nothing in it.
        """
        listing = open_listing(self.given, self.column)
        items = islice(listing.items, self.limit)
        first = next(items, None)
        if first is None:
            raise SemscaleError(
                "there is nothing to label",
                where=self.given,
                found="; ".join(listing.notes.lines()) or "nothing",
                expected="texts" if listing.kind == "text" else "images",
            )
        return replace(listing, items=chain([first], items))

    def default_out(self, listing: Listing) -> Path:
        """Return the folder of the results: the same for the same input, categories, model, column and limit."""
        parts = [self.column, self.limit, self.categories, listing.source, self.model]
        digest = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
        return DEFAULT_FOLDER / f"{slug(listing.title)}-{digest[:8]}"
