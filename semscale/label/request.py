"""A labelling as it was asked for."""

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
        limit: label only this many, the first ones.
    """

    given: str
    categories: tuple[str, ...]
    model: str
    column: str | None = None
    limit: int | None = None

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

    def purpose(self, *more: str) -> str:
        """Return a digest of everything that decides the results, as far as it is known."""
        parts = [self.column, self.limit, self.categories, *more]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def default_out(self, listing: Listing) -> Path:
        """Return the folder of this request; the same one always has the same, another another."""
        return DEFAULT_FOLDER / f"{slug(listing.title)}-{self.purpose(listing.place, self.model)[:8]}"
