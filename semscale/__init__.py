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
    from semscale.api.conclude import compare, conclude, plot, steps, trials
    from semscale.api.encoder import Encoder
    from semscale.api.score import ladder, score, texts
    from semscale.api.sweep import sweep
    from semscale.datasets.registry import load_dataset
    from semscale.errors import SemscaleError

__version__ = "0.1.0"

__all__ = [
    "Encoder", "SemscaleError", "__version__", "compare", "conclude", "ladder", "load_dataset", "plot", "score",
    "steps", "sweep", "texts", "trials",
]  # fmt: skip

_MODULES = {
    "Encoder": "api.encoder", "SemscaleError": "errors", "load_dataset": "datasets.registry", "sweep": "api.sweep",
    **dict.fromkeys(("ladder", "score", "texts"), "api.score"),
    **dict.fromkeys(("compare", "conclude", "plot", "steps", "trials"), "api.conclude"),
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"semscale.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
