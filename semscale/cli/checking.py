"""What ``semscale datasets check`` does: which datasets, with which texts on their sheets."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from semscale.categories.build import LadderSpec, Scales, build_ladder
from semscale.categories.ladder import Ladder
from semscale.config import StrategyConfig, StudyConfig, load_study
from semscale.datasets.base import Dataset
from semscale.datasets.check import Examination
from semscale.datasets.contact_sheet import draw_sheet, save_sheet
from semscale.datasets.registry import schemes
from semscale.errors import SemscaleError


@dataclass(frozen=True)
class Plan:
    """What is to be checked, and how.

    Attributes:
        entries: per dataset what :func:`semscale.datasets.registry.load_dataset` takes.
        max_bad_fraction: the share of images that may be unusable.
        strategy: whose texts stand on the sheet.
        steps: how many scale steps of it.
        scales: their scales, as in a study.
        sheet: where a contact sheet goes; with several datasets the name of each is added.
        per_class: images of a class on it.
        seed: which ones.
    """

    entries: list[dict[str, Any]]
    max_bad_fraction: float
    strategy: StrategyConfig
    steps: int
    scales: Scales
    sheet: Path | None
    per_class: int
    seed: int

    def sheet_path(self, dataset: Dataset) -> Path | None:
        """Return where the sheet of a dataset goes."""
        if self.sheet is None or len(self.entries) == 1:
            return self.sheet
        return self.sheet.with_name(f"{self.sheet.stem}-{dataset.name}{self.sheet.suffix}")

    def ladder(self, dataset: Dataset) -> Ladder | None:
        """Return the texts for the sheet; None when there is none to be drawn.

        Raises:
            SemscaleError: unknown strategy, or it has fewer steps.
        """
        if self.sheet is None:
            return None
        return build_ladder(
            LadderSpec(
                dataset.name,
                dataset.classes,
                dataset.domain,
                self.strategy.strategy,
                steps=self.steps,
                scales=self.scales,
                options=self.strategy.options,
                short=self.strategy.short,
                shared=self.strategy.shared,
                label=self.strategy.label,
            )
        )


def plan_check(spec: str, entry: Mapping[str, Any], options: Mapping[str, Any]) -> Plan:
    """Return the plan for a spec or a study file.

    Args:
        spec: what the user wants checked.
        entry: the options that say how a dataset is read.
        options: all others.

    Raises:
        SemscaleError: the study file cannot be read, options of a dataset are given beside it, or there is no place
            for a file that is to be written.
    """
    for file in (options["sheet"], options["quarantine"]):
        if file is not None:
            _check_place(file)
    is_study = spec.endswith((".yaml", ".yml")) and spec.partition(":")[0] not in schemes()
    study = load_study(spec) if is_study else StudyConfig()
    seed = options["seed"] or 0
    if is_study:
        if entry:
            raise SemscaleError(
                "options of a dataset do not go with a study file",
                where=", ".join(f"--{name.replace('_', '-')}" for name in entry),
                expected="in a study file they stand beside spec:",
            )
        entries = [dataset.model_dump() for dataset in study.datasets]
    else:
        entries = [{"spec": spec, **entry, "seed": seed}]
    for one in entries:
        limits = (one.get("limit"), study.limit, options["limit"])
        one["limit"] = min((limit for limit in limits if limit is not None), default=None)
    fraction = options["max_bad_fraction"]
    strategy = StrategyConfig(strategy=options["strategy"] or "templates", short="stay")
    return Plan(
        entries,
        study.max_bad_fraction if fraction is None else fraction,
        study.strategies[0] if is_study and options["strategy"] is None else strategy,
        options["steps"] or study.steps,
        study.scales if is_study else "linear",
        options["sheet"],
        options["per_class_on_sheet"],
        seed,
    )


def _check_place(file: Path) -> None:
    """Find out before all images are read, not afterwards."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SemscaleError("the folder cannot be made", where=str(file.parent), found=str(error)) from error
    if not os.access(file.parent, os.W_OK):
        raise SemscaleError("the folder cannot be written", where=str(file.parent))


def draw(found: Examination, ladder: Ladder, plan: Plan, path: Path, progress: Callable[[int, int], None]) -> None:
    """Draw and write the contact sheet of a dataset."""
    dataset, last = found.dataset, ladder.steps[-1]
    about = (
        f"{len(found.positions):,} images of {len(dataset.classes):,} classes, domain {dataset.domain}; "
        f"{last.n_categories:,} categories of {ladder.strategy}"
    )
    drawn = draw_sheet(dataset, found.positions, last.categories, about=about, per_class=plan.per_class, seed=plan.seed)
    save_sheet(drawn, path)


def write_quarantine(path: Path, rows: Iterable[tuple[str, str, str]]) -> None:
    """Write what cannot be used: dataset, file, reason.

    Raises:
        SemscaleError: the file cannot be written.
    """
    try:
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("dataset", "file", "reason"), *rows])
    except OSError as error:
        raise SemscaleError("the quarantine cannot be written", where=str(path), found=str(error)) from error
