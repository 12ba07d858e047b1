"""WebDataset shards: tars in which adjacent members of one key are a sample, `0001.jpg` beside `0001.cls`."""

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
    find_files,
    is_hidden,
    is_local,
    is_pattern,
    shared_folder,
    stem,
    without_query,
)
from semscale.common.parsing import parse_json
from semscale.common.redact import shown
from semscale.datasets.archives.tarred import ENDINGS, MAX_READ, TarReader, compression_of, open_tar, refusal
from semscale.datasets.base import Entry, Notes, Options, Source, is_image
from semscale.datasets.class_from_path import SPLITS, choose_split

_ENDING = re.compile(r"\.(tar(\.\w+)?|tgz|tbz2|txz)(\?.*)?$")
_SIDECARS = ("cls", "txt", "json")
_FIELDS = ("class", "label", "cls")

_Images = list[tuple[str, TarInfo]]  # ending, member
_Sidecars = dict[str, bytes | None]  # ending -> content; None: too large
_Sample = tuple[str, _Images, _Sidecars]  # key, and what belongs to it


def open_source(pattern: str, options: Options) -> Source:
    """Open shards: ``PATH/{000..099}.tar``, ``PATH/*.tar``, a folder of tars, or several of these with commas between.

    The class is in ``.cls``, ``.txt``, or a field ``class``, ``label`` or ``cls`` of ``.json``, whichever comes first.
    `options.label` chooses: ``cls``, ``txt``, or a field of ``.json`` (``meta.species``); `options.image` names the
    ending of the image, where a sample has several.
    """
    notes = Notes()
    root, shards = _find_shards(pattern, options.split, notes)
    reader = TarReader(root, REMOTE_READS if "://" in root else 1)
    return Source(_name(root, shards), reader, _list(root, shards, options, notes), notes)


def _name(root: str, shards: dict[str, str]) -> str:
    """Return a dataset's name: of its only shard or the folders above, where it is more than a number or a split."""
    parts = [*root.split("/"), *(shards.values() if len(shards) == 1 else ())]
    names = (stem(part) for part in reversed(parts) if part)
    return next((name for name in names if not name.isdecimal() and name.casefold() not in SPLITS), "dataset")


def _list(root: str, shards: dict[str, str], options: Options, notes: Notes) -> Iterator[Entry]:
    for below, name in shards.items():
        compression = compression_of(root + below)
        for sample in _samples(root + below, compression, _wanted(options), notes):
            entry = _entry(sample, name, options, notes)
            if entry is not None:
                yield entry._replace(place=f"{entry.place}:{compression}:{below}")


def _wanted(options: Options) -> tuple[str, ...]:
    if options.class_from is not None:
        return ()
    if options.label is None:
        return _SIDECARS
    return (options.label,) if options.label in ("cls", "txt") else ("json",)


def _samples(path: str, compression: str, wanted: tuple[str, ...], notes: Notes) -> Iterator[_Sample]:
    with open_tar(path, compression) as tar:
        visible = ((*_split_name(name), member) for name, member in tar if not is_hidden(name))
        for key, members in itertools.groupby(visible, key=lambda each: each[0]):
            images: _Images = []
            sidecars: _Sidecars = {}
            for _, ending, member in members:
                if is_image(f".{ending}"):
                    images.append((ending, member))
                elif ending in wanted and member.isreg():
                    sidecars[ending] = tar.read(member) if member.size <= MAX_READ else None
                elif ending not in _SIDECARS:
                    notes.add("members of shards are neither image nor label", f"{key}.{ending}")
            yield key, images, sidecars


def _split_name(name: str) -> tuple[str, str]:
    """Return a member's key, its path up to the first dot of its base name, and its ending in lower case."""
    folder, slash, base = name.rpartition("/")
    stem_, _, ending = base.partition(".")
    return folder + slash + stem_, ending.lower()


def _entry(sample: _Sample, shard: str, options: Options, notes: Notes) -> Entry | None:
    """Return a sample's line of the listing, with the offset and size of its image as the place."""
    key, images, sidecars = sample
    wanted = options.image and options.image.removeprefix(".").lower()
    fitting = [(ending, member) for ending, member in images if wanted in (None, ending)]
    if not fitting:
        if images or sidecars:
            without = (
                "no image of the ending that image: names"
                if images
                else "labels and no image next to them in the shard"
            )
            notes.add(f"samples have {without}", f"{shard}/{key}")
        return None
    ending, member = min(fitting, key=lambda image: image[0].count("."))  # 1.jpg before 1.mask.png
    file = f"{shard}/{key}.{ending}"
    if len(fitting) > 1:
        notes.add("samples have several images, of which one is taken (image: names its ending)", file)
    label, reason = None, refusal(member)
    if reason is None:
        try:
            label = _label(sidecars, options.label)
        except ValueError as error:
            reason = str(error)
    return Entry(file, f"{member.offset_data}:{member.size}", label, reason)


def _label(sidecars: _Sidecars, wanted: str | None) -> str | None:
    """Return a sample's label as text, None where it has none. Raises ValueError with the reason."""
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
        label = _field(document, wanted) if ending == "json" else text.strip()
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


def _find_shards(pattern: str, split: str | None, notes: Notes) -> tuple[str, dict[str, str]]:
    """Return the folder above all shards that a pattern names, with its slash, and path below it -> short unique name.

    A pattern is paths or URLs separated by commas, each with ranges such as {000..099}, alternatives such as
    {train,val}, or ``*``; a folder stands for all tars below it. A split is found in the names ("train-000.tar").
    """
    where = shown(pattern)
    try:  # one more pair of braces splits at the commas between paths, and only there
        expanded = [path for path in braceexpand(f"{{{pattern},}}", escape=False) if path]
    except ValueError:
        raise DatasetError("a brace of the pattern has no other half", found=where, expected="{000..099}") from None
    paths = sorted({match for path in expanded for match in _matches(path, where)})
    paths = _of_split(paths, split, notes, where)
    root = shared_folder(paths)
    below = [path.removeprefix(root) for path in paths]
    without_ending = [_ENDING.sub("", path) for path in below]
    stems = [path.rpartition("/")[2] for path in without_ending]
    names = next((tried for tried in (stems, without_ending) if len(set(tried)) == len(below)), below)
    return root, dict(zip(below, names, strict=True))


def _matches(path: str, where: str) -> list[str]:
    if not is_local(path) and not is_pattern(path) and without_query(path).endswith(ENDINGS):
        return [path]  # whether it exists shows when it is opened, without a request for each shard now
    files = find_files(path, ENDINGS)
    if not files:
        what, expected = "a shard of the dataset is missing", "a file for each name that the pattern stands for"
        raise DatasetError(what, where=where, found=f"no {shown(path)}", expected=expected)
    return files


def _of_split(paths: list[str], split: str | None, notes: Notes, where: str) -> list[str]:
    root = shared_folder(paths)
    splits = {path: _split_in(path.removeprefix(root)) for path in paths}
    known = () if None in splits.values() else sorted({name for name in splits.values() if name})
    expected = "names such as train-000.tar or train/000.tar, or a pattern of the split's own shards"
    chosen = choose_split(known, split, notes, where, expected)
    return [path for path in paths if chosen in (None, splits[path])]


def _split_in(path: str) -> str | None:
    words = re.split(r"[/._-]+", path.casefold())
    return next((word for word in words if word in SPLITS), None)
