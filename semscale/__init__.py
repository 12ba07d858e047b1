"""Measures what happens to a CLIP model's labelling accuracy when every class gets more category texts.

From Python the four stages are::

    import semscale

    digits = semscale.load_dataset("digits", per_class=40)
    ladder = semscale.ladder(digits, "templates", steps=8)
    predictions = semscale.score(digits, ladder, semscale.Encoder("semscale-mini"))
    semscale.conclude(predictions)
    semscale.plot(predictions)

and ``semscale.sweep("study.yaml")`` does what the command does. Nothing is imported before it is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from semscale.api.conclusions import compare, conclude, plot, steps, trials
    from semscale.api.embeddings import Encoder
    from semscale.api.predictions import ladder, score, texts
    from semscale.api.sweep import sweep
    from semscale.common.errors import (
        CategoryError,
        ClusterError,
        ConfigError,
        DatasetError,
        ModelError,
        SemscaleError,
        ServerError,
        StoreError,
        TrackingError,
    )
    from semscale.datasets.loader_registry import load_dataset

__version__ = "0.1.0"

__all__ = [
    "CategoryError", "ClusterError", "ConfigError", "DatasetError", "Encoder", "ModelError", "SemscaleError",
    "ServerError", "StoreError", "TrackingError", "__version__", "compare", "conclude", "ladder", "load_dataset",
    "plot", "score", "steps", "sweep", "texts", "trials",
]  # fmt: skip

_MODULES = {
    "Encoder": "api.embeddings", "load_dataset": "datasets.loader_registry", "sweep": "api.sweep",
    **dict.fromkeys((name for name in __all__ if name.endswith("Error")), "common.errors"),
    **dict.fromkeys(("ladder", "score", "texts"), "api.predictions"),
    **dict.fromkeys(("compare", "conclude", "plot", "steps", "trials"), "api.conclusions"),
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"semscale.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
