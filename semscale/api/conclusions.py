"""Conclusions from predictions: accuracy per trial, tables per curve and step, comparison with a control, figure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from semscale.analysis.control import compare_with_control
from semscale.analysis.curve import CurveSummary
from semscale.analysis.curve import conclude as conclude_curve
from semscale.analysis.intervals import wilson_interval
from semscale.categories.strategy_registry import control_names
from semscale.common.errors import SemscaleError
from semscale.common.text import counted
from semscale.report.figures import CurveLine, curves_figure, curves_png
from semscale.report.headlines import CURVE_KEY
from semscale.study.run_directory import with_key


@dataclass(frozen=True)
class _PredictionCurve:
    """Curve of a table of predictions: key columns, S scales, image numbers int64[n], correctness bool[O, n, S]."""

    key: dict[str, str]
    scales: list[int]
    images: npt.NDArray[np.int64]
    correct: npt.NDArray[np.bool_]

    def conclude(self, margin: float) -> CurveSummary:
        """Return the conclusions; the margin is in points."""
        return conclude_curve(self.scales, self.correct, margin=margin / 100)


@dataclass(frozen=True, repr=False)
class Plot:
    """Figure of curves with a title; notebooks display it."""

    lines: tuple[CurveLine, ...]
    title: str

    def save(self, path: str | Path) -> Path:
        """Write the figure in the format of the file's ending: .png, .svg, .pdf, ...; return the path."""
        path = Path(path)
        curves_figure(self.lines, self.title).savefig(path, format=path.suffix[1:] or "png")
        return path

    def __repr__(self) -> str:
        return f"<Plot of {counted(len(self.lines), 'curves')}: {self.title}>"

    def _repr_png_(self) -> bytes:
        return curves_png(self.lines, self.title)


def trials(predictions: pd.DataFrame) -> pd.DataFrame:
    """Return the accuracy of every trial of :func:`semscale.score`'s table.

    A row per ladder, aggregation and step: ``dataset``, ``model``, ``strategy``, ``order``, ``aggregation``,
    ``scale``, ``n_categories``, ``n_images``, ``n_correct``, ``accuracy`` with Wilson's 95 % interval ``ci_low`` and
    ``ci_high`` (shares, not percent), ``mean_margin`` (cosine).

    >>> import semscale
    >>> digits = semscale.load_dataset("digits", per_class=2)
    >>> predictions = semscale.score(digits, semscale.ladder(digits, "templates", steps=3))
    >>> trials(predictions)[["strategy", "scale", "n_categories", "n_images"]].values.tolist()[2]
    ['templates', 3, 30, 20]
    """
    keys = ["dataset", "model", "strategy", "order", "aggregation", "scale", "n_categories"]
    groups = predictions.groupby(keys, sort=False, observed=True)
    table = groups.agg(n_images=("correct", "size"), n_correct=("correct", "sum"), mean_margin=("margin", "mean"))
    table = table.reset_index()
    low, high = wilson_interval(table["n_correct"].to_numpy(), table["n_images"].to_numpy())
    table = table.assign(accuracy=table["n_correct"] / table["n_images"], ci_low=low, ci_high=high)
    return table[[*keys, "n_images", "n_correct", "accuracy", "ci_low", "ci_high", "mean_margin"]]


def conclude(predictions: pd.DataFrame, *, margin: float = 0.5) -> pd.DataFrame:
    """Return the conclusions of each curve of :func:`semscale.score`'s table; gains below the margin do not count.

    A row per curve, with the columns of a study's ``curves.parquet``: ``dataset``, ``model``, ``strategy``,
    ``aggregation``, ``n_images``, ``n_orders``; ``baseline`` (class names alone), ``peak`` and ``final`` as shares,
    with changes and intervals; ``peak_p`` under the permutation null; ``critical_scale`` (missing if it cannot be
    determined) with its interval ``critical_low`` and ``critical_high``; the fitted form; ``trend``. The margin is in
    points.

    Raises:
        SemscaleError: the orders or steps of a curve have different images.

    >>> import semscale
    >>> digits = semscale.load_dataset("digits", per_class=2)
    >>> ladders = [semscale.ladder(digits, name, steps=3) for name in ("templates", "random-words")]
    >>> conclude(semscale.score(digits, ladders))[["strategy", "n_images", "trend"]].values.tolist()
    [['templates', 20, 'flat'], ['random-words', 20, 'flat']]
    """
    summaries = [(curve.key, curve.conclude(margin)) for curve in _curves(predictions)]
    rows = [{**key, "n_images": summary.n_images, **summary.columns()} for key, summary in summaries]
    return pd.DataFrame(rows).astype({"critical_scale": "Int64"})  # which has missing values


