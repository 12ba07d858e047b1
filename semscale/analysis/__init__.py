"""Intervals, paired comparisons, and what curves say, alone, against a control and over several datasets."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from semscale.analysis.across import RandomEffects, random_effects, summarise_datasets
    from semscale.analysis.additions import addition_effects
    from semscale.analysis.control import Comparison, compare_with_control
    from semscale.analysis.critical import MARGIN
    from semscale.analysis.curve import CurveSummary, conclude
    from semscale.analysis.intervals import wilson_interval
    from semscale.analysis.paired import change_interval, holm, mcnemar_p
    from semscale.analysis.trend import Trend

__all__ = [
    "MARGIN",
    "Comparison",
    "CurveSummary",
    "RandomEffects",
    "Trend",
    "addition_effects",
    "change_interval",
    "compare_with_control",
    "conclude",
    "holm",
    "mcnemar_p",
    "random_effects",
    "summarise_datasets",
    "wilson_interval",
]

_MODULES = {
    "Comparison": "control",
    "CurveSummary": "curve",
    "MARGIN": "critical",
    "RandomEffects": "across",
    "Trend": "trend",
    "addition_effects": "additions",
    "change_interval": "paired",
    "compare_with_control": "control",
    "conclude": "curve",
    "holm": "paired",
    "mcnemar_p": "paired",
    "random_effects": "across",
    "summarise_datasets": "across",
    "wilson_interval": "intervals",
}


def __getattr__(name: str) -> Any:
    # a worker that needs one of them does not wait for pandas and scipy, which only some of the others need
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
