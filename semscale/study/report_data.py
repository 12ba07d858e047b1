"""Tables of the report: flipped images with thumbnails, winning categories, confusions, and a map of embeddings."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import ray
from scipy.linalg import eigh
from threadpoolctl import threadpool_limits

from semscale.common.progress import ProgressReporter
from semscale.datasets.dataset import Reader
from semscale.datasets.image_decoding import BadImageError, decode
from semscale.report.headlines import CURVE_KEY
from semscale.study.encoding_stage import EncodedModel
from semscale.study.run_directory import concatenate, with_key
from semscale.study.scoring_stage import ScoredLadder

Float64 = npt.NDArray[np.float64]

# rows per curve; the predictions files have all images
_MAX_FLIPS = 200
_MAX_WINNERS = 1000
_MAX_CONFUSIONS = 2000
# up to this many classes the correct predictions are counted as well
_COMPLETE_CLASSES = 40
# thumbnails: per curve and direction, in all, their bytes; pixels, JPEG quality, threads
_PER_DIRECTION = 8
_MAX_THUMBNAILS = 320
_MAX_BYTES = 1_000_000
_SIDE, _QUALITY, _THREADS = 72, 72, 8
# points of the map
_MAX_IMAGES, _MAX_TEXTS = 400, 200


def collect_report_data(
    scored: Sequence[ScoredLadder], encoded: Sequence[EncodedModel], curves: pd.DataFrame, report: ProgressReporter
) -> dict[str, pd.DataFrame]:
    """Return the tables that are not empty by file name, without controls; a table that fails is left out with a note.

    They compare scale 1 with the curve's peak, or with the last step if scale 1 is the peak, in the first order.
    """
    peaks = curves[curves["role"] != "control"].set_index(list(CURVE_KEY))["peak_scale"].to_dict()
    first: dict[tuple[str, ...], ScoredLadder] = {}
    by_model: dict[tuple[str, ...], ScoredLadder] = {}
    for ladder in scored:
        if ladder.curve in peaks:
            first.setdefault(ladder.curve, ladder)
            by_model.setdefault(ladder.curve[:2], ladder)
    compared = [(ladder, _step(ladder.flat.scales, int(peaks[curve]))) for curve, ladder in first.items()]
    tables = {"flips": pd.DataFrame()}
    makers: dict[str, Callable[[], pd.DataFrame]] = {
        "flips": lambda: concatenate(_flips(ladder, k) for ladder, k in compared),
        "winners": lambda: concatenate(_winners(ladder, k) for ladder, k in compared),
        "confusions": lambda: concatenate(_confusions(ladder, k) for ladder, k in compared),
        "map": lambda: concatenate(_map_of(ladder) for ladder in by_model.values()),
        "thumbnails": lambda: make_thumbnails(tables["flips"], encoded),
    }
    for name, make in makers.items():
        with report.optional(f"{name} of the report"):
            tables[name] = make()
    tables["flips"] = tables["flips"].drop(columns="row", errors="ignore")
    return {f"{name}.parquet": table for name, table in tables.items() if len(table)}


def _step(scales: Sequence[int], peak: int) -> int:
    return scales.index(peak) if peak > 1 else len(scales) - 1


def _flips(ladder: ScoredLadder, k: int) -> pd.DataFrame:
    texts = np.array(ladder.flat.texts, dtype=object)
    classes = np.array(ladder.ladder.classes, dtype=object)
    before, after = ladder.right[:, 0], ladder.right[:, k]
    margin = ladder.scores.margin[:, k]
    tables = []
    for direction, flipped, uncertainty in (("gained", after & ~before, -margin), ("lost", before & ~after, margin)):
        rows = np.flatnonzero(flipped)
        kept = rows[np.argsort(uncertainty[rows], kind="stable")][:_MAX_FLIPS]
        columns = {
            "direction": direction,
            "n": len(rows),
            "row": kept,
            "file": [ladder.files[row] for row in kept],
            "true_class": classes[ladder.true_class[kept]],
            "before": texts[ladder.scores.predicted_category[kept, 0]],
            "after": texts[ladder.scores.predicted_category[kept, k]],
        }
        tables.append(pd.DataFrame(columns))
    table = concatenate(tables)
    return with_key(table, ladder.curve, scale=ladder.flat.scales[k]) if len(table) else table


def _winners(ladder: ScoredLadder, k: int) -> pd.DataFrame:
    winner = ladder.scores.predicted_category[:, k]
    before, after = ladder.right[:, 0], ladder.right[:, k]

    def count(winners: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
        return np.bincount(winners, minlength=len(ladder.flat.texts))

    columns = {
        "category": ladder.flat.texts,
        "class": [ladder.ladder.classes[index] for index in ladder.flat.class_index],
        "share": count(winner) / len(winner),
        "images": count(winner),
        "right": count(winner[after]),
        "gained": count(winner[after & ~before]),
        "lost": count(winner[before & ~after]),
    }
    table = pd.DataFrame(columns).query("images > 0").sort_values("images", ascending=False, kind="stable")
    return with_key(table.head(_MAX_WINNERS).reset_index(drop=True), ladder.curve, scale=ladder.flat.scales[k])


def _confusions(ladder: ScoredLadder, k: int) -> pd.DataFrame:
    n = len(ladder.ladder.classes)
    pairs = [ladder.true_class.astype(np.int64) * n + ladder.scores.predicted_class[:, step] for step in (0, k)]
    distinct, inverse = np.unique(np.concatenate(pairs), return_inverse=True)
    before, after = (np.bincount(half, minlength=len(distinct)) for half in np.split(inverse, 2))
    true, predicted = np.divmod(distinct, n)
    kept = np.arange(len(distinct))
    if n > _COMPLETE_CLASSES:
        wrong = np.flatnonzero(true != predicted)
        most = np.argsort(-np.maximum(before, after)[wrong], kind="stable")[:_MAX_CONFUSIONS]
        kept = np.sort(wrong[most])
    classes = np.array(ladder.ladder.classes, dtype=object)
    columns = {"true_class": classes[true], "predicted_class": classes[predicted], "before": before, "after": after}
    table = pd.DataFrame({name: values[kept] for name, values in columns.items()})
    return with_key(table, ladder.curve, scale=ladder.flat.scales[k])


def make_thumbnails(flips: pd.DataFrame, encoded: Sequence[EncodedModel]) -> pd.DataFrame:
    """Return thumbnails.parquet; the limits are shared evenly among the curves."""
    if not len(flips):
        return pd.DataFrame()
    # by rank, so that each curve has some when the limit is reached
    chosen = flips.assign(rank=flips.groupby([*CURVE_KEY, "direction"], sort=False).cumcount())
    chosen = chosen[chosen["rank"] < _PER_DIRECTION].sort_values("rank", kind="stable")
    chosen = chosen.drop_duplicates(["dataset", "file"]).head(_MAX_THUMBNAILS)
    arms = {arm.arm.dataset.name: arm for model in encoded for arm in model.arms}

    def draw(row: Mapping[Any, Any]) -> Any:
        arm = arms[row["dataset"]]
        (location,) = arm.arm.dataset.samples.pick(arm.images.positions[[row["row"]]]).locations()
        return thumbnail(arm.arm.dataset.reader, location)

    with ThreadPoolExecutor(_THREADS) as pool:
        table = chosen[["dataset", "file"]].assign(picture=list(pool.map(draw, chosen.to_dict("records"))))
    table = table[table["picture"].notna()]
    within = table["picture"].map(len).cumsum() <= _MAX_BYTES
    return table[within].reset_index(drop=True)


def thumbnail(reader: Reader, location: str) -> bytes | None:
    """Return a small JPEG of an image, or None if it can no longer be read."""
    try:
        picture = decode(reader.read(location), draft=_SIDE)
    except (OSError, BadImageError):
        return None
    picture = picture.convert("RGB")
    picture.thumbnail((_SIDE, _SIDE))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=_QUALITY, optimize=True)
    return buffer.getvalue()


def principal_axes(images: Float64, texts: Float64) -> tuple[Float64, Float64, float]:
    """Project images and texts onto their first two principal components.

    Images, float64[n, d], and texts, float64[m, d], are centred separately: the first component would otherwise be the
    modality gap. Returns [n, 2] and [m, 2], the largest coordinate of each axis positive, and the explained variance.

    >>> images, texts, share = principal_axes(np.diag([4.0, 2.0, 1.0]), np.zeros((2, 3)))
    >>> images.shape, texts.tolist(), round(share, 6)  # three points are in a plane
    ((3, 2), [[0.0, 0.0], [0.0, 0.0]], 1.0)
    """
    both = np.concatenate([images - images.mean(axis=0), texts - texts.mean(axis=0)])
    # one thread, so that equal rows give an equal map on every machine
    with threadpool_limits(1):
        n = len(both)
        values, vectors = eigh(both @ both.T, subset_by_index=[n - 2, n - 1])
    values = np.maximum(values[::-1], 0.0)
    points = vectors[:, ::-1] * np.sqrt(values)
    points *= np.where(points[np.abs(points).argmax(axis=0), [0, 1]] < 0, -1.0, 1.0)
    total = float((both**2).sum())
    return points[: len(images)], points[len(images) :], float(values.sum()) / total if total else 0.0


def _map_of(ladder: ScoredLadder) -> pd.DataFrame:
    """Return map.parquet of a dataset and model: a row per sampled image and category text."""
    n, m = len(ladder.files), min(_MAX_TEXTS, len(ladder.flat.texts))
    # evenly spaced over the images sorted by class: a deterministic sample with a share of every class
    by_class = np.argsort(ladder.true_class, kind="stable")
    rows = np.sort(by_class[np.unique(np.linspace(0, n - 1, min(n, _MAX_IMAGES)).astype(int))])
    images = np.asarray(ray.get(ladder.images)[rows], dtype=float)
    texts = np.asarray(ray.get(ladder.texts)[:m], dtype=float)
    if min(len(images) + len(texts), images.shape[1]) < 3:
        return pd.DataFrame()
    image_points, text_points, share = principal_axes(images, texts)
    classes = np.array(ladder.ladder.classes, dtype=object)
    points = np.concatenate([image_points, text_points])
    return pd.DataFrame(
        {
            **{name: ladder.columns[name] for name in ("dataset", "model", "strategy")},
            "kind": ["image"] * len(rows) + ["category"] * m,
            "label": [*(ladder.files[row] for row in rows), *ladder.flat.texts[:m]],
            "class": [*classes[ladder.true_class[rows]], *classes[ladder.flat.class_index[:m]]],
            "x": points[:, 0],
            "y": points[:, 1],
            "variance": share,
        }
    )
