"""Column detection: the image, class and split columns of a table by option, schema, type or common names."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from typing import NamedTuple

import pyarrow as pa

from semscale.common.errors import DatasetError
from semscale.common.parsing import parse_json
from semscale.common.text import text_key
from semscale.datasets.dataset import DatasetOptions

# the first group with a match wins; two names of a group in one table are ambiguous
_IMAGE_NAMES = (
    (
        "file", "file name", "file path", "filename", "filepath", "fname", "image", "image file", "image file name",
        "image filename", "image name", "image path", "image url", "img", "img name", "img path", "img url", "path",
        "photo", "picture", "url",
    ),
    ("id", "image id", "img id"),
)  # fmt: skip
_LABEL_NAMES = (
    (
        "category", "category name", "class", "class label", "class name", "label", "label name", "species", "target",
        "true class", "true label",
    ),
)  # fmt: skip


class TableLayout(NamedTuple):
    """Columns of a table that a listing needs."""

    image: str
    label: str | None
    """None if a rule extracts the class from the path."""
    inline: bool
    """Whether the cells have the images' bytes, or only their paths."""
    path: str | None
    """The column with the path of an image, in Parquet's notation."""
    names: tuple[str, ...] | None
    """The class names for the numbers of the class column, if the schema has them."""


def find_layout(schema: pa.Schema, options: DatasetOptions, where: str) -> TableLayout:
    """Return the columns of a table: by option, by Hugging Face's metadata, by type, or by name.

    With ``options.class_from`` the class column is optional.
    """
    image_features, classes = _features(schema)
    images = [name for name in image_features if name in schema.names]
    if len(images) != 1:
        images = [field.name for field in schema if _parts(field)[0]]
    image = _pick(schema.names, options.image or (images[0] if len(images) == 1 else None), "image", where)
    inline, path = _parts(schema.field(image))
    if not inline and path is None:
        raise _wrong_type("image", schema.field(image), "binary, a struct with bytes and path, or text", where)
    if options.class_from is not None and options.label is None:
        return TableLayout(image, None, inline, path, None)
    labels = [name for name in classes if name in schema.names]
    label = _pick(schema.names, options.label or (labels[0] if len(labels) == 1 else None), "label", where)
    if not re.match(r"(large_)?string|u?int|float|double|halffloat|bool|null", str(_plain_type(schema.field(label)))):
        raise _wrong_type("label", schema.field(label), "text or whole numbers, one per row", where)
    return TableLayout(image, label, inline, path, classes.get(label))


def split_column(names: Sequence[str]) -> str | None:
    """Return the split column of a text table, None if there is none."""
    return next((name for name in names if text_key(name) in ("partition", "split", "subset")), None)


def _pick(names: Sequence[str], requested: str | None, option: str, where: str) -> str:
    """Return the column that an option names, or else the only one with a common name."""
    common, content = {"image": (_IMAGE_NAMES, "the image"), "label": (_LABEL_NAMES, "the class")}[option]
    matches = _common_names(names, common) if requested is None else [name for name in names if name == requested]
    if len(matches) == 1:
        return matches[0]
    listed = ", ".join(repr(name) for name in matches or names) or "none"
    if matches:
        what = f"several columns of the table could have {content}"
        hint = f"set {option}: to the right one" if requested is None else "give each column a unique name"
    elif requested is None:
        what = f"the column with {content} cannot be determined"
        hint = f"set {option}: to the right one; the first line of a CSV file names the columns"
    else:
        what, near = f"the table has no column {requested!r}", difflib.get_close_matches(requested, names, 1)
        hint = f"did you mean {option}: {near[0]}?" if near else f"set {option}: to one of these"
    expected = f"a column with a name such as {', '.join(common[0][:3])}"
    raise DatasetError(what, where=where, found=f"columns {listed}", expected=expected, hint=hint)


def _common_names(names: Sequence[str], groups: Sequence[Sequence[str]]) -> list[str]:
    matches = ([name for name in names if text_key(name) in group] for group in groups)
    return next((group for group in matches if group), [])


def _features(schema: pa.Schema) -> tuple[list[str], dict[str, tuple[str, ...]]]:
    """Return the image columns and the class names of the class columns from Hugging Face's metadata."""
    try:
        features = parse_json((schema.metadata or {})[b"huggingface"])["info"]["features"].items()
    except (KeyError, ValueError, TypeError, AttributeError):
        return [], {}
    kinds = [(name, kind, kind.get("_type")) for name, kind in features if isinstance(kind, dict)]
    names = [(name, kind.get("names")) for name, kind, type_ in kinds if type_ == "ClassLabel"]
    classes = {name: tuple(map(str, labels)) for name, labels in names if isinstance(labels, list) and labels}
    return [name for name, _, type_ in kinds if type_ == "Image"], classes


def _parts(field: pa.Field) -> tuple[bool, str | None]:
    """Return whether the cells of a column have images' bytes, and the column of their paths in Parquet's notation."""
    kind = _plain_type(field)
    if not pa.types.is_struct(kind):
        return _is_bytes(kind), field.name if re.match("(large_)?string|u?int", str(kind)) else None
    types = {part.name: _plain_type(part) for part in kind}
    has_path = re.match("(large_)?string", str(types.get("path")))
    return _is_bytes(types.get("bytes")), f"{field.name}.path" if has_path else None


def _is_bytes(kind: pa.DataType | None) -> bool:
    return re.match("(large_|fixed_size_)?binary", str(kind)) is not None


def _plain_type(field: pa.Field) -> pa.DataType:
    kind = field.type.storage_type if isinstance(field.type, pa.BaseExtensionType) else field.type
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _wrong_type(option: str, field: pa.Field, expected: str, where: str) -> DatasetError:
    what = f"the type of the {'image' if option == 'image' else 'class'} column is not supported"
    found, hint = f"{field.name}: {field.type}", f"set {option}: to the right column"
    return DatasetError(what, where=where, found=found, expected=expected, hint=hint)
