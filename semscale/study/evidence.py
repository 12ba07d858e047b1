"""What a report shows of a study beside its numbers: which images flipped, which categories win, what is confused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from semscale.study.embedding_map import embedding_map
from semscale.study.encode import EncodedModel
from semscale.study.rundir import CURVE_KEY
from semscale.study.score import ScoredLadder
from semscale.study.thumbnails import thumbnails_of

# per curve; the tables are for looking at, the predictions files hold everything
_MOST_FLIPS = 200
_MOST_WINNERS = 1000
_MOST_CONFUSIONS = 2000
_COMPLETE_CLASSES = 40


def collect_evidence(
    scored: Sequence[ScoredLadder], encoded: Sequence[EncodedModel], curves: pd.DataFrame
) -> dict[str, pd.DataFrame]:
    """Return the evidence tables by file name, those that are empty left out.

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
