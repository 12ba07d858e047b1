"""Dataset from an opened source: list it, find and name the classes, choose images, and note what is odd."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd
import pyarrow as pa

from semscale.common.errors import DatasetError, SemscaleError
from semscale.common.text import counted, hyphenated
from semscale.datasets.base import Dataset, Notes, Options, Source, as_text
from semscale.datasets.class_from_path import OTHER_SPLIT, folder_labels, rule_labels
from semscale.datasets.class_names import name_classes, read_class_map
from semscale.datasets.samples import Int32, SampleTable, file_names, listing_table, stratified_subset

# what a class is when nobody says so; the domain templates then read "Object tulip"
DEFAULT_DOMAIN = "object"


def build(source: Source, options: Options, where: str) -> Dataset:
    """List a source and return the dataset that a study uses; see :func:`~.loader_registry.load_dataset`."""
    given, order = read_class_map(options.classes)
    order = order or (list(source.classes) if source.classes else None)
    notes = source.notes
    labels: dict[str, int] = {}  # numbered in the order in which they came
    code, rejected = array("i"), dict[str, str]()
    table = listing_table(_usable(source, labels, code, rejected))
    if not len(table):
        reasons = [*(f"{file}: {reason}" for file, reason in list(rejected.items())[:1]), *notes.lines()]
        found = "; ".join(reasons) or "nothing"
        raise DatasetError("the dataset has no images", where=where, found=found, expected="images")
    codes = np.array(code, dtype=np.int32)
    hashes = pd.Series(np.fromiter(map(hash, file_names(table)), np.int64, len(table)))
    if (repeated := hashes.duplicated().to_numpy()).any():
        repeated = table.column("file").to_pandas().duplicated().to_numpy()
        _note_repeated(table, codes, list(labels), notes)
    keep = ~repeated  # the first row of a name stays
    if options.class_from is not None or source.by_path:
        if options.class_from is not None:
            label_of = rule_labels(options.class_from, options.split)
        else:
            label_of = folder_labels(lambda: file_names(table), options.split, notes, where, peel=source.peel)
        for row, path in enumerate(file_names(table)):
            label = label_of(path) if keep[row] else OTHER_SPLIT
            keep[row] = label != OTHER_SPLIT
            codes[row] = -1 if label in (None, OTHER_SPLIT) else labels.setdefault(str(label), len(labels))
    for row in np.flatnonzero(keep & (codes == -1)).tolist():
        notes.add("images without a class are left out", table.column("file")[row].as_py())
    if not (keep & (codes != -1)).any():
        raise _no_class(table, options, source, where)
    known = {str(number): name for number, name in enumerate(source.classes or ())}
    classes, of_label = name_classes(list(labels), notes, known=known, order=order, given=given)
    index = np.where(codes >= 0, of_label[codes], -1).astype(np.int32)
    rows = np.flatnonzero(keep & (index >= 0))
    index = index[rows]
    counts = np.bincount(index, minlength=len(classes))
    if not order:  # classes without images stay only where the source or the user states the classes
        index = (np.cumsum(counts > 0) - 1)[index].astype(np.int32)
        classes = tuple(name for name, count in zip(classes, counts, strict=True) if count)
        counts = counts[counts > 0]
    _check_classes(dict(zip(classes, counts.tolist(), strict=True)), notes, where)
    samples = SampleTable(classes, table, index, None if len(rows) == len(table) else rows)
    return Dataset(
        name=dataset_name(options.name or source.name),
        domain=options.domain or source.domain or DEFAULT_DOMAIN,
        classes=classes,
        samples=stratified_subset(samples, limit=options.limit, per_class=options.per_class, seed=options.seed),
        reader=source.reader,
        rejected=rejected,
        notes=tuple(notes.lines()),
    )


def dataset_name(name: str) -> str:
    """Return a dataset's name as it can stand in files and tables."""
    return hyphenated(name, ".-") or "dataset"


def _usable(
    source: Source, labels: dict[str, int], codes: array[int], rejected: dict[str, str]
) -> Iterator[tuple[str, str]]:
    """Yield file and place of what can be used; fill their labels' numbers (-1 for none), and what cannot be used."""
    for entry in source.entries:
        file = as_text(entry.file)
        if entry.reason is not None or file != entry.file:
            rejected[file] = entry.reason or "its name is not in UTF-8"
            continue
        codes.append(-1 if entry.label is None else labels.setdefault(entry.label, len(labels)))
        yield file, entry.place


def _note_repeated(table: pa.Table, codes: Int32, labels: list[str], notes: Notes) -> None:
    """Name the files that are listed more than once."""
    files = table.column("file").to_pandas()
    repeated = files.duplicated(keep=False)
    for name, found in pd.Series(codes)[repeated].groupby(files[repeated], sort=False).unique().items():
        if len(found) > 1:
            said = " and ".join(repr(labels[code]) if code >= 0 else "no class" for code in sorted(found))
            notes.add("images are listed under different classes, of which the first counts", f"{name} ({said})")
        else:
            notes.add("images are listed more than once", str(name))


def _no_class(table: pa.Table, options: Options, source: Source, where: str) -> SemscaleError:
    first = ", ".join(table.column("file").slice(0, 3).to_pylist())
    found = "; ".join([f"{counted(len(table), 'images')} such as {first}", *source.notes.lines()])
    if options.class_from is not None:
        what, expected = "the rule for the class fits no file", options.class_from
        return DatasetError(what, where=where, found=found, expected=expected)
    expected = "one folder per class" if source.by_path else "a class for each image"
    hint = 'say where the class stands, for example class_from: "{class}_{number}.jpg"'
    return DatasetError("no image has a class", where=where, found=found, expected=expected, hint=hint)


def _check_classes(counts: Mapping[str, int], notes: Notes, where: str) -> None:
    if len(counts) < 2:
        found = f"{counted(sum(counts.values()), 'images')} of {', '.join(counts) or 'no class'}"
        found = "; ".join([found, *notes.lines()])
        expected = "for example one folder per class, or class_from"
        raise DatasetError("a study needs images of at least two classes", where=where, found=found, expected=expected)
    for name, count in counts.items():
        if count == 1:
            notes.add("classes have a single image", name)
        elif count == 0:
            notes.add("classes have no image and are offered all the same", name)
