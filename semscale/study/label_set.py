"""The label set of a trial as a table that the MLflow UI pages through."""

from __future__ import annotations

import json
from bisect import bisect_right

import numpy as np

from semscale.study.score import ScoredLadder

COLUMNS = ("class", "category", "scale", "images", "right")


def label_set(scored: ScoredLadder, k: int) -> bytes:
    """Return the categories of step k as JSON of the form ``{"columns": [...], "data": [[...], ...]}``.

    A row per category, by class and in the order in which they were added: the class, the text, the scale at which it
    came, the images that it won, and how many of those are of its class. A repetition (control `duplicates`) wins none.

    Args:
        scored: the ladder.
        k: index of the step.
    """
    steps, end = scored.ladder.steps[: k + 1], int(scored.flat.step_ends[k])
    winner = scored.scores.predicted_category[:, k]
    won = np.bincount(winner, minlength=end).tolist()
    right = np.bincount(winner[scored.right[:, k]], minlength=end).tolist()
    left = {text: (won[i], right[i]) for i, text in enumerate(scored.flat.texts[:end])}
    rows = []
    for name in scored.ladder.classes:
        ends = [len(step.categories[name]) for step in steps]
        for place, text in enumerate(steps[-1].categories[name]):
            scale = steps[bisect_right(ends, place)].scale
            rows.append((name, text, scale, *left.pop(text, (0, 0))))
    return json.dumps({"columns": COLUMNS, "data": rows}, ensure_ascii=False, separators=(",", ":")).encode()
