"""Labelling from beginning to end: window after window into the files, going on where an earlier run was stopped."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd

from semscale.config import study_from
from semscale.encoding.folder import Folder
from semscale.errors import SemscaleError
from semscale.label.embed import embed
from semscale.label.journal import QUARANTINE, RESULTS, STATISTICS, Journal, Mark, write_whole
from semscale.label.listing import Item, Kind
from semscale.label.request import Request
from semscale.label.resume import link, resume
from semscale.scoring.statistics import CategoryStatistics
from semscale.scoring.tally import RunningStatistics, nearest_category
from semscale.study.cluster import ray_cluster
from semscale.study.progress import Reporter
from semscale.study.who import open_encoder, who_encodes

WINDOW = 2048
"""Items between two writes; nothing in the files depends on it."""

_HEADERS: dict[Kind, dict[str, tuple[str, ...]]] = {
    "image": {RESULTS: ("file", "label"), QUARANTINE: ("file", "reason")},
    "text": {RESULTS: ("text", "label"), QUARANTINE: ("line", "reason")},
}


@dataclass(frozen=True)
class Labelled:
    """What a labelling has come to.

    Attributes:
        folder: where `results.csv`, `quarantine.csv` and, if asked for, `stats.csv` lie.
        kind: images or texts.
        n_labelled, n_bad: items in the results, and in the quarantine.
        n_before: items that an earlier, interrupted run had done.
        sent: documents that went to the servers on this occasion.
        statistics: a row per category, the columns of `stats.csv`.
        wrote_statistics: whether `stats.csv` was written.
    """

    folder: Path
    kind: Kind
    n_labelled: int
    n_bad: int
    n_before: int
    sent: int
    statistics: pd.DataFrame
    wrote_statistics: bool

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain values; the files are None where there is none."""
        return {
            "kind": self.kind,
            "labelled": self.n_labelled,
            "unusable": self.n_bad,
            "before": self.n_before,
            "sent": self.sent,
            "results": str(self.folder / RESULTS),
            "statistics": str(self.folder / STATISTICS) if self.wrote_statistics else None,
            "quarantine": str(self.folder / QUARANTINE) if self.n_bad else None,
            "categories": self.statistics.to_dict("records"),
        }


def label(
    request: Request,
    out: Path | None,
    report: Reporter,
    store: Folder,
    servers: Sequence[str] = (),
    stats: bool = False,
    window: int = WINDOW,
    actors: int | None = None,
    encoder: str = "server",
) -> Labelled:
    """Label every item with the category whose embedding has the highest cosine with its own.

    The same call after an interruption goes on behind the last window that was written.

    Args:
        request: what is to be labelled.
        out: folder of the results; ``semscale-labels/<name>-<digest>`` unless given.
        report: shows the progress.
        store: the embedding store.
        servers: addresses of running servers; without any one is started for the time of the call.
        stats: also write `stats.csv`.
        window: items between two writes.
        actors: encoder actors; one for every two CPUs unless given.
        encoder: ``server``, or ``local`` for a model in this process.

    Raises:
        SemscaleError: for anything that the user can mend, and when not one item could be labelled.
    """
    study = study_from(
        {
            "models": [request.model],
            "encoder": encoder,
            "server": {"urls": list(servers)},
            "encoding": {"actors": actors},
        }
    )
    listing = request.open()
    folder = out or request.default_out(listing)
    with ExitStack() as stack:
        logs = Path(stack.enter_context(TemporaryDirectory(prefix="semscale-label-")))
        if study.encoder == "server":
            with report.stage("starting Ray"):
                stack.enter_context(ray_cluster(study.ray.address))
        who = who_encodes(study, request.model, store, logs, report)
        stack.enter_context(who)
        rows = open_encoder(study, who, store, report)
        stack.enter_context(rows)
        with report.stage("encoding categories", len(request.categories), "texts") as advance:
            rows.encode_texts(request.categories, advance)
        texts = rows.text_embeddings(request.categories)
        journal = stack.enter_context(Journal(folder, _HEADERS[listing.kind]))
        statistics = RunningStatistics(texts)
        listing, mark = resume(request, listing, rows.identity.fingerprint, journal, statistics, report)
        before, sent, bad = mark.done, 0, list[tuple[str, str]]()
        with report.stage(f"labelling {listing.title}", unit=f"{listing.kind}s") as advance:
            for items in _windows(listing.items, window):
                found = embed(rows, listing, items, _from(mark.done - before, advance))
                winners = nearest_category(found.rows, texts)
                statistics.add(found.rows, winners)
                names = [request.categories[winner] for winner in winners.tolist()]
                mark = Mark(
                    mark.purpose,
                    mark.done + len(items),
                    link(mark.chain, items),
                    mark.bad + len(found.reasons),
                    statistics.arrays(),
                )
                labelled = [(items[i].name, name) for i, name in zip(found.positions, names, strict=True)]
                bad = [(items[i].spot, reason) for i, reason in sorted(found.reasons.items())]
                journal.append({RESULTS: labelled, QUARANTINE: bad}, mark)
                sent += found.sent
                advance(mark.done - before, None)
        table = statistics_table(request.categories, statistics.result())
        if stats:
            write_whole(folder / STATISTICS, table.to_csv(index=False, lineterminator="\n").encode())
        journal.finish()
    for line in listing.notes.lines():
        report.note(f"{listing.title}: {line}")
    if not len(statistics):
        raise SemscaleError(
            f"not one of {mark.done} {listing.kind}s could be labelled",
            where=str(folder / QUARANTINE),
            found="; ".join(f"{spot}: {reason}" for spot, reason in bad[:3]) or None,
        )
    return Labelled(folder, listing.kind, len(statistics), mark.bad, before, sent, table, stats)


def statistics_table(categories: Sequence[str], found: CategoryStatistics) -> pd.DataFrame:
    """Return the statistics as the original tool's columns; what a category without items lacks is blank."""
    return pd.DataFrame(
        {
            "category": list(categories),
            "fraction": found.fraction,
            "average_dot_product": found.average_dot_product,
            "variance": found.variance,
            "second_best_category": [categories[i] if i >= 0 else None for i in found.second_best.tolist()],
        }
    )


def _windows(items: Iterator[Item], size: int) -> Iterator[list[Item]]:
    while window := list(islice(items, size)):
        yield window


def _from(start: int, advance: Callable[[int, int | None], None]) -> Callable[[int, int], None]:
    return lambda done, total: advance(start + done, None)
