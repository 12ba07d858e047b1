"""Tables of the report beside the numbers: flipped images with thumbnails, winning categories, confusions, a map."""

from __future__ import annotations

import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import ray
from scipy.sparse.linalg import svds
from threadpoolctl import threadpool_limits

from semscale.datasets.base import Reader
from semscale.datasets.picture import BadImageError, decode
from semscale.study.encode import EncodedModel
from semscale.study.rundir import CURVE_KEY
from semscale.study.score import ScoredLadder

# per curve; the tables are for looking at, the predictions files hold everything
_MOST_FLIPS = 200
_MOST_WINNERS = 1000
_MOST_CONFUSIONS = 2000
_COMPLETE_CLASSES = 40


def collect_report_data(
    scored: Sequence[ScoredLadder], encoded: Sequence[EncodedModel], curves: pd.DataFrame
) -> dict[str, pd.DataFrame]:
    """Return the tables by file name, those that are empty left out.

    They tell scale 1 from the step of the curve's peak, or from the last step where scale 1 is the peak, in the
    strategy's first order; controls have none.

    Args:
        scored: the scored ladders.
        encoded: the same study as encoded, which knows where the images are.
        curves: curves.parquet.
    """
    peaks = {
        tuple(row[name] for name in CURVE_KEY): int(row["peak_scale"])
        for row in curves.to_dict("records")
        if row["role"] != "control"
    }
    first: dict[tuple[str, ...], ScoredLadder] = {}
    for ladder in scored:
        if ladder.curve in peaks:
            first.setdefault(ladder.curve, ladder)
    shown = [(ladder, _step(ladder.flat.scales, peaks[curve])) for curve, ladder in first.items()]
    flips = _joined([_flips(ladder, k) for ladder, k in shown])
    tables = {
        "flips": flips.drop(columns="row", errors="ignore"),
        "winners": _joined([_winners(ladder, k) for ladder, k in shown]),
        "confusions": _joined([_confusions(ladder, k) for ladder, k in shown]),
        "map": embedding_map(list(first.values())),
        "thumbnails": thumbnails_of(flips, encoded),
    }
    return {f"{name}.parquet": table for name, table in tables.items() if len(table)}


def _step(scales: Sequence[int], peak: int) -> int:
    return scales.index(peak) if peak > 1 else len(scales) - 1


