"""Going on where an earlier run was stopped, if it was a run of the same thing."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from itertools import islice

from semscale.label.journal import Journal, Mark
from semscale.label.listing import Item, Listing
from semscale.label.request import Request
from semscale.scoring.tally import RunningStatistics
from semscale.study.progress import Reporter


def resume(
    request: Request,
    listing: Listing,
    encoder: str,
    journal: Journal,
    statistics: RunningStatistics,
    report: Reporter,
) -> tuple[Listing, Mark]:
    """Return the listing with what is left of it, and how far an earlier run came.

    Args:
        request: what is to be labelled.
        listing: opened and not read.
        encoder: the encoder's fingerprint.
        journal: where an earlier run may have written; begun anew if there was none, or another.
        statistics: takes the sums of the earlier run.
        report: is told which it is.

    Raises:
        SemscaleError: the input, or the folder of the results, is no longer there.
    """
    purpose = request.purpose(listing.place, listing.state, encoder)
    mark, why_not = journal.resume(purpose)
    if mark is not None:
        with report.stage("finding what is done"):
            same = link("", islice(listing.items, mark.done)) == mark.chain
        if same:
            statistics.restore(mark.arrays)
            report.note(f"going on after {mark.done} {listing.kind}s of an earlier run")
            return listing, mark
        why_not = "the input is another than in an earlier run"
        listing = request.open()
    if why_not is not None:
        report.note(f"starting anew: {why_not}")
    journal.restart()
    return listing, Mark(purpose, 0, "", 0, {})


def link(digest: str, items: Iterator[Item] | Sequence[Item]) -> str:
    """Go on with the digest of a sequence of items; where it was cut makes no difference."""
    for item in items:
        digest = hashlib.sha256(f"{digest} {tuple(item)!r}".encode()).hexdigest()
    return digest
