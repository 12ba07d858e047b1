"""Loader of Hugging Face datasets through the package ``datasets``, from the hub or from a folder.

- ``hf:food101``, ``hf:org/name:test``: a dataset of the hub and its split;
- ``hf:org/name@CONFIG:test``: one of its configurations;
- ``hf:FOLDER``: a folder written by ``save_to_disk``, or one that ``load_dataset`` accepts (imagefolder, Parquet, ...).

The driver reads the label column and the names of the images; the workers open the dataset and read the encoded images,
which are not re-encoded. A hub dataset is pinned to the commit seen by the driver. Without an ``HF_HOME`` shared by all
nodes, each node downloads it with the ``HF_TOKEN`` of its environment. Without a network the cache is used;
``HF_HUB_OFFLINE=1`` skips the attempts.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import pyarrow.compute as pc

from semscale.common.errors import DatasetError, summarize
from semscale.common.filesystem import read_image_file, stem
from semscale.datasets.class_from_path import choose_split
from semscale.datasets.dataset import DatasetListing, DatasetOptions, ListedImage, ListingWarnings
from semscale.datasets.hubs.collection_names import cached_for_readers, import_package, name_and_split
from semscale.datasets.tables.columns import TableLayout, find_layout
from semscale.datasets.tables.row_images import image_bytes

_BATCH = 8192
_SAVED = ("state.json", "dataset_dict.json")
_HUB_TIMEOUT_S = 10.0


class Address(NamedTuple):
    """Hub id or absolute folder of a dataset, its configuration, and the commit of a hub dataset."""

    path: str
    config: str | None = None
    revision: str | None = None


@dataclass(frozen=True)
class HuggingFaceReader:
    """Reader of encoded images by ``split:row``; opens the dataset once per process."""

    address: Address
    column: str

    def read(self, location: str) -> bytes:
        """Return the image of a row. Raises OSError when it cannot be read."""
        split, _, row = location.rpartition(":")
        images = _images((self.address, split, self.column))
        try:
            cell = images[int(row)][self.column]
        except IndexError as error:
            raise OSError("the dataset on this machine differs: it has fewer rows") from error
        return image_bytes(cell, read_image_file)


def open_listing(rest: str, options: DatasetOptions) -> DatasetListing:
    """Open a dataset of the hub or a folder; the module docstring has the forms of the spec."""
    address, requested = _address(rest, options.split)
    where = f"hf:{address.path}" + (f"@{address.config}" if address.config else "")
    warnings = ListingWarnings()
    splits, commit = _open(address)
    split = choose_split(list(splits), requested, warnings, where)
    splits = splits if split is None else {split: splits[split]}
    layout = find_layout(next(iter(splits.values())).features.arrow_schema, options, where)
    if not layout.inline:
        raise DatasetError("the column has no images", where=where, found=f"image: {layout.image}", expected="Image")
    reader = HuggingFaceReader(address._replace(revision=commit), layout.image)
    return DatasetListing(stem(address.path), reader, _entries(splits, layout), warnings, layout.names)


def _library() -> Any:
    """Import ``datasets`` without progress bars, telemetry, and warnings about retries and cards."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("HF_UPDATE_DOWNLOAD_COUNTS", "0")
    datasets, huggingface_hub = import_package("datasets", "hf"), import_package("huggingface_hub", "hf")
    huggingface_hub.constants.HF_HUB_DISABLE_TELEMETRY = True  # another package may have imported it earlier
    huggingface_hub.utils.disable_progress_bars()
    huggingface_hub.utils.logging.set_verbosity_error()
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity_error()
    return datasets


def _address(rest: str, option: str | None) -> tuple[Address, str | None]:
    if os.path.isdir(folder := os.path.abspath(os.path.expanduser(rest))):
        return Address(folder), option
    name, requested = name_and_split(rest, option)
    if os.path.isdir(folder := os.path.abspath(os.path.expanduser(name))):
        return Address(folder), requested
    path, _, config = name.partition("@")
    if not re.fullmatch(r"\w[\w.-]*(/[\w.-]+)?", path):
        what = "neither a folder nor the name of a dataset on the hub"
        raise DatasetError(what, where="hf:", found=path, expected="NAME or ORG/NAME")
    return Address(path, config or None), requested


def _commit_on_hub(address: Address) -> str | None:
    """Return the commit of a dataset on the hub; None if the hub is unreachable or offline mode is set."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    try:
        commit: str | None = HfApi().dataset_info(address.path, revision=address.revision, timeout=_HUB_TIMEOUT_S).sha
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        what = "the dataset does not exist on the hub, or you have no access"
        hint = "check the name; HF_TOKEN opens private and gated datasets"
        raise DatasetError(what, where=f"hf:{address.path}", found=summarize(error), hint=hint) from error
    except Exception:  # no route, no name service, a proxy's page: the packages underneath raise nearly anything
        return None
    return commit


def _open(address: Address) -> tuple[dict[str, Any], str | None]:
    """Return the splits of a dataset, memory-mapped, and its commit on the hub."""
    hub, local = _library(), os.path.isabs(address.path)
    commit = None if local else _commit_on_hub(address)
    try:
        if local and any(os.path.isfile(os.path.join(address.path, name)) for name in _SAVED):
            saved = hub.load_from_disk(address.path)
            return dict(saved) if isinstance(saved, hub.DatasetDict) else {str(saved.split or "all"): saved}, None
        return dict(hub.load_dataset(address.path, address.config, revision=commit)), commit
    except Exception as error:  # any exception of pyarrow, fsspec, httpx and the hub
        what, found = "the dataset cannot be loaded", summarize(error)
        if local:
            expected = "a folder written by save_to_disk, or one that load_dataset accepts"
            raise DatasetError(what, where=address.path, found=found, expected=expected) from error
        hint = "check the network and the name; HF_TOKEN opens private and gated datasets"
        raise DatasetError(what, where=f"hf:{address.path}", found=found, hint=hint) from error


@cached_for_readers(8)
def _images(key: tuple[Address, str, str]) -> Any:
    """Return the rows with encoded images of an address, a split and a column."""
    address, split, column = key
    splits, _ = _open(address)
    if split not in splits or column not in splits[split].column_names:
        raise DatasetError("the dataset on this machine differs", found=f"no column {column} in split {split}")
    images = splits[split].select_columns([column])
    decode_off = _library().Image(decode=False)
    return images.cast_column(column, decode_off) if hasattr(images.features[column], "decode") else images


def _entries(splits: Mapping[str, Any], layout: TableLayout) -> Iterator[ListedImage]:
    """Yield the rows in batches of the memory-mapped Arrow file; image bytes are not read."""
    columns = [layout.image] if layout.label is None else [layout.image, layout.label]
    for split, dataset in splits.items():
        row = 0
        for batch in dataset.select_columns(columns).with_format("arrow").iter(_BATCH):
            nones = [None] * len(batch)
            labels = nones if layout.label is None else batch.column(layout.label).to_pylist()
            paths = pc.struct_field(batch.column(layout.image), "path").to_pylist() if layout.path else nones
            for path, label in zip(paths, labels, strict=True):
                leaf = os.path.basename(path or "")
                has_label = label is not None and not (layout.names and label < 0)  # -1: a test split without labels
                name = f"{split}/{row:06d}/{leaf}" if leaf else f"{split}/{row:06d}"
                yield ListedImage(name, f"{split}:{row}", str(label) if has_label else None)
                row += 1
