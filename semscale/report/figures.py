"""Figures as PNG bytes, drawn without pyplot so that nothing is kept between calls."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

_COLORS = ("#1f6fb4", "#d1603d", "#3a9a5b", "#8c5fb3", "#b08b1e", "#2b8c96")
_GREYS = ("#8a8f94", "#5f656b", "#b1b5b9")


class CurveLine:
    """One line of a curve figure: accuracy and its interval at each scale, in fractions."""

    def __init__(
        self,
        label: str,
        scales: Sequence[int],
        accuracy: npt.ArrayLike,
        low: npt.ArrayLike,
        high: npt.ArrayLike,
        *,
        control: bool = False,
    ) -> None:
        self.label = label
        self.control = control  # drawn in grey and dashed
        self.scales = list(scales)
        self.accuracy = 100 * np.asarray(accuracy, dtype=float)
        self.low = 100 * np.asarray(low, dtype=float)
        self.high = 100 * np.asarray(high, dtype=float)


def curves_png(lines: Sequence[CurveLine], title: str) -> bytes:
    """Draw accuracy against scale, with the 95 % intervals as bands."""
    return _png(_curves(lines, title))


def curves_svg(lines: Sequence[CurveLine], title: str) -> str:
    """Draw accuracy against scale as an SVG element that can stand inside an HTML page."""
    buffer = io.StringIO()
    # without a date and with a salt of its own the same curves give the same bytes
    with rc_context({"svg.hashsalt": title}):
        _curves(lines, title).savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def _curves(lines: Sequence[CurveLine], title: str) -> Figure:
    figure = Figure(figsize=(6.4, 4.0), dpi=100, layout="tight")
    axes = figure.subplots()
    for index, line in enumerate(lines):
        color = _GREYS[index % len(_GREYS)] if line.control else _COLORS[index % len(_COLORS)]
        style = "--" if line.control else "-"
        axes.fill_between(line.scales, line.low, line.high, color=color, alpha=0.12, linewidth=0)
        axes.plot(line.scales, line.accuracy, style, marker="o", markersize=4, color=color, label=line.label)
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
