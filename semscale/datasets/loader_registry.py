"""Loaders of datasets, one per scheme, and the dataset that a spec of a study file names."""

from __future__ import annotations

import dataclasses
import difflib
import importlib
from collections.abc import Mapping, Sequence

from semscale.common.errors import DatasetError
from semscale.common.redact import shown
from semscale.datasets.base import Dataset, Options, Source
from semscale.datasets.bundled import BUNDLED
from semscale.datasets.bundled import open_source as open_bundled
from semscale.datasets.dataset_builder import build
from semscale.datasets.image_decoding import ExifOrientedReader

# scheme -> module with open_source; imported when asked for, since some bring heavy libraries
_MODULES = {
    "folder": "semscale.datasets.folder",
    "zip": "semscale.datasets.archives",
    "tar": "semscale.datasets.archives",
    "table": "semscale.datasets.tables.annotation_table",
    "webdataset": "semscale.datasets.archives.webdataset",
    "parquet": "semscale.datasets.tables.parquet",
    "hf": "semscale.datasets.hubs.huggingface",
    "torchvision": "semscale.datasets.hubs.torchvision",
}


def schemes() -> list[str]:
    """Return what a spec can begin with."""
    return sorted(_MODULES)


def open_source(spec: str, options: Options) -> Source:
    """Open what a spec names, without listing it."""
    scheme, _, rest = spec.partition(":")
    if spec in BUNDLED:
        return open_bundled(spec, options)
    if rest and scheme in _MODULES:
        opened: Source = importlib.import_module(_MODULES[scheme]).open_source(rest, options)
        return opened
    near = difflib.get_close_matches(scheme, [*BUNDLED, *schemes()], n=1)
    hint = f"did you mean {near[0] + ('' if near[0] in BUNDLED else ':...')!r}?" if near else None
    expected = f"{', '.join(BUNDLED)}, or one of {', '.join(f'{name}:' for name in schemes())} and a path or name"
    raise DatasetError("unknown dataset", found=shown(spec), expected=expected, hint=hint)


def load_dataset(  # noqa: PLR0913 -- keywords are what people look up
    spec: str,
    *,
    name: str | None = None,
    domain: str | None = None,
    class_from: str | None = None,
    classes: Mapping[str, str | None] | Sequence[str] | str | None = None,
    split: str | None = None,
    image: str | None = None,
    label: str | None = None,
    images: str | None = None,
    orientation: str = "stored",
    limit: int | None = None,
    per_class: int | None = None,
    seed: int = 0,
) -> Dataset:
    """Return the dataset that a spec names.

    Args:
        spec: ``digits``, ``shapes``, or a scheme and a path or name: ``folder:PATH``, ``zip:PATH``, ``tar:PATH``,
            ``table:FILE``, ``webdataset:SHARDS``, ``parquet:PATH``, ``hf:NAME[:split]``, ``torchvision:NAME[:split]``.
        name: short name for tables and files; the spec's own unless given.
        domain: the word for what all classes are; the spec's own, or ``object``.
        class_from: rule for the class in the path, see :func:`semscale.datasets.class_from_path.compile_rule`.
        classes: names for labels: a mapping (None leaves a class out), a list for 0, 1, 2, ..., or a file with either.
        split: the part to read: ``train``, ``val``, ``test``, ``all``, or a name of the source's own.
        image: column or field with the image, its path or its URL.
        label: column or field with the class.
        images: folder or archive with a table's images; beside the table unless given.
        orientation: ``stored`` takes the pixels as they are, as clip-server does; ``exif`` turns them as the tag says.
        limit: keep at most this many images, stratified, the same ones on every machine.
        per_class: keep at most this many images of each class.
        seed: chooses which images are kept.

    Raises:
        DatasetError: unknown spec, or the loader's own complaint.

    >>> load_dataset("shapes", per_class=2).samples.files(0, 1)
    ['shapes/test/0054_heart.png']
    """
    options = Options(split, image, label, images, class_from, name, domain, classes, limit, per_class, seed)
    dataset = build(open_source(spec, options), options, shown(spec))
    if orientation == "exif":
        return dataclasses.replace(dataset, reader=ExifOrientedReader(dataset.reader))
    return dataset
