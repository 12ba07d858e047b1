"""Which columns of a Parquet file have the image and the class, by its types and what Hugging Face notes about them."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pyarrow as pa

from semscale.datasets.source import Options
from semscale.datasets.tables.columns import IMAGE_NAMES, LABEL_NAMES, pick_column
from semscale.errors import SemscaleError


@dataclass(frozen=True)
class Layout:
    """The columns of a Parquet file that count.

    Attributes:
        image: the image column.
        label: the class column; None where a rule finds the class in the path.
        inline: images stand in the rows; otherwise only their paths do.
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
        """The columns that listing reads; the bytes of images are not among them."""
        return [name for name in (self.path, self.label) if name is not None]


def find_layout(schema: pa.Schema, options: Options, where: str) -> Layout:
    """Return the columns that count: as told, as Hugging Face noted, by type, or by name.

    Raises:
        SemscaleError: a column is missing, ambiguous, or of a type that cannot be an image or a class.

    >>> schema = pa.schema([("img", pa.struct([("bytes", pa.binary()), ("path", pa.string())])), ("label", pa.int64())])
    >>> find_layout(schema, Options(), "x.parquet")
    Layout(image='img', label='label', inline=True, path='img.path', names=None)
    """
    features = _features(schema)
    images = [name for name, kind in features.items() if kind == "Image" and name in schema.names]
    images = images if len(images) == 1 else [field.name for field in schema if _holds_bytes(field.type)]
    wanted = options.image or (images[0] if len(images) == 1 else None)
    image = pick_column(schema.names, wanted, IMAGE_NAMES, "image", where)
    inline, path = _image_kind(schema.field(image), where)
    if options.class_from is not None and options.label is None:
        return Layout(image, None, inline, path, None)
    coded = [name for name, kind in features.items() if isinstance(kind, tuple) and name in schema.names]
    wanted = options.label or (coded[0] if len(coded) == 1 else None)
    label = pick_column(schema.names, wanted, LABEL_NAMES, "label", where)
    _check_label(schema.field(label), where)
    names = features.get(label)
    return Layout(image, label, inline, path, names if isinstance(names, tuple) else None)


def _features(schema: pa.Schema) -> dict[str, str | tuple[str, ...]]:
    """Return what Hugging Face notes about each column: its type, or the class names that its numbers stand for."""
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
            features[name] = tuple(str(one) for one in names)
        elif isinstance(kind.get("_type"), str):
            features[name] = kind["_type"]
    return features


def _image_kind(field: pa.Field, where: str) -> tuple[bool, str | None]:
    """Return whether a column has bytes, and the column with the paths."""
    kind = _storage(field.type)
    if pa.types.is_struct(kind):
        has_path = kind.get_field_index("path") >= 0 and _is_text(kind.field("path").type)
        path = f"{field.name}.path" if has_path else None
    else:
        path = field.name if _is_text(kind) or pa.types.is_integer(kind) else None
    inline = _holds_bytes(kind)
    if inline or path is not None:
        return inline, path
    raise SemscaleError(
        "the image column is of a type that holds no images",
        where=where,
        found=f"{field.name}: {kind}",
        expected="binary, a struct with bytes and path, or text",
        hint="set image: to the right column",
    )


def _check_label(field: pa.Field, where: str) -> None:
    kind = _storage(field.type)
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    plain = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_null, _is_text)
    if not any(test(kind) for test in plain):
        raise SemscaleError(
            "the class column is of a type that holds no classes",
            where=where,
            found=f"{field.name}: {kind}",
            expected="text or whole numbers, one per row",
            hint="set label: to the right column",
        )


def _storage(kind: pa.DataType) -> pa.DataType:
    return kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind


def _is_text(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _holds_bytes(kind: pa.DataType) -> bool:
    kind = _storage(kind)
    if pa.types.is_struct(kind):
        return kind.get_field_index("bytes") >= 0 and _holds_bytes(kind.field("bytes").type)
    tests = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary, pa.types.is_binary_view)
    return any(test(kind) for test in tests)
