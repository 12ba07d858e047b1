"""From an opened source to a dataset: list, find the classes, name them, choose images, and say what is odd."""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa

from semscale.datasets.base import Dataset
from semscale.datasets.cut import cut
from semscale.datasets.names import name_classes, read_class_map
from semscale.datasets.paths import OTHER_SPLIT, FolderRule, LabelOf, rule_labels
from semscale.datasets.samples import Int32, SampleTable, Spool, repeated_rows
from semscale.datasets.source import Notes, Options, Source, as_text
from semscale.errors import SemscaleError

# what a class is when nobody says so; the domain templates then read "Object tulip"
DEFAULT_DOMAIN = "object"

_BATCH = 65_536


def build(
    source: Source,
    options: Options,
    *,
    where: str,
    name: str | None = None,
    domain: str | None = None,
    classes: Mapping[str, str | None] | Sequence[str] | str | None = None,
    limit: int | None = None,
    per_class: int | None = None,
    seed: int = 0,
) -> Dataset:
    """List a source and return the dataset that a study uses; see :func:`semscale.datasets.registry.load_dataset`.

    Raises:
        SemscaleError: no images, fewer than two classes, a rule that fits no file, or the source's own complaint.
    """
    given, order = read_class_map(classes)
    notes, rejected = source.notes, {}
    labels: dict[str, int] = {}  # numbered in the order in which they came
    spool, codes, folders = Spool(), array("i"), FolderRule(source.peel)
    for entry in source.entries:
        if entry.reason is not None:
            rejected[as_text(entry.file)] = entry.reason
            continue
        if as_text(entry.file) != entry.file:
            rejected[as_text(entry.file)] = "its name is not in UTF-8"
            continue
        spool.add(entry.file, entry.place)
        codes.append(-1 if entry.label is None else labels.setdefault(entry.label, len(labels)))
        if source.by_path:
            folders.see(entry.file)
    table = spool.table()
    code = np.array(codes, dtype=np.int32)
    keep = np.ones(len(code), dtype=np.bool_)
    repeated = repeated_rows(table)
    keep[repeated] = False  # the first row of a name stays
    _note_repeated(repeated, table, code, list(labels), notes)
    if options.class_from is not None or source.by_path:
        rule = (
            rule_labels(options.class_from, options.split)
            if options.class_from is not None
            else folders.labels(lambda: _paths(table), options.split, notes, where)
        )
        _label_by_path(table, code, keep, rule, labels)
    unlabelled = keep & (code == -1)
    for row in np.flatnonzero(unlabelled).tolist():
        notes.add("images without a class are left out", table.column("file")[row].as_py())
    _check_some(table, keep & ~unlabelled, code, options, source, where, rejected)
    naming = name_classes(list(labels), notes, known=source.labels, order=order or source.classes, given=given)
    index = np.full(len(code), -1, dtype=np.int32)
    known = code >= 0
    index[known] = naming.index[code[known]]
    rows = np.flatnonzero(keep & (index >= 0))
    samples = SampleTable(naming.classes, table, index[rows], None if len(rows) == len(table) else rows)
    samples = _drop_unused(samples, keep_empty=bool(order or source.classes))
    _check_classes(samples, notes, where)
    return Dataset(
        name=slug(name or source.name),
        domain=domain or source.domain or DEFAULT_DOMAIN,
        classes=samples.classes,
        samples=cut(samples, limit=limit, per_class=per_class, seed=seed),
        reader=source.reader,
        rejected=rejected,
        notes=tuple(notes.lines()),
    )


def slug(name: str) -> str:
    """Return a dataset's name as it can stand in files and tables.

    >>> slug("my photos (2)")
    'my-photos-2'
    """
    return re.sub(r"[^A-Za-z0-9.-]+", "-", name).strip("-") or "dataset"


def _paths(table: pa.Table) -> Iterator[str]:
    for start in range(0, len(table), _BATCH):
        yield from table.column("file").slice(start, _BATCH).to_pylist()


def _label_by_path(table: pa.Table, code: Int32, keep: np.ndarray, rule: LabelOf, labels: dict[str, int]) -> None:
    for row, path in enumerate(_paths(table)):
        if not keep[row]:
            continue
        label = rule(path)
        if label == OTHER_SPLIT:
            keep[row] = False
        code[row] = -1 if label is None or label == OTHER_SPLIT else labels.setdefault(label, len(labels))


def _note_repeated(repeated: Sequence[int], table: pa.Table, codes: Int32, labels: Sequence[str], notes: Notes) -> None:
    """Name the files that are listed more than once, in one pass however many they are."""
    owners: dict[str, set[int]] = {table.column("file")[row].as_py(): set() for row in repeated}
    if not owners:
        return
    for name, code in zip(_paths(table), codes.tolist(), strict=True):
        if name in owners:
            owners[name].add(code)
    for name, found in owners.items():
        if len(found) > 1:
            said = " and ".join(repr(labels[code]) if code >= 0 else "no class" for code in sorted(found))
            notes.add("images are listed under different classes, of which the first counts", f"{name} ({said})")
        else:
            notes.add("images are listed more than once", name)


def _check_some(
    table: pa.Table,
    usable: np.ndarray,
    code: Int32,
    options: Options,
    source: Source,
    where: str,
    rejected: Mapping[str, str],
) -> None:
    if usable.any():
        return
    if len(table):
        sample = ", ".join(table.column("file").slice(0, 3).to_pylist())
        if options.class_from is not None:
            raise SemscaleError(
                "the rule for the class fits no file",
                where=where,
                found=f"{len(table)} images such as {sample}",
                expected=options.class_from,
            )
        raise SemscaleError(
            "no image has a class",
            where=where,
            found=f"{len(table)} images such as {sample}",
            expected="one folder per class" if source.by_path else "a class for each image",
            hint='say where the class stands, for example class_from: "{class}_{number}.jpg"',
        )
    reason = next((f"{file}: {reason}" for file, reason in rejected.items()), None)
    lines = source.notes.lines()
    raise SemscaleError(
        "the dataset has no images", where=where, found=reason or (lines[0] if lines else "nothing"), expected="images"
    )


def _drop_unused(samples: SampleTable, keep_empty: bool) -> SampleTable:
    """Leave out classes without images, unless the source or the user states the classes."""
    if keep_empty:
        return samples
    present = np.bincount(samples.class_index, minlength=len(samples.classes)) > 0
    if present.all():
        return samples
    position = np.cumsum(present) - 1
    classes = [name for name, there in zip(samples.classes, present, strict=True) if there]
    return samples.reclassed(classes, position[samples.class_index].astype(np.int32))


def _check_classes(samples: SampleTable, notes: Notes, where: str) -> None:
    if len(samples.classes) < 2:
        raise SemscaleError(
            "a study needs images of at least two classes",
            where=where,
            found=f"{len(samples)} images of {', '.join(samples.classes) or 'no class'}",
            expected="for example one folder per class, or class_from",
        )
    counts = np.bincount(samples.class_index, minlength=len(samples.classes))
    for name, count in zip(samples.classes, counts, strict=True):
        if count == 1:
            notes.add("classes have a single image", name)
        elif count == 0:
            notes.add("classes have no image and are offered all the same", name)
