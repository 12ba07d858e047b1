"""Figures of curves and confusion matrices, drawn without pyplot's global state."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import matplotlib
import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont, ImageOps

from semscale.common.redact import printable

_COLORS = ("#1f6fb4", "#d1603d", "#3a9a5b", "#8c5fb3", "#b08b1e", "#2b8c96")
_GREYS = ("#8a8f94", "#5f656b", "#b1b5b9")
# above this many classes the cells are too small for numbers and names, or for the pixels
_MOST_LABELLED, _MOST_CELLS = 30, 800
_LONGEST_LABEL = 40
_TITLE_HEIGHT = 72  # pixels above the matrix
# a dollar sign in the name of a class or dataset starts no formula
_LITERAL_TEXT = matplotlib.rc_context({"text.parse_math": False})


@dataclass(frozen=True)
class CurveLine:
    """Line of a curve figure: accuracy and its interval at each scale, as fractions; controls are grey."""

    label: str
    scales: Sequence[int]
    accuracy: npt.ArrayLike
    low: npt.ArrayLike
    high: npt.ArrayLike
    control: bool = field(default=False, kw_only=True)

    @classmethod
    def of(cls, label: str, steps: pd.DataFrame, *, control: bool = False) -> CurveLine:
        """Return the line of a curve's rows of steps.parquet, with its simultaneous band."""
        values = (steps[name] for name in ("accuracy", "band_low", "band_high"))
        return cls(label, steps["scale"].tolist(), *values, control=control)


def curves_png(lines: Sequence[CurveLine], title: str) -> bytes:
    """Return the figure of accuracy against scale as PNG."""
    return _png(curves_figure(lines, title))


def confusion_png(
    true_class: npt.NDArray[np.integer], predicted_class: npt.NDArray[np.integer], classes: Sequence[str], title: str
) -> bytes:
    """Return a confusion matrix as PNG: rows are true classes, colours shares of the row; many classes are binned.

    Args:
        true_class, predicted_class: int[n] each, indices into `classes`.
        classes: class names.
        title: above the figure, in at most three lines.
    """
    n, font = len(classes), _font(11)
    counts = np.histogram2d(true_class, predicted_class, bins=min(n, _MOST_CELLS), range=[(0, n), (0, n)])[0]
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = min(240 + 28 * n, 1000)
    matrix = Image.fromarray(matplotlib.colormaps["Blues"](share, bytes=True)[..., :3])
    matrix = matrix.resize((side, side), Image.Resampling.NEAREST)
    labels = [printable(name if len(name) <= _LONGEST_LABEL else f"{name[:_LONGEST_LABEL]}…") for name in classes]
    labelled = n <= _MOST_LABELLED
    margin = 12 + int(max(map(font.getlength, labels))) if labelled else 20
    names = Image.new("RGB", (margin, side), "white")
    if labelled:
        centres = (np.arange(n) + 0.5) * side / n
        for centre, label in zip(centres, labels, strict=True):
            ImageDraw.Draw(names).text((margin - 6, centre), label, "black", font, anchor="rm")
        for row, column in np.argwhere(counts):
            color = "white" if share[row, column] > 0.6 else "black"
            middle = centres[column], centres[row]
            ImageDraw.Draw(matrix).text(middle, f"{counts[row, column]:.0f}", color, _font(10), anchor="mm")
    picture = Image.new("RGB", (margin + side + 20, _TITLE_HEIGHT + side + margin), "white")
    lines = textwrap.wrap(printable(title), (side + margin) // 8, max_lines=3, placeholder="…")
    heading = "\n".join([*lines, "rows: true class, columns: predicted class"])
    ImageDraw.Draw(picture).text((picture.width / 2, 8), heading, "black", font, anchor="ma", align="center")
    picture.paste(ImageOps.expand(matrix.crop((1, 1, side - 1, side - 1)), 1, "black"), (margin, _TITLE_HEIGHT))
    picture.paste(names, (0, _TITLE_HEIGHT))
    picture.paste(names.transpose(Image.Transpose.ROTATE_90), (margin, _TITLE_HEIGHT + side))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()


@lru_cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", size)


@_LITERAL_TEXT
def curves_figure(lines: Sequence[CurveLine], title: str) -> Figure:
    """Return the figure of accuracy against scale, with the intervals as bands."""
    figure = Figure(figsize=(6.4, 4.0), dpi=100)
    axes = figure.add_axes((0.1, 0.13, 0.87, 0.78))  # automatic layout would draw twice
    for index, line in enumerate(lines):
        color = _GREYS[index % len(_GREYS)] if line.control else _COLORS[index % len(_COLORS)]
        style = "--" if line.control else "-"
        accuracy, low, high = (100 * np.asarray(values, float) for values in (line.accuracy, line.low, line.high))
        axes.fill_between(line.scales, low, high, color=color, alpha=0.12, linewidth=0)
        axes.plot(line.scales, accuracy, style, marker="o", markersize=4, color=color, label=line.label)
    longest = max(lines, key=lambda line: len(line.scales)).scales
    axes.set_xticks(longest if len(longest) <= 16 else longest[:: len(longest) // 12])
    axes.set_xlabel("scale (categories per class)")
    axes.set_ylabel("accuracy, %")
    axes.set_title(title, fontsize=11)
    axes.grid(alpha=0.25)
    axes.legend(fontsize=8)
    return figure


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer, metadata={"Software": None})
    return buffer.getvalue()
