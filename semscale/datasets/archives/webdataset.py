"""Loader of WebDataset shards: tars whose adjacent members with equal keys are a sample, `0001.jpg`, `0001.cls`."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from tarfile import TarInfo
from typing import Any

from braceexpand import braceexpand

from semscale.common.errors import DatasetError
from semscale.common.filesystem import (
    REMOTE_READS,
    common_folder,
    find_files,
    is_glob,
    is_hidden,
    is_local,
    stem,
    without_query,
)
from semscale.common.parsing import parse_json
from semscale.common.redact import mask_url
from semscale.datasets.archives.tarred import ENDINGS, MAX_READ, TarReader, compression_of, open_tar, rejection_reason
from semscale.datasets.class_from_path import SPLITS, choose_split
from semscale.datasets.dataset import DatasetListing, DatasetOptions, ListedImage, ListingWarnings, is_image

_ENDING = re.compile(r"\.(tar(\.\w+)?|tgz|tbz2|txz)(\?.*)?$")
_SIDECARS = ("cls", "txt", "json")
_FIELDS = ("class", "label", "cls")

_Images = list[tuple[str, TarInfo]]  # ending, member
_Sidecars = dict[str, bytes | None]  # ending -> content; None: too large
_Sample = tuple[str, _Images, _Sidecars]  # with its key


def open_listing(pattern: str, options: DatasetOptions) -> DatasetListing:
    """Open shards: ``PATH/{000..099}.tar``, ``PATH/*.tar``, a folder of tars, or a comma-separated list of these.

    The class is the first that exists of ``.cls``, ``.txt``, and a field ``class``, ``label`` or ``cls`` of ``.json``.
    `options.label` selects ``cls``, ``txt``, or a field of ``.json`` (``meta.species``); `options.image` is the ending
    of the image if samples have several.
    """
    warnings = ListingWarnings()
    root, shards = _find_shards(pattern, options.split, warnings)
    reader = TarReader(root, REMOTE_READS if "://" in root else 1)
    return DatasetListing(_name(root, shards), reader, _list(root, shards, options, warnings), warnings)


def _name(root: str, shards: dict[str, str]) -> str:
    """Return a dataset's name: that of its only shard or of a folder above; numbers and splits are skipped."""
    parts = [*root.split("/"), *(shards.values() if len(shards) == 1 else ())]
    names = (stem(part) for part in reversed(parts) if part)
    return next((name for name in names if not name.isdecimal() and name.casefold() not in SPLITS), "dataset")


def _list(root: str, tars: dict[str, str], options: DatasetOptions, warnings: ListingWarnings) -> Iterator[ListedImage]:
    for path, name in tars.items():
        compression = compression_of(root + path)
        for sample in _samples(root + path, compression, _label_endings(options), warnings):
            entry = _entry(sample, name, options, warnings)
            if entry is not None:
                yield entry._replace(location=f"{entry.location}:{compression}:{path}")


def _label_endings(options: DatasetOptions) -> tuple[str, ...]:
    if options.class_from is not None:
        return ()
    if options.label is None:
        return _SIDECARS
    return (options.label,) if options.label in ("cls", "txt") else ("json",)


def _samples(path: str, compression: str, endings: tuple[str, ...], warnings: ListingWarnings) -> Iterator[_Sample]:
    with open_tar(path, compression) as tar:
        visible = ((*_split_name(name), member) for name, member in tar if not is_hidden(name))
        for key, members in itertools.groupby(visible, key=lambda item: item[0]):
            images: _Images = []
            sidecars: _Sidecars = {}
            for _, ending, member in members:
                if is_image(f".{ending}"):
                    images.append((ending, member))
                elif ending in endings and member.isreg():
                    sidecars[ending] = tar.read(member) if member.size <= MAX_READ else None
                elif ending not in _SIDECARS:
                    warnings.add("members of shards are neither image nor label", f"{key}.{ending}")
            yield key, images, sidecars


def _split_name(name: str) -> tuple[str, str]:
    """Return a member's key, which is its path up to the first dot of the base name, and its ending in lower case."""
    folder, slash, base = name.rpartition("/")
    stem_, _, ending = base.partition(".")
    return folder + slash + stem_, ending.lower()


def _entry(sample: _Sample, shard: str, options: DatasetOptions, warnings: ListingWarnings) -> ListedImage | None:
    """Return a sample's entry of the listing with the offset and size of its image as the location."""
    key, images, sidecars = sample
    selected = options.image and options.image.removeprefix(".").lower()
    candidates = [(ending, member) for ending, member in images if selected in (None, ending)]
    if not candidates:
        if images:
            warnings.add("samples have no image of the ending that image: names", f"{shard}/{key}")
        elif sidecars:
            warnings.add("samples have labels and no image next to them in the shard", f"{shard}/{key}")
        return None
    ending, member = min(candidates, key=lambda image: image[0].count("."))  # 1.jpg before 1.mask.png
    file = f"{shard}/{key}.{ending}"
    if len(candidates) > 1:
        warnings.add("samples have several images, of which one is taken (image: names its ending)", file)
    label, reason = None, rejection_reason(member)
    if reason is None:
        try:
            label = _label(sidecars, options.label)
        except ValueError as error:
            reason = str(error)
    return ListedImage(file, f"{member.offset_data}:{member.size}", label, reason)


def _label(sidecars: _Sidecars, field: str | None) -> str | None:
    """Return a sample's label as text, None if it has none. Raises ValueError with the reason of a rejection."""
    for ending in _SIDECARS:
        if ending not in sidecars:
            continue
        content = sidecars[ending]
        if content is None:
            raise ValueError(f"its .{ending} is larger than {MAX_READ // 2**20} MiB")
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError:
            raise ValueError(f"its .{ending} is not UTF-8") from None
        if ending == "json":
            try:
                document = parse_json(text)
            except ValueError:
                raise ValueError("its .json is not JSON") from None
        label = _field(document, field) if ending == "json" else text.strip()
        if label:
            return label
    return None


def _field(document: Any, name: str | None) -> str | None:
    value = document
    if name is not None:
        for part in name.split("."):
            value = value.get(part) if isinstance(value, dict) else None
    elif isinstance(document, dict):
        value = next((document[key] for key in _FIELDS if document.get(key) is not None), None)
    if isinstance(value, (dict, list, bool)):
        raise ValueError("the class in its .json is neither a text nor a number")
    return None if value is None else str(value).strip()


def _find_shards(pattern: str, split: str | None, warnings: ListingWarnings) -> tuple[str, dict[str, str]]:
    """Return the common folder of a pattern's shards, with its slash, and path below it -> short unique name.

    A pattern is paths or URLs separated by commas, each with ranges such as {000..099}, alternatives such as
    {train,val}, or ``*``; a folder matches all tars below it. Splits are part of the names ("train-000.tar").
    """
    where = mask_url(pattern)
    try:  # an outer pair of braces splits at the commas between paths only
        expanded = [path for path in braceexpand(f"{{{pattern},}}", escape=False) if path]
    except ValueError:
        raise DatasetError("the braces of the pattern are unbalanced", found=where, expected="{000..099}") from None
    paths = sorted({match for path in expanded for match in _matches(path, where)})
    paths = _select_split(paths, split, warnings, where)
    root = common_folder(paths)
    relative = [path.removeprefix(root) for path in paths]
    without_ending = [_ENDING.sub("", path) for path in relative]
    stems = [path.rpartition("/")[2] for path in without_ending]
    names = next((names for names in (stems, without_ending) if len(set(names)) == len(relative)), relative)
    return root, dict(zip(relative, names, strict=True))


def _matches(path: str, where: str) -> list[str]:
    if not is_local(path) and not is_glob(path) and without_query(path).endswith(ENDINGS):
        return [path]  # its existence is checked on opening, without a request for each shard now
    files = find_files(path, ENDINGS)
    if not files:
        what, expected = "a shard of the dataset is missing", "a file for each name that the pattern expands to"
        raise DatasetError(what, where=where, found=f"no {mask_url(path)}", expected=expected)
    return files


def _select_split(paths: list[str], split: str | None, warnings: ListingWarnings, where: str) -> list[str]:
    root = common_folder(paths)
    splits = {path: _split_of(path.removeprefix(root)) for path in paths}
    known = () if None in splits.values() else sorted({name for name in splits.values() if name})
    expected = "names such as train-000.tar or train/000.tar, or a pattern for the split's shards"
    chosen = choose_split(known, split, warnings, where, expected)
    return [path for path in paths if chosen in (None, splits[path])]


def _split_of(path: str) -> str | None:
    words = re.split(r"[/._-]+", path.casefold())
    return next((word for word in words if word in SPLITS), None)
