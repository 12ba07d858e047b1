"""Labelling from beginning to end: items are encoded and written window by window."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd

from semscale.config import StudyConfig, study_from
from semscale.encoding.folder import Folder
from semscale.errors import SemscaleError
from semscale.label.embed import embed
from semscale.label.listing import Kind, Request
from semscale.label.results import QUARANTINE, RESULTS, STATISTICS, result_files
from semscale.scoring.category_statistics import CategoryStatistics, RunningStatistics
from semscale.scoring.nearest import nearest_categories
from semscale.study.backends import open_encoder
from semscale.study.progress import Reporter

WINDOW = 2048
"""Items that are encoded at once; nothing in the files depends on it."""

_HEADERS: dict[Kind, dict[str, tuple[str, ...]]] = {
    "image": {RESULTS: ("file", "label"), QUARANTINE: ("file", "reason")},
    "text": {RESULTS: ("text", "label"), QUARANTINE: ("line", "reason")},
}
_COLUMNS = ("category", "fraction", "average_dot_product", "variance", "second_best_category")


@dataclass(frozen=True)
class Labelled:
    """Result of a labelling; `sent` counts what was not in the store, and `statistics` has the rows of `stats.csv`."""

    folder: Path
    kind: Kind
    n_labelled: int
    n_bad: int
    sent: int
    statistics: pd.DataFrame
    wrote_statistics: bool

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain values; the files are None where there is none."""
        return {
            "kind": self.kind,
            "labelled": self.n_labelled,
            "unusable": self.n_bad,
            "sent": self.sent,
            "results": str(self.folder / RESULTS),
            "statistics": str(self.folder / STATISTICS) if self.wrote_statistics else None,
            "quarantine": str(self.folder / QUARANTINE) if self.n_bad else None,
            "categories": self.statistics.to_dict("records"),
        }


def label(
    request: Request, out: Path | None, report: Reporter, store: Folder, *, stats: bool = False, window: int = WINDOW
) -> Labelled:
    """Label every item with the category whose embedding has the highest cosine with its own.

    The results get their names when all are written. The same call after an interruption starts from the first item and
    sends nothing that is in the store.

    Args:
        request: what is to be labelled, and with what.
        out: folder of the results; by default ``semscale-labels/<name>-<digest>``.
        report: shows the progress.
        store: the embedding store.
        stats: also write `stats.csv`.
        window: items that are encoded at once.
    """
    study = _study(request)  # mistakes in the options come before the listing, which may take long
    listing = request.open()
    folder = out or request.default_out(listing)
    with ExitStack() as stack:
        encoder = stack.enter_context(open_encoder(study, request.model, store, report))
        with report.stage("encoding categories", len(request.categories), "texts") as advance:
            encoder.encode_texts(request.categories, advance)
        texts = encoder.text_embeddings(request.categories)
        headers = _HEADERS[listing.kind] | ({STATISTICS: _COLUMNS} if stats else {})
        append = stack.enter_context(result_files(folder, headers))
        statistics = RunningStatistics(texts)
        done = n_bad = sent = 0
        last: list[tuple[str, str]] = []
        with report.stage(f"labelling {listing.title}", unit=f"{listing.kind}s") as advance:
            while items := list(islice(listing.items, window)):
                found = embed(encoder, listing, items, partial(_advance, advance, done))
                winners = nearest_categories(found.rows, texts)[:, 0]
                statistics.add(found.rows, winners)
                names = [request.categories[winner] for winner in winners.tolist()]
                append(RESULTS, [(item.name, name) for item, name in zip(found.items, names, strict=True)])
                last = [(item.location, reason) for item, reason in found.rejected]
                append(QUARANTINE, last)
                done, n_bad, sent = done + len(items), n_bad + len(last), sent + found.sent
                advance(done, None)
        table = statistics_table(request.categories, statistics.result())
        if stats:
            append(STATISTICS, table.astype(object).where(table.notna(), None).values.tolist())
    for line in listing.notes.lines():
        report.note(f"{listing.title}: {line}")
    if not len(statistics):
        raise SemscaleError(
            f"not one of {done} {listing.kind}s could be labelled",
            where=str(folder / QUARANTINE),
            found="; ".join(f"{location}: {reason}" for location, reason in last[:3]),
        )
    return Labelled(folder, listing.kind, len(statistics), n_bad, sent, table, stats)


def _advance(advance: Callable[[int, int | None], None], start: int, done: int, total: int) -> None:
    advance(start + done, None)


def _study(request: Request) -> StudyConfig:
    return study_from(
        {
            "models": [request.model],
            "encoder": request.encoder,
            "server": {"urls": list(request.servers)},
            "encoding": {"actors": request.actors},
        }
    )


def statistics_table(categories: Sequence[str], found: CategoryStatistics) -> pd.DataFrame:
    """Return the statistics as the original tool's columns; what a category without items lacks is blank."""
    second = [categories[i] if i >= 0 else None for i in found.second_best.tolist()]
    columns = (list(categories), found.fraction, found.average_dot_product, found.variance, second)
    return pd.DataFrame(dict(zip(_COLUMNS, columns, strict=True)))
