"""The arms of a study: its datasets and the ladder of each dataset and strategy, made before anything is encoded."""

from __future__ import annotations

from dataclasses import dataclass

from semscale.categories.ladder import Ladder, build_ladder
from semscale.config import StudyConfig
from semscale.datasets.base import Dataset
from semscale.datasets.registry import load_dataset
from semscale.errors import SemscaleError


@dataclass(frozen=True)
class Arm:
    """One dataset with the ladders of all strategies; every arm of a dataset uses the same images.

    Attributes:
        dataset: the images.
        ladders: one per strategy, in the study's order.
    """

    dataset: Dataset
    ladders: tuple[Ladder, ...]


def make_arms(study: StudyConfig) -> list[Arm]:
    """Load the datasets and build the ladders of a study.

    Raises:
        SemscaleError: an unknown dataset or strategy, a ladder that cannot be made, two datasets of one name.
    """
    arms: list[Arm] = []
    for config in study.datasets:
        dataset = load_dataset(config.spec, name=config.name, domain=config.domain, limit=study.limit)
        if any(arm.dataset.name == dataset.name for arm in arms):
            raise SemscaleError(
                "two datasets of the study have the same name",
                found=dataset.name,
                hint="give one of them another name: in the study file",
            )
        ladders = tuple(
            build_ladder(
                dataset.name,
                dataset.classes,
                dataset.domain,
                strategy,
                steps=study.steps,
                scales=study.scales,
                order=study.order,
            )
            for strategy in study.strategies
        )
        arms.append(Arm(dataset, ladders))
    return arms
