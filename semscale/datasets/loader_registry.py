"""Loader registry: one loader per scheme of a dataset spec, and `load_dataset`."""

from __future__ import annotations

import dataclasses
import difflib
import importlib
from collections.abc import Mapping, Sequence

from semscale.common.errors import DatasetError
from semscale.common.redact import mask_url
from semscale.datasets.bundled import BUNDLED
from semscale.datasets.bundled import open_listing as open_bundled
from semscale.datasets.dataset import Dataset, DatasetListing, DatasetOptions
from semscale.datasets.dataset_builder import build_dataset
from semscale.datasets.image_decoding import ExifOrientedReader

# scheme -> module with open_listing, imported on first use because some need heavy libraries
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
    """Return the schemes of specs, sorted."""
    return sorted(_MODULES)


def open_listing(spec: str, options: DatasetOptions) -> DatasetListing:
    """Return the listing of a spec; its images are not listed yet."""
    scheme, _, rest = spec.partition(":")
    if spec in BUNDLED:
        return open_bundled(spec, options)
    if rest and scheme in _MODULES:
        listing: DatasetListing = importlib.import_module(_MODULES[scheme]).open_listing(rest, options)
        return listing
    near = difflib.get_close_matches(scheme, [*BUNDLED, *schemes()], n=1)
    hint = f"did you mean {near[0] + ('' if near[0] in BUNDLED else ':...')!r}?" if near else None
    expected = f"{', '.join(BUNDLED)}, or one of {', '.join(f'{name}:' for name in schemes())} and a path or name"
    raise DatasetError("unknown dataset", found=mask_url(spec), expected=expected, hint=hint)


def load_dataset(  # noqa: PLR0913 -- the public keywords
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
        name: short name for tables and files, by default derived from the spec.
        domain: the hypernym of all classes, by default that of the source, or ``object``.
        class_from: rule for the class in the path, see :func:`semscale.datasets.class_from_path.compile_rule`.
        classes: names for labels: a mapping (None leaves a class out), a list for 0, 1, 2, ..., or a file with either.
        split: the split to read: ``train``, ``val``, ``test``, ``all``, or a name used in the source.
        image: column or field with the image, its path or its URL.
        label: column or field with the class.
        images: folder or archive with a table's images, by default the table's folder.
        orientation: ``stored`` ignores the EXIF orientation, as clip-server does; ``exif`` applies it.
        limit: maximum number of images, stratified, the same on every machine.
        per_class: maximum number of images of each class.
        seed: seed of the choice of images.

    Raises:
        DatasetError: the spec is unknown, or the dataset cannot be read.

    >>> load_dataset("shapes", per_class=2).samples.files(0, 1)
    ['shapes/test/0054_heart.png']
    """
    options = DatasetOptions(split, image, label, images, class_from, name, domain, classes, limit, per_class, seed)
    dataset = build_dataset(open_listing(spec, options), options, mask_url(spec))
    if orientation == "exif":
        return dataclasses.replace(dataset, reader=ExifOrientedReader(dataset.reader))
    return dataset
