"""Loader of Hugging Face datasets through the package ``datasets``: from the hub, or from a folder.

- ``hf:food101``, ``hf:org/name:test``: a dataset of the hub and its split;
- ``hf:org/name@CONFIG:test``: one of its configurations;
- ``hf:FOLDER``: what ``save_to_disk`` wrote, or a folder that ``load_dataset`` understands (imagefolder, Parquet, ...).

The driver reads the label column and the names of the images; the workers open the dataset themselves and read the
encoded images, which are never decoded and encoded again. A hub dataset is pinned to the commit that the driver found.
Each node needs it in its cache: with no ``HF_HOME`` that all nodes share, every node downloads for itself, with the
``HF_TOKEN`` of its own environment. Without a network the cache is used; ``HF_HUB_OFFLINE=1`` spares the attempts.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import pyarrow.compute as pc

from semscale.common.errors import DatasetError, summarize
from semscale.common.filesystem import read_whole, stem
from semscale.datasets.base import Entry, Notes, Options, Source
from semscale.datasets.class_from_path import choose_split
from semscale.datasets.hubs.collection_names import import_package, name_and_split, opened_once
from semscale.datasets.tables.columns import Layout, find_layout
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

    def read(self, place: str) -> bytes:
        """Return the image of a row. Raises OSError when it cannot be read."""
        split, _, row = place.rpartition(":")
        images = _images((self.address, split, self.column))
        try:
            cell = images[int(row)][self.column]
        except IndexError as error:
            raise OSError("the dataset on this machine is another one, with fewer rows") from error
        return image_bytes(cell, read_whole)


def open_source(rest: str, options: Options) -> Source:
    """Open a dataset of the hub or of a folder; see the module for what the spec can say."""
    address, wanted = _address(rest, options.split)
    where = f"hf:{address.path}" + (f"@{address.config}" if address.config else "")
    notes = Notes()
    splits, commit = _open(address)
    split = choose_split(list(splits), wanted, notes, where)
    chosen = splits if split is None else {split: splits[split]}
    layout = find_layout(next(iter(chosen.values())).features.arrow_schema, options, where)
    if not layout.inline:
        raise DatasetError("the column has no images", where=where, found=f"image: {layout.image}", expected="Image")
    reader = HuggingFaceReader(address._replace(revision=commit), layout.image)
    return Source(stem(address.path), reader, _entries(chosen, layout), notes, layout.names)


def _library() -> Any:
    """Import ``datasets``, silent: no bars, no telemetry, no warnings about retries and cards."""
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
    name, wanted = name_and_split(rest, option)
    if os.path.isdir(folder := os.path.abspath(os.path.expanduser(name))):
        return Address(folder), wanted
    path, _, config = name.partition("@")
    if not re.fullmatch(r"\w[\w.-]*(/[\w.-]+)?", path):
        what = "no such folder, and no name of a dataset on the hub"
        raise DatasetError(what, where="hf:", found=path, expected="NAME or ORG/NAME")
    return Address(path, config or None), wanted


def _commit_on_hub(address: Address) -> str | None:
    """Return the commit of a dataset on the hub; None when the hub is out of reach, by choice or not."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    try:
        commit: str | None = HfApi().dataset_info(address.path, revision=address.revision, timeout=_HUB_TIMEOUT_S).sha
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        what = "the hub has no such dataset, or does not show it to you"
        hint = "check the name; HF_TOKEN opens private and gated datasets"
        raise DatasetError(what, where=f"hf:{address.path}", found=summarize(error), hint=hint) from error
    except Exception:  # no route, no name service, a proxy's page: the packages underneath raise nearly anything
        return None
    return commit


def _open(address: Address) -> tuple[dict[str, Any], str | None]:
    """Return the splits of a dataset, mapped into memory, and its commit on the hub."""
    hub, local = _library(), os.path.isabs(address.path)
    commit = None if local else _commit_on_hub(address)
    try:
        if local and any(os.path.isfile(os.path.join(address.path, name)) for name in _SAVED):
            saved = hub.load_from_disk(address.path)
            return dict(saved) if isinstance(saved, hub.DatasetDict) else {str(saved.split or "all"): saved}, None
        return dict(hub.load_dataset(address.path, address.config, revision=commit)), commit
    except Exception as error:  # the package lets through whatever pyarrow, fsspec, httpx and the hub raise
        what, found = "the dataset cannot be loaded", summarize(error)
        if local:
            expected = "a folder of save_to_disk, or one that load_dataset understands"
            raise DatasetError(what, where=address.path, found=found, expected=expected) from error
        hint = "check the network and the name; HF_TOKEN opens private and gated datasets"
        raise DatasetError(what, where=f"hf:{address.path}", found=found, hint=hint) from error


@opened_once(8)
def _images(key: tuple[Address, str, str]) -> Any:
    """Return the rows with encoded images of an address, a split and a column."""
    address, split, column = key
    splits, _ = _open(address)
    if split not in splits or column not in splits[split].column_names:
        raise DatasetError("the dataset on this machine is another one", found=f"no column {column} in split {split}")
    images = splits[split].select_columns([column])
    decode_off = _library().Image(decode=False)
    return images.cast_column(column, decode_off) if hasattr(images.features[column], "decode") else images


def _entries(splits: Mapping[str, Any], layout: Layout) -> Iterator[Entry]:
    """List rows by batches of the mapped Arrow file; the bytes of the images are not touched."""
    columns = [layout.image] if layout.label is None else [layout.image, layout.label]
    for split, dataset in splits.items():
        row = 0
        for batch in dataset.select_columns(columns).with_format("arrow").iter(_BATCH):
            nothing = [None] * len(batch)
            labels = nothing if layout.label is None else batch.column(layout.label).to_pylist()
            paths = pc.struct_field(batch.column(layout.image), "path").to_pylist() if layout.path else nothing
            for path, label in zip(paths, labels, strict=True):
                leaf = os.path.basename(path or "")
                known = label is not None and not (layout.names and label < 0)  # -1: a test split without its answers
                name = f"{split}/{row:06d}/{leaf}" if leaf else f"{split}/{row:06d}"
                yield Entry(name, f"{split}:{row}", str(label) if known else None)
                row += 1
