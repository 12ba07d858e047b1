"""Zero-shot labelling of images or texts without true classes, in windows of bounded memory."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from semscale.common.errors import DatasetError, SemscaleError, write_error
from semscale.common.files import atomic_write, try_lock
from semscale.common.progress import ProgressReporter
from semscale.config import study_from
from semscale.datasets.dataset import Dataset
from semscale.datasets.samples import Sample, SampleTable
from semscale.encoding.backends import open_encoder
from semscale.encoding.store_backed_encoder import Progress, StoreBackedEncoder, TooManyBadImagesError
from semscale.label.listing import InputItem, InputListing, Kind, LabelRequest
from semscale.scoring.category_statistics import CategoryStatistics, RunningStatistics
from semscale.scoring.nearest import nearest_categories
from semscale.store.mirrored_directory import MirroredDirectory
from semscale.store.segment import Float32

RESULTS, QUARANTINE, STATISTICS = "results.csv", "quarantine.csv", "stats.csv"

Append = Callable[[str, Iterable[Sequence[object]]], None]

WINDOW = 2048
"""Number of items that are encoded at a time; the files do not depend on it."""

_CLASS = "image"  # placeholder for images that are only encoded

_HEADERS: dict[Kind, dict[str, tuple[str, ...]]] = {
    "image": {RESULTS: ("file", "label"), QUARANTINE: ("file", "reason")},
    "text": {RESULTS: ("text", "label"), QUARANTINE: ("line", "reason")},
}
_COLUMNS = ("category", "fraction", "average_dot_product", "variance", "second_best_category")


@dataclass(frozen=True)
class LabelResult:
    """Result of a labelling; `sent` counts the items that were not in the store; `statistics` is `stats.csv`."""

    folder: Path
    kind: Kind
    n_labelled: int
    n_bad: int
    sent: int
    statistics: pd.DataFrame
    wrote_statistics: bool

    def to_json(self) -> dict[str, Any]:
        """Return the result as JSON-compatible values; a file that was not written is None."""
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
    request: LabelRequest,
    out: Path | None,
    report: ProgressReporter,
    store: MirroredDirectory,
    *,
    stats: bool = False,
    window: int = WINDOW,
) -> LabelResult:
    """Label every item with the category whose embedding has the highest cosine similarity.

    The result files appear when complete. The same call after an interruption restarts at the first item, and sends
    only items that are not in the store.
    """
    study = study_from(  # validates the options before the listing, which may take long
        {
            "models": [request.model],
            "encoder": request.encoder,
            "server": {"urls": list(request.servers)},
            "encoding": {"actors": request.actors},
        }
    )
    listing = request.open()
    folder = out or request.default_folder(listing)
    with ExitStack() as stack:
        encoder = stack.enter_context(open_encoder(study, request.model, store, report))
        with report.stage("encoding categories", len(request.categories), "texts") as advance:
            encoder.encode_texts(request.categories, advance)
        texts = encoder.text_embeddings(request.categories)
        headers = _HEADERS[listing.kind] | ({STATISTICS: _COLUMNS} if stats else {})
        append = stack.enter_context(result_files(folder, headers))
        statistics = RunningStatistics(texts)
        done = n_bad = sent = 0
        rejected: list[tuple[str, str]] = []
        with report.stage(f"labelling {listing.title}", unit=f"{listing.kind}s") as advance:

            def progress(count: int, _: int) -> None:
                advance(done + count, None)

            while items := list(islice(listing.items, window)):
                embedded = _embed(encoder, listing, items, progress)
                nearest = nearest_categories(embedded.rows, texts)[:, 0]
                statistics.add(embedded.rows, nearest)
                labels = [request.categories[index] for index in nearest.tolist()]
                append(RESULTS, [(item.name, label) for item, label in zip(embedded.items, labels, strict=True)])
                rejected = [(item.identifier, reason) for item, reason in embedded.rejected]
                append(QUARANTINE, rejected)
                done, n_bad, sent = done + len(items), n_bad + len(rejected), sent + embedded.sent
                advance(done, None)
        table = statistics_table(request.categories, statistics.result())
        if stats:
            append(STATISTICS, table.astype(object).where(table.notna(), None).values.tolist())
    for line in listing.warnings.lines():
        report.note(f"{listing.title}: {line}")
    if not len(statistics):
        what, found = f"none of {done} {listing.kind}s could be labelled", "; ".join(map(": ".join, rejected[:3]))
        raise DatasetError(what, where=str(folder / QUARANTINE), found=found)
    return LabelResult(folder, listing.kind, len(statistics), n_bad, sent, table, stats)


class _Embedded(NamedTuple):
    """Encoded items of a window, their unit-length rows, float32[n, d], and the rejected items with reasons."""

    items: list[InputItem]
    rows: Float32
    rejected: list[tuple[InputItem, str]]
    sent: int


def _embed(
    encoder: StoreBackedEncoder, listing: InputListing, window: Sequence[InputItem], progress: Progress
) -> _Embedded:
    """Return the embeddings of a window; items that are not in the store are encoded first."""
    usable = [item for item in window if item.reason is None]
    reasons, rows, sent = dict[str, str](), np.empty((0, encoder.identity.dimension), np.float32), 0
    if usable and listing.reader is None:
        sent = encoder.encode_texts([item.name for item in usable], progress, reasons)
        texts = [item.name for item in usable if item.name not in reasons]
        rows = encoder.text_embeddings(texts) if texts else rows
    elif usable and listing.reader is not None:
        samples = [Sample(item.name, _CLASS, item.location) for item in usable]
        dataset = Dataset(listing.title, _CLASS, (_CLASS,), SampleTable.of((_CLASS,), samples), listing.reader)
        try:
            encoded = encoder.encode_images(dataset, progress)
        except TooManyBadImagesError as error:  # all images of this window; later windows may have usable ones
            reasons.update(error.quarantine)
        else:
            reasons.update(encoded.quarantine)
            rows, sent = encoder.image_embeddings(encoded.keys), encoded.sent
    outcomes = [(item, item.reason or reasons.get(item.name)) for item in window]
    encoded_items = [item for item, reason in outcomes if reason is None]
    return _Embedded(encoded_items, rows, [(item, reason) for item, reason in outcomes if reason is not None], sent)


def statistics_table(categories: Sequence[str], result: CategoryStatistics) -> pd.DataFrame:
    """Return the statistics in the original tool's columns, with missing values for categories without items."""
    second = [categories[i] if i >= 0 else None for i in result.second_best.tolist()]
    columns = (list(categories), result.fraction, result.average_dot_product, result.variance, second)
    return pd.DataFrame(dict(zip(_COLUMNS, columns, strict=True)))


