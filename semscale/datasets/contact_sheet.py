"""Contact sheet: one row per class with some of its images beside its category texts."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from semscale.common.errors import DatasetError
from semscale.common.text import counted
from semscale.datasets.dataset import Dataset, Reader
from semscale.datasets.image_decoding import BadImageError, decode
from semscale.datasets.samples import Int64, stratified_subset

MAX_CLASSES = 60
"""Maximum number of rows on a sheet."""

_MARGIN, _GAP, _PAD, _THUMB = 28, 8, 10, 112
_NAME, _TEXT = 230, 640  # widths of the columns
_MAX_TEXTS, _MAX_LINES = 200, 8
_INK, _GREY, _RULE, _FRAME, _GROUND = "#1f2328", "#656d76", "#d8dee4", "#c3cad1", "#f6f8fa"


def draw_sheet(
    dataset: Dataset,
    positions: Int64,
    categories: Mapping[str, Sequence[str]],
    *,
    about: str = "",
    per_class: int = 3,
    seed: int = 0,
) -> Image.Image:
    """Draw the contact sheet of a dataset.

    Images are uncropped, otherwise as a model sees them: without transparency, in their stored orientation. They are
    sampled from the usable ones, int64[k] `positions`, by their names and the seed alone. `categories` has the texts of
    each class.
    """
    usable = dataset.samples.pick(positions)
    counts = np.bincount(usable.class_index, minlength=len(dataset.classes))
    names = dataset.classes[:MAX_CLASSES]
    pictures = per_class * (_THUMB + _GAP)
    width = _NAME + pictures + 16 + _TEXT
    head = [_text(dataset.name, width, 26, bold=True, max_lines=2), _text(about, width, 15, _GREY, max_lines=3)]
    chosen = stratified_subset(usable, per_class=per_class, seed=seed)
    rows = []
    for index, name in enumerate(names):
        locations = chosen.pick(np.flatnonzero(chosen.class_index == index)).locations()
        amount = counted(counts[index], "images", ",") if counts[index] else "no image"
        label = _stack([_text(name, _NAME - 16, 17, bold=True, max_lines=4), _text(amount, _NAME, 14, _GREY)], _NAME)
        texts = _categories(categories.get(name, ()))
        row = Image.new("RGB", (width, max(_THUMB, label.height, texts.height) + 2 * _PAD), "white")
        ImageDraw.Draw(row).line([(0, 0), (width, 0)], _RULE)
        row.paste(label, (0, _PAD))
        for i, location in enumerate(locations):
            row.paste(_thumbnail(dataset.reader, location), (_NAME + i * (_THUMB + _GAP), _PAD))
        row.paste(texts, (_NAME + pictures + 16, _PAD))
        rows.append(row)
    omitted = len(dataset.classes) - len(names)
    footer = [_text(f"and {counted(omitted, 'more classes', ',')}", width, 15, _GREY)] if omitted else []
    return ImageOps.expand(_stack([*head, *rows, *footer], width), _MARGIN, "white")


def save_sheet(sheet: Image.Image, path: Path) -> None:
    """Write a sheet as PNG."""
    try:
        sheet.save(path, "PNG")
    except OSError as error:
        raise DatasetError("the contact sheet cannot be written", where=str(path), found=str(error)) from error


def wrap(text: str, width: int, font: ImageFont.FreeTypeFont) -> list[str]:
    """Break a text into lines of at most `width` pixels, at spaces where possible, otherwise within words."""
    # line breaks and control characters in a name would break the line or be drawn as boxes
    text = "".join(letter if letter.isprintable() or letter == "\u00a0" else "�" for letter in text)
    letters = int(len(text) * width / max(1.0, font.getlength(text))) + 4
    while True:
        lines = textwrap.wrap(text, letters)
        if letters == 1 or all(font.getlength(line) <= width for line in lines):
            return lines
        letters -= 1


def _text(
    text: str, width: int, size: int, colour: str = _INK, *, bold: bool = False, max_lines: int = _MAX_LINES
) -> Image.Image:
    font, line_height = _font(size, bold), round(1.4 * size)
    lines = wrap(text, width, font)
    if len(lines) > max_lines:
        lines = [*lines[: max_lines - 1], lines[max_lines - 1] + " …"]
    block = Image.new("RGB", (width, line_height * len(lines)), "white")
    for i, line in enumerate(lines):
        ImageDraw.Draw(block).text((0, line_height * i), line, colour, font)
    return block


def _stack(blocks: Sequence[Image.Image], width: int) -> Image.Image:
    stacked = Image.new("RGB", (width, sum(block.height for block in blocks)), "white")
    for i, block in enumerate(blocks):
        stacked.paste(block, (0, sum(above.height for above in blocks[:i])))
    return stacked


def _categories(texts: Sequence[str]) -> Image.Image:
    # non-breaking spaces keep short texts together
    parts = [text.replace(" ", "\u00a0") if len(text) < 60 else text for text in texts[:_MAX_TEXTS]]
    total = f"{len(texts):,} texts: " if len(texts) > 1 else ""
    return _text(total + "\u00a0\u00a0· ".join(parts), _TEXT, 15)


def _thumbnail(reader: Reader, location: str) -> Image.Image:
    """Return a square tile with the whole image; tiny images are enlarged without interpolation."""
    tile = Image.new("RGB", (_THUMB - 2, _THUMB - 2), _GROUND)
    try:
        picture = decode(reader.read(location))
    except (OSError, BadImageError):  # readable before, but a network may fail
        ImageDraw.Draw(tile).text((8, _THUMB // 2 - 8), "cannot be read", _GREY, _font(13))
    else:
        # reduced before the conversion to RGB, which would need 400 MB for a panorama of 100 million pixels
        picture = picture.convert("RGB") if picture.mode in ("1", "P", "PA") else picture
        picture.thumbnail(tile.size, Image.Resampling.BICUBIC)
        tile = ImageOps.pad(picture.convert("RGB"), tile.size, Image.Resampling.NEAREST, _GROUND)
    return ImageOps.expand(tile, 1, _FRAME)


@lru_cache(maxsize=16)
def _font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    import matplotlib  # only for its font, which covers most alphabets

    file = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / file, size)
