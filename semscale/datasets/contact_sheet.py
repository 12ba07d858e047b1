"""Contact sheet: one row per class with a few of its images beside the texts that a model will be offered."""

from __future__ import annotations

import textwrap
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from semscale.datasets.base import Dataset, Reader
from semscale.datasets.cut import cut
from semscale.datasets.picture import BadImageError, decode
from semscale.datasets.samples import Int64
from semscale.errors import SemscaleError

MOST_CLASSES = 60
"""Rows on a sheet; a sheet of a thousand classes is no longer looked at."""

_MARGIN, _GAP, _PAD = 28, 8, 10
_THUMB = 112
_NAME, _TEXT = 230, 640  # widths of the columns
_LINE = 21
_MOST_LINES = 8
_INK, _GREY, _RULE, _FRAME = "#1f2328", "#656d76", "#d8dee4", "#c3cad1"


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

    The pictures are shown whole and as a model is shown them: without transparency, and turned as they are stored.
    Which ones are chosen depends on their names and the seed alone.

    Args:
        dataset: what is shown.
        positions: int64[k], the usable samples.
        categories: class -> the texts that it is offered.
        about: a line under the title.
        per_class: images in a row.
        seed: another seed chooses other images.
    """
    usable = dataset.samples.pick(positions)
    counts = np.bincount(usable.class_index, minlength=len(dataset.classes))
    shown = range(min(len(dataset.classes), MOST_CLASSES))
    chosen = cut(usable.pick(np.flatnonzero(usable.class_index < len(shown))), per_class=per_class, seed=seed)
    rows = []
    for index in shown:
        name = dataset.classes[index]
        picked = chosen.pick(np.flatnonzero(chosen.class_index == index)).places()
        tiles = [_thumbnail(dataset.reader, place) for place in picked]
        rows.append(_row(name, int(counts[index]), tiles, per_class, _category_lines(categories.get(name, ()))))
    width = rows[0].width + 2 * _MARGIN
    title = wrap(dataset.name, rows[0].width, _font(26, bold=True))[:2]
    head = _text_block(title, rows[0].width, 36, _font(26, bold=True), _INK)
    notes = _text_block(wrap(about, rows[0].width, _font(15))[:3], rows[0].width, _LINE, _font(15), _GREY)
    rest = len(dataset.classes) - len(shown)
    footer = _text_block([f"and {rest:,} more classes"] * bool(rest), rows[0].width, 44, _font(15), _GREY)
    heights = [row.height + 1 for row in rows]
    sheet = Image.new(
        "RGB", (width, 2 * _MARGIN + 14 + head.height + notes.height + sum(heights) + footer.height), "white"
    )
    sheet.paste(head, (_MARGIN, _MARGIN))
    sheet.paste(notes, (_MARGIN, _MARGIN + head.height))
    pen, y = ImageDraw.Draw(sheet), _MARGIN + head.height + notes.height + 14
    for row in [*rows, footer]:
        if row.height:
            pen.line([(_MARGIN, y), (width - _MARGIN, y)], _RULE)
        sheet.paste(row, (_MARGIN, y + 1))
        y += row.height + 1
    return sheet


def save_sheet(sheet: Image.Image, path: Path) -> None:
    """Write a sheet as PNG.

    Raises:
        SemscaleError: the file cannot be written.
    """
    try:
        sheet.save(path, "PNG")
    except OSError as error:
        raise SemscaleError("the contact sheet cannot be written", where=str(path), found=str(error)) from error


def wrap(text: str, width: int, font: ImageFont.FreeTypeFont) -> list[str]:
    """Break a text into lines of at most `width` pixels: at spaces where possible, in words if they must."""
    # a line break or a control character in a name would be drawn as a box, or break the line
    text = "".join(letter if letter.isprintable() or letter == "\u00a0" else "�" for letter in text)
    letters = int(len(text) * width / max(1.0, font.getlength(text))) + 4
    while True:
        lines = textwrap.wrap(text, letters)
        if letters == 1 or all(font.getlength(line) <= width for line in lines):
            return lines
        letters -= 1


def _row(name: str, count: int, tiles: Sequence[Image.Image], per_class: int, texts: Sequence[str]) -> Image.Image:
    counted = f"{count:,} image{'' if count == 1 else 's'}" if count else "no image"
    names = _text_block(
        _at_most(wrap(name, _NAME - 16, _font(17, bold=True)), 4), _NAME, 25, _font(17, bold=True), _INK
    )
    said = _text_block(texts, _TEXT, _LINE, _font(15), _INK)
    pictures = per_class * (_THUMB + _GAP)
    height = max(_THUMB, names.height + _LINE, said.height) + 2 * _PAD
    row = Image.new("RGB", (_NAME + pictures + 16 + _TEXT, height), "white")
    row.paste(names, (0, _PAD))
    ImageDraw.Draw(row).text((0, _PAD + 2 + names.height), counted, _GREY, _font(14))
    for i, tile in enumerate(tiles):
        row.paste(tile, (_NAME + i * (_THUMB + _GAP), _PAD))
    row.paste(said, (_NAME + pictures + 16, _PAD))
    return row


def _text_block(
    lines: Sequence[str], width: int, line_height: int, font: ImageFont.FreeTypeFont, colour: str
) -> Image.Image:
    block = Image.new("RGB", (width, line_height * len(lines)), "white")
    for i, line in enumerate(lines):
        ImageDraw.Draw(block).text((0, line_height * i), line, colour, font)
    return block


def _thumbnail(reader: Reader, place: str) -> Image.Image:
    """Return a square with the whole picture in it; a tiny one is enlarged so that its pixels can be seen."""
    tile = Image.new("RGB", (_THUMB, _THUMB), "#f6f8fa")
    room = _THUMB - 2
    try:
        picture = decode(reader.read(place))
    except (OSError, BadImageError):  # a network that has answered before need not answer again
        ImageDraw.Draw(tile).text((8, _THUMB // 2 - 8), "cannot be read", _GREY, _font(13))
    else:
        scale = min(room / side for side in picture.size)
        size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
        # first small and then RGB: a converted panorama of 100 million pixels would need 400 MB more
        if scale < 1 and picture.mode not in ("1", "P", "PA"):
            picture = picture.resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0)
        resampling = Image.Resampling.NEAREST if scale >= 1 else Image.Resampling.BICUBIC
        picture = picture.convert("RGB").resize(size, resampling)
        tile.paste(picture, ((_THUMB - size[0]) // 2, (_THUMB - size[1]) // 2))
    return ImageOps.expand(tile.crop((1, 1, _THUMB - 1, _THUMB - 1)), 1, _FRAME)


def _category_lines(texts: Sequence[str]) -> list[str]:
    """Return the lines that say the texts, or as many of them as there is room for."""

    def lines(count: int) -> list[str]:
        # short texts are kept together by spaces that do not break
        parts = [text.replace(" ", "\u00a0") if len(text) < 60 else text for text in texts[:count]]
        more = [f"and\u00a0{len(texts) - count}\u00a0more"] if count < len(texts) else []
        return wrap("\u00a0\u00a0· ".join([*parts, *more]), _TEXT, _font(15))

    if not texts or len(lines(len(texts))) <= _MOST_LINES:
        return lines(len(texts)) if texts else []
    fitting = bisect_left(range(1, min(len(texts), 200)), True, key=lambda count: len(lines(count)) > _MOST_LINES)
    return _at_most(lines(max(1, fitting)), _MOST_LINES)


def _at_most(lines: list[str], most: int) -> list[str]:
    return lines if len(lines) <= most else [*lines[: most - 1], lines[most - 1] + " …"]


@lru_cache(maxsize=16)
def _font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    import matplotlib  # only for the folder of its font, which covers most alphabets

    file = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / file, size)
