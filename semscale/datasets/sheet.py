"""The contact sheet: one row per class with a few of its images beside the texts that a model will be offered."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

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
    progress: Callable[[int, int], None] | None = None,
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
        progress: is told (rows done, all rows).
    """
    usable = dataset.samples.pick(positions)
    counts = np.bincount(usable.class_index, minlength=len(dataset.classes))
    shown = range(min(len(dataset.classes), MOST_CLASSES))
    chosen = cut(usable.pick(np.flatnonzero(usable.class_index < len(shown))), per_class=per_class, seed=seed)
    rows = []
    for index in shown:
        name = dataset.classes[index]
        places = [sample.place for sample in chosen.pick(np.flatnonzero(chosen.class_index == index))]
        rows.append(_row(dataset.reader, places, name, int(counts[index]), categories.get(name, ()), per_class))
        if progress:
            progress(len(rows), len(shown))
    rest = len(dataset.classes) - len(shown)
    return _assemble(dataset, rows, about, f"and {rest:,} more classes" if rest else "")


def save_sheet(sheet: Image.Image, path: Path) -> None:
    """Write a sheet as PNG.

    Raises:
        SemscaleError: the file cannot be written.
    """
    try:
        sheet.save(path, "PNG")
    except OSError as error:
        raise SemscaleError("the contact sheet cannot be written", where=str(path), found=str(error)) from error


def _assemble(dataset: Dataset, rows: Sequence[Image.Image], about: str, footer: str) -> Image.Image:
    width = rows[0].width + 2 * _MARGIN
    title = wrap([dataset.name], width - 2 * _MARGIN, _font(26, bold=True))[:2]
    lines = wrap([about], width - 2 * _MARGIN, _font(15))[:3] if about else []
    head = _MARGIN + 36 * len(title) + _LINE * len(lines) + 14
    height = head + sum(row.height + 1 for row in rows) + (44 if footer else 0) + _MARGIN
    sheet = Image.new("RGB", (width, height), "white")
    pen = ImageDraw.Draw(sheet)
    y = _MARGIN
    for line in title:
        pen.text((_MARGIN, y), line, _INK, _font(26, bold=True))
        y += 36
    for line in lines:
        pen.text((_MARGIN, y), line, _GREY, _font(15))
        y += _LINE
    y = head
    for row in rows:
        pen.line([(_MARGIN, y), (width - _MARGIN, y)], _RULE)
        sheet.paste(row, (_MARGIN, y + 1))
        y += row.height + 1
    if footer:
        pen.line([(_MARGIN, y), (width - _MARGIN, y)], _RULE)
        pen.text((_MARGIN, y + 14), footer, _GREY, _font(15))
    return sheet


def _row(
    reader: Reader, places: Sequence[str], name: str, count: int, texts: Sequence[str], per_class: int
) -> Image.Image:
    names = _at_most(wrap([name], _NAME - 16, _font(17, bold=True)), 4)
    said = _categories(texts)
    height = max(_THUMB, 25 * len(names) + _LINE, _LINE * len(said)) + 2 * _PAD
    pictures = per_class * (_THUMB + _GAP)
    row = Image.new("RGB", (_NAME + pictures + 16 + _TEXT, height), "white")
    pen = ImageDraw.Draw(row)
    for i, line in enumerate(names):
        pen.text((0, _PAD + 25 * i), line, _INK, _font(17, bold=True))
    counted = f"{count:,} image{'' if count == 1 else 's'}" if count else "no image"
    pen.text((0, _PAD + 2 + 25 * len(names)), counted, _GREY, _font(14))
    for i, place in enumerate(places):
        row.paste(_thumbnail(reader, place), (_NAME + i * (_THUMB + _GAP), _PAD))
    for i, line in enumerate(said):
        pen.text((_NAME + pictures + 16, _PAD + _LINE * i), line, _INK, _font(15))
    return row


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
        picture = picture.convert("RGB")
        if picture.size != size:
            picture = picture.resize(size, Image.Resampling.NEAREST if scale >= 1 else Image.Resampling.BICUBIC)
        tile.paste(picture, ((_THUMB - size[0]) // 2, (_THUMB - size[1]) // 2))
    ImageDraw.Draw(tile).rectangle((0, 0, _THUMB - 1, _THUMB - 1), outline=_FRAME)
    return tile


def _categories(texts: Sequence[str]) -> list[str]:
    """Return the lines that say the texts, or as many of them as there is room for."""
    font, parts = _font(15), [f"{text}  ·" for text in texts[:-1]] + list(texts[-1:])
    lines = wrap(parts, _TEXT, font, between="  ")
    fitting = len(parts)
    while len(lines) > _MOST_LINES and fitting > 1:
        fitting = min(fitting - 1, fitting * _MOST_LINES // len(lines) + 1)
        lines = wrap([*parts[:fitting], f"and {len(parts) - fitting} more"], _TEXT, font, between="  ")
    return _at_most(lines, _MOST_LINES)


def _at_most(lines: list[str], most: int) -> list[str]:
    return lines if len(lines) <= most else [*lines[: most - 1], lines[most - 1] + " …"]


def wrap(parts: Sequence[str], width: int, font: ImageFont.FreeTypeFont, between: str = " ") -> list[str]:
    """Break parts into lines: between them where possible, at spaces inside long ones, in words if they must.

    Args:
        parts: what should stay together.
        width: of a line, in pixels.
        font: measures the texts.
        between: what stands between two parts on a line.
    """
    lines = [""]
    for part in parts:
        joined = f"{lines[-1]}{between}{part}" if lines[-1] else part
        if font.getlength(_plain(joined)) <= width:
            lines[-1] = joined
            continue
        if lines[-1]:
            lines.append("")
        if font.getlength(_plain(part)) <= width:
            lines[-1] = part
        elif " " in part.strip():
            lines[-1:] = wrap(part.split(), width, font)
        else:
            for letter in part:
                if lines[-1] and font.getlength(_plain(lines[-1] + letter)) > width:
                    lines.append("")
                lines[-1] += letter
    return [_plain(line) for line in lines]


def _plain(text: str) -> str:
    # a line break or a control character in a name would be drawn as a box, or break the line
    return "".join(letter if letter.isprintable() else "�" for letter in text)


@lru_cache(maxsize=16)
def _font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    import matplotlib  # only for the folder of its font, which covers most alphabets

    file = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / file, size)
