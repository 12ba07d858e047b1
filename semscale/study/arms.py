"""Arms of a study: each dataset with all its ladders, controls included, built before anything is encoded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from semscale.categories.ladder import Ladder
from semscale.categories.ladder_builder import LadderSpec, build_ladders
from semscale.common.errors import SemscaleError
from semscale.common.progress import ProgressReporter, SilentReporter
from semscale.common.text import slug
from semscale.config import DatasetConfig, StrategyConfig, StudyConfig
from semscale.datasets.dataset import Dataset
from semscale.datasets.loader_registry import load_dataset
from semscale.study.run_directory import RunDirectory

Ladders = tuple[Ladder, ...]


@dataclass(frozen=True)
class Arm:
    """A dataset with the ladders of all strategies, then of all controls, one per order.

    `controls` maps (strategy, control) to the name of that control's ladders.
    """

    dataset: Dataset
    ladders: Ladders
    controls: Mapping[tuple[str, str], str]


def make_arms(study: StudyConfig, report: ProgressReporter | None = None) -> list[Arm]:
    """Load the datasets of a study and build their ladders."""
    arms: list[Arm] = []
    with (report or SilentReporter()).stage("listing", len(study.datasets), "datasets") as advance:
        for config in study.datasets:
            dataset = load_study_dataset(study, config)
            if any(arm.dataset.name == dataset.name for arm in arms):
                hint = "give one of them another name: in the study file"
                raise SemscaleError("two datasets of the study have the same name", found=dataset.name, hint=hint)
            arms.append(_make_arm(study, dataset))
            advance(len(arms), len(study.datasets))
    return arms


def load_study_dataset(study: StudyConfig, config: DatasetConfig) -> Dataset:
    """Return a dataset of a study, listed and cut to the smaller limit."""
    options = config.model_dump(exclude={"spec"})
    options["limit"] = min((limit for limit in (config.limit, study.limit) if limit is not None), default=None)
    return load_dataset(config.spec, **options)


def _make_arm(study: StudyConfig, dataset: Dataset) -> Arm:
    def build(entry: StrategyConfig, strategy: str, options: Mapping[str, Any], label: str) -> Ladders:
        spec = LadderSpec(
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
        )
        return build_ladders(spec, orders=study.orders)

    built = {entry.label: build(entry, entry.strategy, entry.options, entry.label) for entry in study.strategies}
    controls: dict[tuple[str, str], str] = {}
    for control in study.controls:
        for entry in study.strategies:
            label = control if control not in built else f"{control}-of-{entry.label}"
            if label in built:
                what = "a strategy has the name of another one's control"
                raise SemscaleError(what, where=f"strategy {label}", hint="give it another name: in the study file")
            ladders = build(entry, control, {"of": entry.strategy, "of_options": entry.options}, label)
            # strategies with equal counts have equal controls, which are run once
            equal = next((name for name in controls.values() if _steps(built[name]) == _steps(ladders)), None)
            if equal is None:
                built[label] = ladders
            controls[entry.label, control] = equal or label
    return Arm(dataset, tuple(ladder for ladders in built.values() for ladder in ladders), controls)


def _steps(ladders: Ladders) -> list[Any]:
    return [ladder.steps for ladder in ladders]


def write_ladders(arms: Sequence[Arm], directory: RunDirectory, report: ProgressReporter) -> None:
    """Write the ladders of a study to its run directory and report the notes on its datasets and ladders."""
    for arm in arms:
        for ladder in arm.ladders:
            name = slug(ladder.dataset, ladder.strategy, ladder.order)
            directory.write(f"ladders/{name}.json", ladder.to_bytes())
            for note in ladder.notes:
                report.note(f"{ladder.dataset} x {ladder.strategy}: {note}")
        for note in arm.dataset.notes:
            report.note(f"{arm.dataset.name}: {note}")
