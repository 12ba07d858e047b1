"""Dataset builder: turns a listing into a dataset with named classes and a subset of images, and collects warnings."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping
from functools import partial

import numpy as np
import pandas as pd
import pyarrow as pa

from semscale.common.errors import DatasetError
from semscale.common.text import counted, hyphenated
from semscale.datasets.class_from_path import OTHER_SPLIT, folder_labels, rule_labels
from semscale.datasets.class_names import name_classes, read_class_map
from semscale.datasets.dataset import Dataset, DatasetListing, DatasetOptions, ListingWarnings, utf8_name
from semscale.datasets.samples import Int32, SampleTable, file_names, listing_table, stratified_subset

# the domain by default; the domain templates then read "Object tulip"
DEFAULT_DOMAIN = "object"


def build_dataset(listing: DatasetListing, options: DatasetOptions, where: str) -> Dataset:
    """Read a listing and return its dataset; see :func:`~.loader_registry.load_dataset`."""
    class_map, order = read_class_map(options.classes)
    order = order or (list(listing.classes) if listing.classes else None)
    warnings = listing.warnings
    labels: dict[str, int] = {}  # numbered by first occurrence
    code, rejected = array("i"), dict[str, str]()
    table = listing_table(_usable_entries(listing, labels, code, rejected))
    if not len(table):
        reasons = [*(f"{file}: {reason}" for file, reason in list(rejected.items())[:1]), *warnings.lines()]
        found = "; ".join(reasons) or "nothing"
        raise DatasetError("the dataset has no images", where=where, found=found, expected="images")
    codes = np.array(code, dtype=np.int32)
    hashes = pd.Series(np.fromiter(map(hash, file_names(table)), np.int64, len(table)))
    if (repeated := hashes.duplicated().to_numpy()).any():
        repeated = table.column("file").to_pandas().duplicated().to_numpy()
        _warn_of_repeated(table, codes, list(labels), warnings)
    keep = ~repeated  # the first row of a name stays
    if options.class_from is not None or listing.class_from_folder:
        if options.class_from is not None:
            label_of = rule_labels(options.class_from, options.split)
        else:
            paths, strip = partial(file_names, table), listing.strip_common_prefix
            label_of = folder_labels(paths, options.split, warnings, where, strip=strip)
        for row, path in enumerate(file_names(table)):
            label = label_of(path) if keep[row] else OTHER_SPLIT
            keep[row] = label != OTHER_SPLIT
            codes[row] = -1 if label in (None, OTHER_SPLIT) else labels.setdefault(str(label), len(labels))
    for row in np.flatnonzero(keep & (codes == -1)).tolist():
        warnings.add("images without a class are left out", table.column("file")[row].as_py())
    if not (keep & (codes != -1)).any():
        raise _no_class(table, options, listing, where)
    stated = {str(number): name for number, name in enumerate(listing.classes or ())}
    classes, class_of_label = name_classes(list(labels), warnings, stated=stated, order=order, class_map=class_map)
    index = np.where(codes >= 0, class_of_label[codes], -1).astype(np.int32)
    rows = np.flatnonzero(keep & (index >= 0))
    index = index[rows]
    counts = np.bincount(index, minlength=len(classes))
    if not order:  # classes without images stay only where the source or the user states the classes
        index = (np.cumsum(counts > 0) - 1)[index].astype(np.int32)
        classes = tuple(name for name, count in zip(classes, counts, strict=True) if count)
        counts = counts[counts > 0]
    _check_classes(dict(zip(classes, counts.tolist(), strict=True)), warnings, where)
    samples = SampleTable(classes, table, index, None if len(rows) == len(table) else rows)
    return Dataset(
        name=dataset_name(options.name or listing.name),
        domain=options.domain or listing.domain or DEFAULT_DOMAIN,
        classes=classes,
        samples=stratified_subset(samples, limit=options.limit, per_class=options.per_class, seed=options.seed),
        reader=listing.reader,
        rejected=rejected,
        notes=tuple(warnings.lines()),
    )


def dataset_name(name: str) -> str:
    """Return a dataset's name in the form used in files and tables."""
    return hyphenated(name, ".-") or "dataset"


def _usable_entries(
    listing: DatasetListing, labels: dict[str, int], codes: array[int], rejected: dict[str, str]
) -> Iterator[tuple[str, str]]:
    """Yield file and location of the usable images; append their label numbers (-1: none), fill the rejected files."""
    for entry in listing.entries:
        file = utf8_name(entry.file)
        if entry.reason is not None or file != entry.file:
            rejected[file] = entry.reason or "its name is not in UTF-8"
            continue
        codes.append(-1 if entry.label is None else labels.setdefault(entry.label, len(labels)))
        yield file, entry.location


def _warn_of_repeated(table: pa.Table, codes: Int32, labels: list[str], warnings: ListingWarnings) -> None:
    """Add a warning for each file that is listed more than once."""
    files = table.column("file").to_pandas()
    repeated = files.duplicated(keep=False)
    for name, distinct in pd.Series(codes)[repeated].groupby(files[repeated], sort=False).unique().items():
        if len(distinct) > 1:
            classes = " and ".join(repr(labels[code]) if code >= 0 else "no class" for code in sorted(distinct))
            warnings.add("images are listed under different classes, of which the first counts", f"{name} ({classes})")
        else:
            warnings.add("images are listed more than once", str(name))


def _no_class(table: pa.Table, options: DatasetOptions, listing: DatasetListing, where: str) -> DatasetError:
    first = ", ".join(table.column("file").slice(0, 3).to_pylist())
    found = "; ".join([f"{counted(len(table), 'images')} such as {first}", *listing.warnings.lines()])
    if options.class_from is not None:
        what, expected = "the rule for the class fits no file", options.class_from
        return DatasetError(what, where=where, found=found, expected=expected)
    expected = "one folder per class" if listing.class_from_folder else "a class for each image"
    hint = 'set the position of the class, for example class_from: "{class}_{number}.jpg"'
    return DatasetError("no image has a class", where=where, found=found, expected=expected, hint=hint)


def _check_classes(counts: Mapping[str, int], warnings: ListingWarnings, where: str) -> None:
    if len(counts) < 2:
        found = f"{counted(sum(counts.values()), 'images')} of {', '.join(counts) or 'no class'}"
        found = "; ".join([found, *warnings.lines()])
        expected = "for example one folder per class, or class_from"
        raise DatasetError("a study needs images of at least two classes", where=where, found=found, expected=expected)
    for name, count in counts.items():
        if count == 1:
            warnings.add("classes have a single image", name)
        elif count == 0:
            warnings.add("classes have no image and are offered nevertheless", name)
