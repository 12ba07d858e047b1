"""Results as JSON documents, for `--json`."""

from __future__ import annotations

from typing import Any

from semscale.encoding.folder import Folder
from semscale.study.fill import Filled
from semscale.study.study import SweepResult


def result_document(result: SweepResult) -> dict[str, Any]:
    """Return what a sweep came to.

    `run` and `report` are places; `trials` a count; `curves` the rows of curves.parquet (accuracies and changes are
    shares); `images_sent`, `texts_sent` and `quarantined` counts of this occasion; `mlflow` the line that opens the
    runs.
    """
    return {
        "run": _place(result.folder),
        "report": _place(result.folder / "report.html"),
        "mlflow": result.ui_command,
        "trials": len(result.trials),
        "images_sent": result.images_sent,
        "texts_sent": result.texts_sent,
        "quarantined": result.quarantined,
        "curves": result.curves.to_dict("records"),
    }


def filled_document(filled: Filled) -> dict[str, Any]:
    """Return what filling the store came to: `run` and `store` are places, the others counts of this occasion."""
    return {
        "run": _place(filled.folder),
        "store": _place(filled.store),
        "images_sent": filled.images_sent,
        "texts_sent": filled.texts_sent,
        "quarantined": filled.quarantined,
    }


def _place(folder: Folder) -> str:
    """Return a place that is the same from every working directory."""
    return str(folder) if folder.is_remote else str(folder.local)