def steps(predictions: pd.DataFrame, *, margin: float = 0.5) -> pd.DataFrame:
    """Return the conclusions of each curve at each scale.

    A row per curve and scale, with the columns of a study's ``steps.parquet``: ``accuracy`` with its interval and the
    simultaneous band of the curve, ``change`` against scale 1 with intervals and tests.

    Raises:
        SemscaleError: the orders or steps of a curve have different images.

    >>> import semscale
    >>> digits = semscale.load_dataset("digits", per_class=2)
    >>> predictions = semscale.score(digits, semscale.ladder(digits, "templates", steps=3))
    >>> steps(predictions)[["strategy", "scale", "change"]].values.tolist()[0]
    ['templates', 1, 0.0]
    """
    tables = [with_key(curve.conclude(margin).steps, tuple(curve.key.values())) for curve in _curves(predictions)]
    return pd.concat(tables, ignore_index=True)


def compare(predictions: pd.DataFrame, strategy: str, control: str) -> pd.DataFrame:
    """Return the paired difference between a strategy and a control, with as many categories and on the same images.

    A row per dataset, model, aggregation and scale: ``difference`` of the accuracies (shares) with its 95 % interval
    ``low`` and ``high``, ``p``, and more; the row without a scale is the mean over all steps after the first.

    Raises:
        SemscaleError: the table lacks one of the two, or they differ in images or scales.

    >>> import semscale
    >>> digits = semscale.load_dataset("digits", per_class=2)
    >>> ladders = [semscale.ladder(digits, name, steps=3) for name in ("templates", "random-words")]
    >>> compare(semscale.score(digits, ladders), "templates", "random-words")["scale"].tolist()
    [<NA>, 1, 2, 3]
    """
    chosen = predictions[predictions["strategy"].isin([strategy, control])]
    curves = {tuple(curve.key.values()): curve for curve in _curves(chosen)}
    tables = []
    for key, arm in curves.items():
        other = curves.get((*key[:2], control, key[3]))
        if key[2] != strategy or other is None:
            continue
        if arm.scales != other.scales or not np.array_equal(arm.images, other.images):
            what, where = "the strategy and its control differ in images or scales", f"{strategy} and {control}"
            hint = "make the control with of=STRATEGY and the same steps, and score both on the same dataset"
            raise SemscaleError(what, where=where, found=f"scales {arm.scales} and {other.scales}", hint=hint)
        table = compare_with_control(arm.scales, arm.correct, other.correct).table()
        tables.append(with_key(table, key, control=control))
    if not tables:
        found = ", ".join(map(str, predictions["strategy"].unique()))
        raise SemscaleError("no dataset of the table has both", where=f"{strategy} and {control}", found=found)
    return pd.concat(tables, ignore_index=True)


def plot(predictions: pd.DataFrame, *, title: str | None = None, margin: float = 0.5) -> Plot:
    """Draw accuracy against scale with simultaneous bands; controls are grey and dashed.

    The title defaults to what all curves have in common; the legend shows the critical scales for a margin in points.

    Raises:
        SemscaleError: the orders or steps of a curve have different images.

    >>> import semscale
    >>> digits = semscale.load_dataset("digits", per_class=2)
    >>> plot(semscale.score(digits, semscale.ladder(digits, "templates", steps=3)))
    <Plot of 1 curve: digits / semscale-mini / templates>
    """
    common = {name: str(predictions[name].iloc[0]) for name in CURVE_KEY if predictions[name].nunique() == 1}
    lines = []
    for curve in _curves(predictions):
        summary, control = curve.conclude(margin), curve.key["strategy"] in control_names()
        label = " / ".join(value for name, value in curve.key.items() if name not in common) or curve.key["strategy"]
        if not control:
            scale = "unknown" if summary.critical_scale is None else summary.critical_scale
            label += f": {summary.trend}, critical scale {scale} [{summary.critical_low}, {summary.critical_high}]"
        lines.append(CurveLine.of(label, summary.steps, control=control))
    default = " / ".join(common[name] for name in ("dataset", "model", "strategy") if name in common)
    return Plot(tuple(lines), default if title is None else title)


def _curves(predictions: pd.DataFrame) -> Iterator[_PredictionCurve]:
    """Split a table of predictions into curves; SemscaleError if the orders or steps of one differ in images."""
    for key, rows in predictions.groupby(list(CURVE_KEY), sort=False, observed=True):
        named = dict(zip(CURVE_KEY, map(str, key), strict=True))
        try:
            wide = rows.set_index(["order", "image", "scale"])["correct"].unstack("scale").unstack("order")
        except ValueError:  # a row occurs twice
            wide = pd.DataFrame([None])
        if wide.isna().to_numpy().any():
            what = "a curve needs the same images, each once, at every step and in every order"
            hint = "put each dataset, model, strategy and order into the table once"
            raise SemscaleError(what, where=" / ".join(named.values()), hint=hint)
        scales, orders = (sorted(int(value) for value in rows[name].unique()) for name in ("scale", "order"))
        correct = np.stack([np.stack([wide[scale, order] for scale in scales], axis=1) for order in orders])
        yield _PredictionCurve(named, scales, wide.index.to_numpy(dtype=np.int64), correct.astype(np.bool_))
