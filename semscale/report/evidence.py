"""What the report shows beside the tables of numbers: flipped images, categories, confusions, maps, surroundings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd


@dataclass(frozen=True)
class CategorySet:
    """The last step of a ladder, or the beginning of it where there are many classes.

    Attributes:
        dataset, strategy: which ladder.
        scales: the scale of each step.
        categories: class -> its texts in the order in which they are added, for some of the classes.
        n_classes: all classes.
        notes: what a reader should know of these categories.
    """

    dataset: str
    strategy: str
    scales: Sequence[int]
    categories: Mapping[str, Sequence[str]]
    n_classes: int
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Evidence:
    """Small tables of a run directory, each of which may be empty: a run of an older semscale has none of them.

    Attributes:
        flips: flips.parquet; images that are labelled right at one of scale 1 and `scale` and wrong at the other, the
            surest first: ``direction`` (gained, lost), ``n`` (all of this direction), ``file``, ``true_class``,
            ``before`` and ``after`` (the winning category).
        thumbnails: thumbnails.parquet; ``dataset``, ``file``, ``picture`` (a JPEG).
        winners: winners.parquet; per category ``share`` of the images that it wins at `scale`, and how many ``images``
            that is, ``right`` ones, and ``gained`` and ``lost`` against scale 1.
        confusions: confusions.parquet; images by ``true_class`` and ``predicted_class``, ``before`` and ``after``.
        points: map.parquet; ``kind`` (image, category), ``label``, ``class``, ``x``, ``y`` and the ``variance`` that
            the two axes hold.
        quarantine: quarantine.csv; ``dataset``, ``file``, ``reason``.
        categories: the category sets of each dataset and strategy.
        environment: environment.json with what the study file says of servers and seeds.
    """

    flips: pd.DataFrame = field(default_factory=pd.DataFrame)
    thumbnails: pd.DataFrame = field(default_factory=pd.DataFrame)
    winners: pd.DataFrame = field(default_factory=pd.DataFrame)
    confusions: pd.DataFrame = field(default_factory=pd.DataFrame)
    points: pd.DataFrame = field(default_factory=pd.DataFrame)
    quarantine: pd.DataFrame = field(default_factory=pd.DataFrame)
    categories: Sequence[CategorySet] = ()
    environment: Mapping[str, Any] = field(default_factory=dict)
