"""The confusion matrix of a trial as PNG bytes: its frame is drawn once per set of classes, its cells every time.

Hundreds of trials show the same classes. matplotlib needs a fifth of a second for the frame (names, axes, colour bar);
the cells, their counts and the title are then set into a copy of it by Pillow in a few milliseconds.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont
from PIL import Image, ImageDraw, ImageFont

from semscale.scoring.metrics import Confusion

# above this many classes the cells are too small for numbers and names
_MOST_LABELLED = 30
_DPI = 100
_COLORS = "Blues"


def confusion_png(confusion: Confusion, classes: Sequence[str], title: str) -> bytes:
    """Draw a confusion matrix, rows = true class, columns = predicted class, coloured by the row's share.

    Args:
        confusion: images by true and predicted class.
        classes: class names in the order of the rows.
        title: one line above the figure.
    """
    frame = _frame(tuple(classes))
    picture = frame.empty.copy()
    left, top, right, bottom = frame.cells
    size = (right - left, bottom - top)
    share = _shares(confusion, min(size))
    colors = colormaps[_COLORS](share, bytes=True)[..., :3]
    cells = Image.fromarray(np.ascontiguousarray(colors)).resize(size, Image.Resampling.NEAREST)
    picture.paste(cells, (left, top))
    draw = ImageDraw.Draw(picture)
    if len(classes) <= _MOST_LABELLED:
        font = _font(7)
        for row, column, count in zip(confusion.true, confusion.predicted, confusion.count, strict=True):
            middle = (left + (column + 0.5) * size[0] / len(classes), top + (row + 0.5) * size[1] / len(classes))
            color = "white" if share[row, column] > 0.6 else "black"
            draw.text(middle, str(count), fill=color, font=font, anchor="mm")
    _write_title(draw, title, frame)
    buffer = io.BytesIO()
    # the frame's colour bar has all colours of the cells; a byte per pixel is half the time, a third of the room
    few = picture.quantize(palette=frame.palette, dither=Image.Dither.NONE)
    few.save(buffer, format="PNG", compress_level=3)
    return buffer.getvalue()


def _shares(confusion: Confusion, most: int) -> npt.NDArray[np.float64]:
    """Return the share of each cell in its row; of more classes than pixels, some make a row and a column together."""
    n = confusion.n_classes
    share = confusion.count / confusion.of_class()[confusion.true]
    side = min(n, most)
    shares = np.zeros((side, side))
    # whole numbers: every class falls into one block
    rows, columns = (place.astype(np.int64) * side // n for place in (confusion.true, confusion.predicted))
    np.add.at(shares, (rows, columns), share)
    width = np.bincount(np.arange(n) * side // n, minlength=side)
    return np.asarray(shares / width[:, None])


class _Frame:
    """Everything of the figure that all trials of some classes share.

    Attributes:
        empty: the figure without cells, counts and title.
        palette: a picture with its colours.
        cells: left, top, right, bottom of the inside of the axes in pixels.
    """

    def __init__(self, classes: Sequence[str]) -> None:
        n = len(classes)
        side = min(3.2 + 0.28 * n, 12.0)
        figure = Figure(figsize=(side + 0.8, side), dpi=_DPI, layout="tight")
        axes = figure.subplots()
        extent = (-0.5, n - 0.5, n - 0.5, -0.5)
        cells = axes.imshow(np.zeros((1, 1)), cmap=_COLORS, vmin=0.0, vmax=1.0, extent=extent)
        axes.set_title(" ", fontsize=10)  # keeps the place
        axes.set_xlabel("predicted class")
        axes.set_ylabel("true class")
        if n <= _MOST_LABELLED:
            axes.set_xticks(range(n), classes, rotation=60, ha="right", fontsize=8)
            axes.set_yticks(range(n), classes, fontsize=8)
        figure.colorbar(cells, ax=axes, fraction=0.046, pad=0.03, label="share of the true class")
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        pixels = np.asarray(canvas.buffer_rgba())
        box = axes.get_window_extent()
        # one pixel inside, where the axes' own line is
        self.cells = (
            round(box.x0) + 1,
            round(pixels.shape[0] - box.y1) + 1,
            round(box.x1) - 1,
            round(pixels.shape[0] - box.y0) - 1,
        )
        self.empty = Image.fromarray(pixels[..., :3].copy())
        self.palette = self.empty.quantize(128, dither=Image.Dither.NONE)


@lru_cache(maxsize=8)
def _frame(classes: tuple[str, ...]) -> _Frame:
    return _Frame(classes)


@lru_cache(maxsize=8)
def _font(points: int) -> ImageFont.FreeTypeFont:
    # matplotlib brings DejaVu along and draws the frame with it
    return ImageFont.truetype(findfont("DejaVu Sans"), round(points * _DPI / 72))


def _write_title(draw: ImageDraw.ImageDraw, title: str, frame: _Frame) -> None:
    width = frame.empty.width
    # names of curves may be long: smaller letters before a title that leaves the picture
    font = next((font for font in map(_font, (10, 8, 7)) if draw.textlength(title, font=font) <= width - 8), _font(6))
    half = draw.textlength(title, font=font) / 2
    middle = min(max((frame.cells[0] + frame.cells[2]) / 2, half + 4), max(width - half - 4, half + 4))
    draw.text((middle, frame.cells[1] - 8), title, fill="black", font=font, anchor="ms")
