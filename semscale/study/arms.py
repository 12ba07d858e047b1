"""The arms of a study: its datasets and all ladders, controls included, made before anything is encoded."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from semscale.categories.build import LadderSpec, build_ladders
from semscale.categories.ladder import Ladder
from semscale.categories.registry import control_names
from semscale.config import StrategyConfig, StudyConfig
from semscale.datasets.base import Dataset
from semscale.datasets.registry import load_dataset
from semscale.errors import SemscaleError
from semscale.study.progress import Quiet, Reporter
from semscale.study.rundir import RunDirectory


@dataclass(frozen=True)
class Arm:
    """One dataset with the ladders of all strategies and controls; every arm of a dataset uses the same images.

    Attributes:
        dataset: the images.
        ladders: per strategy, then per control, one for each order.
        controls: (strategy, control) -> the name under which that control's ladders stand.
    """

    dataset: Dataset
    ladders: tuple[Ladder, ...]
    controls: Mapping[tuple[str, str], str]


def make_arms(study: StudyConfig, report: Reporter | None = None) -> list[Arm]:
    """Load the datasets and build the ladders of a study.

    Args:
        study: the study.
        report: shows the progress, if it is given: a dataset may take a while to be listed.

    Raises:
        SemscaleError: an unknown dataset or strategy, a ladder that cannot be made, two datasets of one name.
    """
    arms: list[Arm] = []
    with (report or Quiet()).stage("listing", len(study.datasets), "datasets") as advance:
        for config in study.datasets:
            how = config.model_dump(exclude={"spec"})
            how["limit"] = min((limit for limit in (config.limit, study.limit) if limit is not None), default=None)
            dataset = load_dataset(config.spec, **how)
            if any(arm.dataset.name == dataset.name for arm in arms):
                raise SemscaleError(
                    "two datasets of the study have the same name",
                    found=dataset.name,
                    hint="give one of them another name: in the study file",
                )
            arms.append(_make_arm(study, dataset))
            advance(len(arms), len(study.datasets))
    return arms


def _make_arm(study: StudyConfig, dataset: Dataset) -> Arm:
    made: dict[str, tuple[Ladder, ...]] = {
        entry.label: _ladders(study, dataset, entry, entry.strategy, entry.options, entry.label)
        for entry in study.strategies
    }
    controls: dict[tuple[str, str], str] = {}
    for control in study.controls:
        if control not in control_names():
            near = difflib.get_close_matches(control, control_names(), n=1)
            raise SemscaleError(
                "unknown control",
                where="controls",
                found=control,
                expected=", ".join(control_names()),
                hint=f"did you mean {near[0]!r}?" if near else None,
            )
        for entry in study.strategies:
            options = {"of": entry.strategy, "of_options": entry.options}
            label = control if control not in made else f"{control}-of-{entry.label}"
            ladders = _ladders(study, dataset, entry, control, options, label)
            # strategies with the same counts have the same control, which is then run once
            same = [name for name in dict.fromkeys(controls.values()) if _same_steps(ladders, made[name])]
            if not same:
                made[label] = ladders
            controls[entry.label, control] = same[0] if same else label
    return Arm(dataset, tuple(ladder for ladders in made.values() for ladder in ladders), controls)


def _ladders(
    study: StudyConfig, dataset: Dataset, entry: StrategyConfig, strategy: str, options: Mapping[str, Any], label: str
) -> tuple[Ladder, ...]:
    return build_ladders(
        LadderSpec(
            dataset.name,
            dataset.classes,
            dataset.domain,
            strategy,
            steps=study.steps,
            scales=study.scales,
            options=options,
            short=entry.short,
            shared=entry.shared,
            label=label,
        ),
        orders=study.orders,
    )


def _same_steps(ladders: tuple[Ladder, ...], others: tuple[Ladder, ...]) -> bool:
    return [ladder.steps for ladder in ladders] == [other.steps for other in others]


def write_ladders(arms: Sequence[Arm], directory: RunDirectory, report: Reporter) -> None:
    """Write the ladders of a study into its run directory, and show what was noted on its datasets and ladders."""
    for arm in arms:
        for ladder in arm.ladders:
            directory.write_ladder(ladder)
            for note in ladder.notes:
                report.note(f"{ladder.dataset} x {ladder.strategy}: {note}")
        for line in arm.dataset.notes:
            report.note(f"{arm.dataset.name}: {line}")
