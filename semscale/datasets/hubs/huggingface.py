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
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from semscale.datasets.hubs.common import missing_package, name_and_split, opened_once, short, splits_to_read
from semscale.datasets.source import Entry, Notes, Options, Source
from semscale.datasets.tables.parquet_schema import Layout, find_layout
from semscale.datasets.where import MAX_FILE_BYTES, read_whole, stem
from semscale.errors import SemscaleError

_BATCH = 8192
_SAVED = ("state.json", "dataset_dict.json")
_HUB_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Address:
    """Where a dataset is; enough to open it again on another machine.

    Attributes:
        path: a hub id, or an absolute folder.
        config: the configuration, None for the default one.
        revision: the commit of a hub dataset.
    """

    path: str
    config: str | None = None
    revision: str | None = None


@dataclass(frozen=True)
class HuggingFaceReader:
    """Reader of encoded images by ``split:row``; opens the dataset once per process.

    Attributes:
        address: where the dataset is.
        column: the column with the images.
    """

    address: Address
    column: str

    def read(self, place: str) -> bytes:
        """Return the image of a row. Raises OSError when it cannot be read."""
        split, _, row = place.rpartition(":")
        images = _images(self.address, split, self.column)
        if isinstance(images, str):
            raise OSError(images)
        try:
            cell = images[int(row)][self.column]
        except IndexError as error:
            raise OSError("the dataset on this machine is another one, with fewer rows") from error
        content, path = (cell.get("bytes"), cell.get("path")) if isinstance(cell, dict) else (cell, None)
        if content is None:
            if path is None:
                raise OSError("the row has no image")
            return read_whole(path)
        if len(content) > MAX_FILE_BYTES:
            raise OSError(f"larger than {MAX_FILE_BYTES // 2**20} MiB")
        return bytes(content)


def open_source(rest: str, options: Options) -> Source:
    """Open a dataset of the hub or of a folder; see the module for what the spec can say.

    Raises:
        SemscaleError: the package is missing, the dataset is unknown, gated or out of reach, it has no such
            configuration, split or column, or no column that is clearly the image or the class.
    """
    address, wanted = _address(rest, options.split)
    where = f"hf:{address.path}" + (f"@{address.config}" if address.config else "")
    notes = Notes()
    splits, commit = _open(address)
    chosen = {split: splits[split] for split in splits_to_read(list(splits), wanted, notes, where)}
    layout = find_layout(next(iter(chosen.values())).features.arrow_schema, options, where)
    if not layout.inline:
        raise SemscaleError("the column has no images", where=where, found=f"image: {layout.image}", expected="Image")
    return Source(
        stem(address.path),
        HuggingFaceReader(Address(address.path, address.config, commit), layout.image),
        _entries(chosen, layout),
        notes,
        classes=layout.names,
        labels={str(number): name for number, name in enumerate(layout.names or ())},
    )


def _library() -> Any:
    """Import ``datasets``, silent: no bars, no telemetry, no warnings about retries and cards."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("HF_UPDATE_DOWNLOAD_COUNTS", "0")
    try:
        import datasets
        import huggingface_hub
    except ImportError as error:
        raise missing_package("hf", error) from error
    huggingface_hub.constants.HF_HUB_DISABLE_TELEMETRY = True  # another package may have imported it earlier
    huggingface_hub.utils.disable_progress_bars()
    huggingface_hub.utils.logging.set_verbosity_error()
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity_error()
    return datasets


def _address(rest: str, option: str | None) -> tuple[Address, str | None]:
    path, wanted = (rest, option) if os.path.isdir(os.path.expanduser(rest)) else name_and_split(rest, option)
    config = None
    if not os.path.isdir(os.path.expanduser(path)):
        path, _, config = path.partition("@")
    folder = os.path.abspath(os.path.expanduser(path))
    if os.path.isdir(folder):
        return Address(folder, config or None), wanted
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", path) or path.startswith("."):
        raise SemscaleError(
            "no such folder, and no name of a dataset on the hub", where="hf:", found=path, expected="NAME or ORG/NAME"
        )
    return Address(path, config or None), wanted


def _commit_on_hub(address: Address) -> str | None:
    """Return the commit of a dataset on the hub; None when the hub is out of reach, by choice or not."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    if _library().config.HF_HUB_OFFLINE:
        return None
    try:
        info = HfApi().dataset_info(address.path, revision=address.revision, timeout=_HUB_TIMEOUT_S)
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise SemscaleError(
            "the hub has no such dataset, or does not show it to you",
            where=f"hf:{address.path}",
            found=short(error),
            hint="check the name; HF_TOKEN opens private and gated datasets",
        ) from error
    except Exception:  # no route, no name service, a proxy's page: the packages underneath raise nearly anything
        return None
    commit: str | None = info.sha
    return commit


def _open(address: Address) -> tuple[dict[str, Any], str | None]:
    """Return the splits of a dataset, mapped into memory, and its commit on the hub."""
    hub, local = _library(), os.path.isabs(address.path)
    commit = None if local else _commit_on_hub(address)
    try:
        if local and any(os.path.isfile(os.path.join(address.path, one)) for one in _SAVED):
            saved = hub.load_from_disk(address.path)
            return dict(saved) if isinstance(saved, hub.DatasetDict) else {str(saved.split or "all"): saved}, None
        return dict(hub.load_dataset(address.path, address.config, revision=commit)), commit
    except Exception as error:  # the package lets through whatever pyarrow, fsspec, httpx and the hub raise
        raise SemscaleError(
            "the dataset cannot be loaded",
            where=address.path if local else f"hf:{address.path}",
            found=short(error),
            expected="a folder of save_to_disk, or one that load_dataset understands" if local else None,
            hint=None if local else "check the network and the name; HF_TOKEN opens private and gated datasets",
        ) from error


@opened_once(8)
def _images(address: Address, split: str, column: str) -> Any:
    """Return the rows with encoded images, or why there are none, which is cached, or every image would wait for it."""
    hub = _library()
    try:
        splits, _ = _open(address)
    except SemscaleError as error:
        return f"{error.what}: {error.found}"
    if split not in splits or column not in splits[split].column_names:
        return "the dataset on this machine is another one, without this split or column"
    images = splits[split].select_columns([column])
    if isinstance(images.features[column], hub.Image):
        images = images.cast_column(column, hub.Image(decode=False))
    return images


def _entries(splits: Mapping[str, Any], layout: Layout) -> Iterator[Entry]:
    """List rows by batches of the mapped Arrow file; the bytes of the images are not touched."""
    columns = [layout.image] if layout.label is None else [layout.image, layout.label]
    for split, dataset in splits.items():
        row = 0
        for batch in dataset.select_columns(columns).with_format("arrow").iter(_BATCH):
            labels = [None] * len(batch) if layout.label is None else batch.column(layout.label).to_pylist()
            for leaf, value in zip(_leaves(batch.column(layout.image)), labels, strict=True):
                known = value is not None and not (layout.names and value < 0)  # -1: a test split without its answers
                yield Entry(f"{split}/{row:06d}{leaf}", f"{split}:{row}", str(value) if known else None)
                row += 1


def _leaves(images: pa.ChunkedArray) -> list[str]:
    """Return the last parts of the images' paths, each after a slash, where the column has paths."""
    if not pa.types.is_struct(images.type) or images.type.get_field_index("path") < 0:
        return [""] * len(images)
    paths = pc.struct_field(images, "path").to_pylist()
    return [f"/{os.path.basename(path)}" if path and os.path.basename(path) else "" for path in paths]
