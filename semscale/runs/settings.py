"""Settings of studies and their differences: models with their weights, datasets, category sets."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from semscale.redact import shown
from semscale.runs.finished import CurveAnswers, FinishedRun

# of the study file; where it runs (servers, stores, devices) changes no result
_KEYS = ("encoder", "aggregation", "steps", "scales", "orders", "controls", "limit", "max_bad_fraction", "margin")
_OF_MODEL = ("weights_sha256", "architecture", "dtype", "device")


def settings_of(run: FinishedRun, answers: Mapping[str, CurveAnswers]) -> dict[str, str]:
    """Return what a study ran with, by name, given the answers of one curve of each dataset."""
    study = run.study
    found = {"semscale": str(run.environment.get("semscale", "unknown")), "models": ", ".join(study.models)}
    models = run.environment.get("models", {})
    for name in study.models:
        known = models.get(name, {})
        beside = f" of {name}" if len(study.models) > 1 else ""
        for key in _OF_MODEL:
            if (value := known.get(key)) is not None:
                short = re.sub(r"^([0-9a-f]{12})[0-9a-f]{20,}$", r"\1", str(value))
                found[f"{key.removesuffix('_sha256')}{beside}"] = short
    found["strategies"] = ", ".join(_entry(entry.model_dump(exclude_defaults=True)) for entry in study.strategies)
    for entry in study.datasets:
        values = {key: value for key, value in entry.model_dump(exclude_defaults=True).items() if key != "spec"}
        found[f"dataset {shown(entry.title)}"] = shown(_entry({"spec": entry.spec, **values}))
    found |= {key: _plain(getattr(study, key)) for key in _KEYS}
    for name, one in answers.items():
        found[f"images of {name}"] = f"{len(one.images):,}, digest {one.digest}"
    return found


def compare_settings(settings: Sequence[Mapping[str, str]]) -> tuple[dict[str, list[str | None]], list[str]]:
    """Return name -> value of each run for what differs, and the names of what is the same in all."""
    names = list(dict.fromkeys(name for one in settings for name in one))
    values = {name: [one.get(name) for one in settings] for name in names}
    differs = {name: found for name, found in values.items() if len(set(found)) > 1}
    return differs, [name for name in names if name not in differs]


def same_sets(first: CurveAnswers, second: CurveAnswers, scale: int) -> bool:
    """Whether two curves offer the same categories at a scale that both have, in whatever order."""
    sets = [
        {name: sorted(texts) for name, texts in step.categories.items()}
        for answers in (first, second)
        for step in answers.ladder.steps
        if step.scale == scale
    ]
    return sets[0] == sets[1]


def _entry(values: Mapping[str, Any]) -> str:
    """Return an entry of a study file in one line: its name, and what else it says."""
    first, *rest = values.values()
    more = [f"{key}: {_plain(value)}" for key, value in zip(list(values)[1:], rest, strict=True)]
    return f"{first} ({', '.join(more)})" if more else str(first)


def _plain(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_plain, value)) or "none"
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {_plain(item)}" for key, item in value.items())
    return "none" if value is None else str(value)
