"""Folders of published predictions, made of literal data."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

CLASSES = ["hot_dog", "cat"]

# two classes, three steps; the second step has lost a text of the first, the third is called 7 but offers 5
STEPS: list[dict[str, Any]] = [
    {"n_categories": 2, "categories": {"hot_dog": ["hot_dog"], "cat": ["cat"]}, "published_accuracy": 50.0},
    {"n_categories": 4, "categories": {"hot_dog": ["Hot_dogs", "hot_dog"], "cat": ["cats", "Large cat"]}},
    {
        "n_categories": 7,
        "categories": {"hot_dog": ["hot_dog", "Hot_dogs"], "cat": ["cat", "cats", "Large cat"]},
        "usable": False,
        "issue": "half a file",
    },
]
TRUE: list[str | None] = ["hot dog", "Hot_Dog", "cat", "cat", None]
PREDICTED: dict[str, list[str | None]] = {
    "2": ["hot_dog", "cat", "Cat", "cat", "cat"],
    "4": ["HOT  dogs", "hot_dog", "cat", "large_cat", "cats"],  # cat was not offered
    "7": ["Hot_dogs", None, "cats", None, None],
}


def write(
    folder: Path,
    steps: Sequence[Mapping[str, Any]] = tuple(STEPS),
    true: Sequence[str | None] = tuple(TRUE),
    predicted: Mapping[str, Sequence[str | None]] = PREDICTED,
    **more: Any,
) -> Path:
    """Write a folder with ladder.json and predictions.parquet, and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    ladder = {"dataset": "Two", "family": "plain", "classes": CLASSES, "steps": steps} | more
    (folder / "ladder.json").write_text(json.dumps(ladder))
    files = [f"{number}.jpg" for number in range(len(true))]
    pd.DataFrame({"file": files, "true_class": true, **predicted}).to_parquet(folder / "predictions.parquet")
    return folder
