"""Curves as a picture."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from semscale.api.conclude import CURVE, summaries
from semscale.categories.registry import control_names
from semscale.report.figures import CurveLine, curves_png, curves_svg


@dataclass(frozen=True, repr=False)
class Plot:
    """A picture that a notebook shows.

    Attributes:
        lines: the curves.
        title: what stands above them.
    """

    lines: tuple[CurveLine, ...]
    title: str

    def save(self, path: str | Path) -> Path:
        """Write it as .svg, or else as PNG."""
        path = Path(path)
        if path.suffix == ".svg":
            path.write_text(curves_svg(self.lines, self.title), encoding="utf-8")
        else:
            path.write_bytes(curves_png(self.lines, self.title))
        return path

    def __repr__(self) -> str:
        return f"<Plot of {len(self.lines)} curves: {self.title}>"

    def _repr_png_(self) -> bytes:
        return curves_png(self.lines, self.title)


def plot(predictions: pd.DataFrame, *, title: str | None = None, margin: float = 0.5) -> Plot:
    """Draw accuracy against scale, with the band that holds for the whole curve; controls are grey and dashed.

    Args:
        predictions: of :func:`semscale.score`.
        title: above the picture; what all curves have in common unless given.
        margin: points, for the critical scales in the legend.

    Raises:
        SemscaleError: the orders or steps of a curve have different images.
    """
    same = {name: str(predictions[name].iloc[0]) for name in CURVE if predictions[name].nunique() == 1}
    lines = []
    for curve, found in summaries(predictions, margin):
        label = " / ".join(value for name, value in curve.key.items() if name not in same) or curve.key["strategy"]
        control = curve.key["strategy"] in control_names()
        if not control:
            scale = "not shown" if found.critical_scale is None else found.critical_scale
            label += f": {found.trend}, critical scale {scale} [{found.critical_low}, {found.critical_high}]"
        table = found.steps
        lines.append(
            CurveLine(label, curve.scales, table["accuracy"], table["band_low"], table["band_high"], control=control)
        )
    common = " / ".join(same[name] for name in ("dataset", "model", "strategy") if name in same)
    return Plot(tuple(lines), title if title is not None else common)
