"""Figures of curves and confusion matrices, drawn without pyplot so that nothing is kept between calls."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field

import matplotlib
import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

_COLORS = ("#1f6fb4", "#d1603d", "#3a9a5b", "#8c5fb3", "#b08b1e", "#2b8c96")
_GREYS = ("#8a8f94", "#5f656b", "#b1b5b9")
# above this many classes the cells are too small for numbers and names, or for the pixels
_MOST_LABELLED, _MOST_CELLS = 30, 800
_LONGEST_LABEL = 40
# names of classes and datasets are no formulas, whatever dollar signs they have
_AS_WRITTEN = matplotlib.rc_context({"text.parse_math": False})


@dataclass(frozen=True)
class CurveLine:
    """One line of a curve figure: accuracy and its interval at each scale, in fractions; controls are grey."""

    label: str
    scales: Sequence[int]
    accuracy: npt.ArrayLike
    low: npt.ArrayLike
    high: npt.ArrayLike
    control: bool = field(default=False, kw_only=True)

    @classmethod
    def of(cls, label: str, steps: pd.DataFrame, *, control: bool = False) -> CurveLine:
        """Return the line of a curve's rows of steps.parquet, with the band of all scales at once."""
        values = (steps[name] for name in ("accuracy", "band_low", "band_high"))
        return cls(label, steps["scale"].tolist(), *values, control=control)


def curves_png(lines: Sequence[CurveLine], title: str) -> bytes:
    """Draw accuracy against scale, with the 95 % intervals as bands."""
    return _png(curves_figure(lines, title))


@_AS_WRITTEN
def confusion_png(
    true_class: npt.NDArray[np.integer], predicted_class: npt.NDArray[np.integer], classes: Sequence[str], title: str
) -> bytes:
    """Draw a confusion matrix, rows = true class, coloured by the row's share; of many classes some share a cell.

    Args:
        true_class, predicted_class: int[n] each, indices into `classes`.
        classes: class names.
        title: one line above the figure.
    """
    n = len(classes)
    counts = np.histogram2d(true_class, predicted_class, bins=min(n, _MOST_CELLS), range=[(0, n), (0, n)])[0]
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    labelled = n <= _MOST_LABELLED
    labels = [name if len(name) <= _LONGEST_LABEL else name[: _LONGEST_LABEL - 1] + "…" for name in classes]
    side = min(2.4 + 0.28 * n, 10.0)
    # room for the longest name; matplotlib's own layouts draw everything twice
    margin = 0.5 + (0.065 * max(map(len, labels)) if labelled else 0.2)
    width, height = margin + side + 0.2, margin + side + 0.7
    figure = Figure(figsize=(width, height), dpi=100)
    axes = figure.add_axes((margin / width, margin / height, side / width, side / height))
    axes.imshow(share, cmap="Blues", vmin=0.0, vmax=1.0, extent=(-0.5, n - 0.5, n - 0.5, -0.5), aspect="auto")
    axes.set_title(textwrap.fill(title, int(side / 0.08)), fontsize=9)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    if labelled:
        axes.set_xticks(range(n), labels, rotation=60, ha="right", fontsize=8)
        axes.set_yticks(range(n), labels, fontsize=8)
        for row, column in np.argwhere(counts):
            color = "white" if share[row, column] > 0.6 else "black"
            axes.text(column, row, f"{counts[row, column]:.0f}", color=color, fontsize=7, ha="center", va="center")
    return _png(figure)


@_AS_WRITTEN
def curves_figure(lines: Sequence[CurveLine], title: str) -> Figure:
    """Return the figure of accuracy against scale, with the intervals as bands."""
    figure = Figure(figsize=(6.4, 4.0), dpi=100, layout="tight")
    axes = figure.subplots()
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