@contextmanager
def result_files(folder: Path, headers: Mapping[str, Sequence[str]]) -> Iterator[Append]:
    """Yield the function that appends rows to a CSV file; at the end the files replace older ones, the first one last.

    Texts are not escaped for spreadsheets, which may read a leading sign as a formula, so that the files can be joined
    with the input.
    """
    with ExitStack() as stack:
        with _writable(folder):
            folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(folder, os.O_RDONLY)
            stack.callback(os.close, descriptor)
            if not try_lock(descriptor):
                hint = "wait for it, or use another --out"
                raise SemscaleError("another process is labelling into this folder", where=str(folder), hint=hint)
            paths = {name: stack.enter_context(atomic_write(folder / name)) for name in headers}
            files = {
                name: stack.enter_context(path.open("w", encoding="utf-8", newline="")) for name, path in paths.items()
            }

        def append(name: str, rows: Iterable[Sequence[object]]) -> None:
            with _writable(folder):
                csv.writer(files[name], lineterminator="\n").writerows(rows)

        for name, header in headers.items():
            append(name, [header])
        yield append
        with _writable(folder):
            stack.close()


@contextmanager
def _writable(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        hint = "free some space, or choose another --out; embeddings are kept"
        raise write_error("the results", folder, error, hint=hint) from error