def _joined(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    filled = [table for table in tables if len(table)]
    return pd.concat(filled, ignore_index=True) if filled else pd.DataFrame()


def _placed(table: pd.DataFrame, ladder: ScoredLadder, k: int) -> pd.DataFrame:
    place: dict[str, Any] = {**dict(zip(CURVE_KEY, ladder.curve, strict=True)), "scale": ladder.flat.scales[k]}
    return table.assign(**place)[[*place, *table.columns]]


def _flips(ladder: ScoredLadder, k: int) -> pd.DataFrame:
    texts = np.array(ladder.flat.texts, dtype=object)
    classes = np.array(ladder.ladder.classes, dtype=object)
    before, after = ladder.right[:, 0], ladder.right[:, k]
    margin = ladder.scores.margin[:, k]
    parts = []
    for direction, flipped, sure in (("gained", after & ~before, -margin), ("lost", before & ~after, margin)):
        rows = np.flatnonzero(flipped)
        kept = rows[np.argsort(sure[rows], kind="stable")][:_MOST_FLIPS]
        parts.append(
            pd.DataFrame(
                {
                    "direction": direction,
                    "n": len(rows),
                    "row": kept,
                    "file": [ladder.files[row] for row in kept],
                    "true_class": classes[ladder.true_class[kept]],
                    "before": texts[ladder.scores.predicted_category[kept, 0]],
                    "after": texts[ladder.scores.predicted_category[kept, k]],
                }
            )
        )
    return _placed(_joined(parts), ladder, k) if any(len(part) for part in parts) else pd.DataFrame()


def _winners(ladder: ScoredLadder, k: int) -> pd.DataFrame:
    winner = ladder.scores.predicted_category[:, k]
    before, after = ladder.right[:, 0], ladder.right[:, k]

    def count(which: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
        return np.bincount(winner[which], minlength=len(ladder.flat.texts))

    table = pd.DataFrame(
        {
            "category": ladder.flat.texts,
            "class": [ladder.ladder.classes[index] for index in ladder.flat.class_index],
            "share": count(np.ones_like(after)) / len(winner),
            "images": count(np.ones_like(after)),
            "right": count(after),
            "gained": count(after & ~before),
            "lost": count(before & ~after),
        }
    )
    table = table[table["images"] > 0].sort_values("images", ascending=False, kind="stable")
    return _placed(table.head(_MOST_WINNERS).reset_index(drop=True), ladder, k)


def _confusions(ladder: ScoredLadder, k: int) -> pd.DataFrame:
    n = len(ladder.ladder.classes)
    pairs = [ladder.true_class.astype(np.int64) * n + ladder.scores.predicted_class[:, step] for step in (0, k)]
    found, inverse = np.unique(np.concatenate(pairs), return_inverse=True)
    halves = np.split(inverse, 2)
    counts = [np.bincount(half, minlength=len(found)) for half in halves]
    true, predicted = np.divmod(found, n)
    if n > _COMPLETE_CLASSES:
        wrong = true != predicted
        found_most = np.argsort(-np.maximum(*counts)[wrong], kind="stable")[:_MOST_CONFUSIONS]
        kept = np.sort(np.flatnonzero(wrong)[found_most])
    else:
        kept = np.arange(len(found))
    classes = np.array(ladder.ladder.classes, dtype=object)
    table = pd.DataFrame(
        {
            "true_class": classes[true[kept]],
            "predicted_class": classes[predicted[kept]],
            "before": counts[0][kept],
            "after": counts[1][kept],
        }
    )
    return _placed(table, ladder, k)


PER_DIRECTION = 8
"""Pictures of a curve's gained and of its lost images."""

MOST_PICTURES = 320
MOST_BYTES = 1_000_000

_SIDE = 72
_QUALITY = 72
_READS = 8


def thumbnails_of(flips: pd.DataFrame, encoded: Sequence[EncodedModel]) -> pd.DataFrame:
    """Return thumbnails.parquet: ``dataset``, ``file`` and ``picture``, a JPEG of at most 72 x 72 pixels.

    The first images of every curve come first, so that none is without when the budget ends.

    Args:
        flips: flips.parquet with the column ``row``, an index into the dataset's encoded images.
        encoded: knows the datasets' readers.
    """
    if not len(flips):
        return pd.DataFrame()
    curve = ["dataset", "model", "strategy", "aggregation", "direction"]
    wanted = flips.assign(place=flips.groupby(curve, sort=False).cumcount())
    wanted = wanted[wanted["place"] < PER_DIRECTION].sort_values("place", kind="stable")
    wanted = wanted.drop_duplicates(["dataset", "file"]).head(MOST_PICTURES)
    arms = {arm.arm.dataset.name: arm for one in encoded for arm in one.arms}
    work = []
    for dataset, rows in wanted.groupby("dataset", sort=False):
        arm = arms[str(dataset)]
        samples = arm.arm.dataset.samples.pick(arm.images.positions[rows["row"].to_numpy()])
        work += [
            (index, arm.arm.dataset.reader, place) for index, place in zip(rows.index, samples.places(), strict=True)
        ]
    with ThreadPoolExecutor(_READS) as pool:
        found = dict(zip((index for index, _, _ in work), pool.map(lambda job: thumbnail(*job[1:]), work), strict=True))
    table = wanted[["dataset", "file"]].assign(picture=[found[index] for index in wanted.index])
    table = table[table["picture"].notna()]
    within = table["picture"].map(len).cumsum() <= MOST_BYTES
    return table[within].reset_index(drop=True)


def thumbnail(reader: Reader, place: str) -> bytes | None:
    """Return a JPEG of an image, or None when it cannot be read now: it has been before."""
    try:
        picture = decode(reader.read(place), draft=_SIDE)
    except (OSError, BadImageError):
        return None
    picture = picture.convert("RGB")
    picture.thumbnail((_SIDE, _SIDE))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=_QUALITY, optimize=True)
    return buffer.getvalue()


MOST_IMAGES = 400
MOST_TEXTS = 200

Float64 = npt.NDArray[np.float64]


def embedding_map(ladders: Sequence[ScoredLadder]) -> pd.DataFrame:
    """Return map.parquet: a row per image and category text of a sample, with its two coordinates.

    Args:
        ladders: the scored ladders, of which the first of each dataset and model gives the texts.
    """
    first: dict[tuple[str, str], ScoredLadder] = {}
    for ladder in ladders:
        first.setdefault((ladder.dataset, ladder.model), ladder)
    tables = [_map_of(ladder) for ladder in first.values()]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def principal_axes(images: Float64, texts: Float64) -> tuple[Float64, Float64, float]:
    """Project images and texts onto their first two principal components.

    Images and texts of a CLIP model lie apart, in two cones; each kind is centred by itself, or the first component
    would be nothing but that gap.

    Args:
        images: float64[n, d].
        texts: float64[m, d]; n + m and d are above 2.

    Returns:
        The coordinates [n, 2] and [m, 2], each axis turned so that its largest one is positive, and the share of the
        variance that the two hold.

    >>> images, texts, share = principal_axes(np.diag([4.0, 2.0, 1.0]), np.zeros((2, 3)))
    >>> images.shape, texts.tolist(), round(share, 6)  # three points lie in a plane
    ((3, 2), [[0.0, 0.0], [0.0, 0.0]], 1.0)
    """
    both = np.concatenate([images - images.mean(axis=0), texts - texts.mean(axis=0)])
    # the same threads everywhere, so that the same rows give the same map
    with threadpool_limits(1):
        _, values, axes = svds(both, k=2, v0=np.ones(min(both.shape)))
        order = np.argsort(-values)
        found = both @ axes[order].T
    found *= np.where(found[np.abs(found).argmax(axis=0), [0, 1]] < 0, -1.0, 1.0)
    total = float((both**2).sum())
    return found[: len(images)], found[len(images) :], float((values**2).sum()) / total if total else 0.0


def _map_of(ladder: ScoredLadder) -> pd.DataFrame:
    n, m = len(ladder.files), min(MOST_TEXTS, len(ladder.flat.texts))
    # evenly through the images sorted by class: every class has its share, and the choice is always the same
    by_class = np.argsort(ladder.true_class, kind="stable")
    rows = np.sort(by_class[np.unique(np.linspace(0, n - 1, min(n, MOST_IMAGES)).astype(int))])
    images = np.asarray(ray.get(ladder.images)[rows], dtype=float)
    texts = np.asarray(ray.get(ladder.texts)[:m], dtype=float)
    if min(len(images) + len(texts), images.shape[1]) < 3:
        return pd.DataFrame()
    of_images, of_texts, share = principal_axes(images, texts)
    classes = np.array(ladder.ladder.classes, dtype=object)
    where = np.concatenate([of_images, of_texts])
    return pd.DataFrame(
        {
            "dataset": ladder.dataset,
            "model": ladder.model,
            "strategy": ladder.strategy,
            "kind": ["image"] * len(rows) + ["category"] * m,
            "label": [*(ladder.files[row] for row in rows), *ladder.flat.texts[:m]],
            "class": [*classes[ladder.true_class[rows]], *classes[ladder.flat.class_index[:m]]],
            "x": where[:, 0],
            "y": where[:, 1],
            "variance": share,
        }
    )
