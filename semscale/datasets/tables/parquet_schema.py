"""Image and class columns of a Parquet file, by its types and the feature metadata of Hugging Face."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

import pyarrow as pa

from semscale.datasets.source import Options
from semscale.datasets.tables.columns import IMAGE_NAMES, LABEL_NAMES, pick_column
from semscale.errors import SemscaleError


@dataclass(frozen=True)
class Layout:
    """The image and class columns of a Parquet file.

    Attributes:
        image: the image column.
        label: the class column; None where a rule finds the class in the path.
        inline: the cells have the images' bytes; otherwise only their paths.
        path: the column with the path of an image, as Parquet names it; None if there is none.
        names: the class names that the numbers of the class column stand for, if the schema has them.
    """

    image: str
    label: str | None
    inline: bool
    path: str | None
    names: tuple[str, ...] | None

    @property
    def listed(self) -> list[str]:
        """The columns that a listing reads; the bytes of images are not among them."""
        return [name for name in (self.path, self.label) if name is not None]


def find_layout(schema: pa.Schema, options: Options, where: str) -> Layout:
    """Return the image and class columns: as given, as Hugging Face states them, by type, or by name.

    Raises:
        SemscaleError: a column is missing, ambiguous, or of a type that cannot be an image or a class.

    >>> schema = pa.schema([("img", pa.struct([("bytes", pa.binary()), ("path", pa.string())])), ("label", pa.int64())])
    >>> find_layout(schema, Options(), "x.parquet")
    Layout(image='img', label='label', inline=True, path='img.path', names=None)
    """
    features = _features(schema)
    images = [name for name, kind in features.items() if kind == "Image" and name in schema.names]
    if len(images) != 1:
        images = [field.name for field in schema if _has_bytes(field.type)]
    wanted = options.image or (images[0] if len(images) == 1 else None)
    image = pick_column(schema.names, wanted, IMAGE_NAMES, "image", where)
    kind = schema.field(image).type
    inline, path = _has_bytes(kind), _path_column(image, kind)
    if not inline and path is None:
        raise _wrong_type("image", f"{image}: {kind}", "binary, a struct with bytes and path, or text", where)
    if options.class_from is not None and options.label is None:
        return Layout(image, None, inline, path, None)
    coded = [name for name, kind in features.items() if isinstance(kind, tuple) and name in schema.names]
    wanted = options.label or (coded[0] if len(coded) == 1 else None)
    label = pick_column(schema.names, wanted, LABEL_NAMES, "label", where)
    kind = _storage(schema.field(label).type)
    if not re.match(r"(large_)?string|u?int|float|double|halffloat|bool|null", str(kind)):
        raise _wrong_type("class", f"{label}: {kind}", "text or whole numbers, one per row", where)
    names = features.get(label)
    return Layout(image, label, inline, path, names if isinstance(names, tuple) else None)


def _features(schema: pa.Schema) -> dict[str, str | tuple[str, ...]]:
    """Return what Hugging Face's metadata state of each column: its type, or the names of its classes."""
    try:
        found = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"].items()
    except (KeyError, ValueError, TypeError, AttributeError):
        return {}
    features: dict[str, str | tuple[str, ...]] = {}
    for name, kind in found:
        if not isinstance(kind, dict):
            continue
        names = kind.get("names")
        if kind.get("_type") == "ClassLabel" and isinstance(names, list) and names:
            features[name] = tuple(map(str, names))
        elif isinstance(kind.get("_type"), str):
            features[name] = kind["_type"]
    return features


def _path_column(name: str, kind: pa.DataType) -> str | None:
    kind = _storage(kind)
    if pa.types.is_struct(kind):
        has_path = kind.get_field_index("path") >= 0 and _is_text(kind.field("path").type)
        return f"{name}.path" if has_path else None
    return name if _is_text(kind) or pa.types.is_integer(kind) else None


def _storage(kind: pa.DataType) -> pa.DataType:
    kind = kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _is_text(kind: pa.DataType) -> bool:
    return re.match("(large_)?string", str(_storage(kind))) is not None


def _has_bytes(kind: pa.DataType) -> bool:
    kind = _storage(kind)
    if pa.types.is_struct(kind):
        return kind.get_field_index("bytes") >= 0 and _has_bytes(kind.field("bytes").type)
    return re.match("(large_|fixed_size_)?binary", str(kind)) is not None


def _wrong_type(what: str, found: str, expected: str, where: str) -> SemscaleError:
    return SemscaleError(
        f"the {what} column is of a type that holds no {'images' if what == 'image' else 'classes'}",
        where=where,
        found=found,
        expected=expected,
        hint=f"set {'image' if what == 'image' else 'label'}: to the right column",
    )
