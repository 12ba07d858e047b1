"""Python entry point of studies."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from semscale.common.environment import bypass_proxies_for_loopback
from semscale.common.progress import SilentReporter, choose_reporter, open_console
from semscale.config import load_study
from semscale.store.mirrored_directory import MirroredDirectory
from semscale.study.arms import make_arms
from semscale.study.reference_check import check_references

if TYPE_CHECKING:
    from semscale.study.pipeline import SweepResult


def sweep(
    study: str | Path | Mapping[str, Any] | None = None,
    *,
    out: str | Path | None = None,
    progress: bool = True,
    **keys: Any,
) -> SweepResult:
    """Run a study from images to conclusions, as ``semscale sweep`` does.

    Args:
        study: a study file, or its content; default: the quickstart study.
        out: the run directory; default: one that is determined by the study.
        progress: show progress.
        keys: keys that override those of the study: ``datasets=["digits"]``, ``steps=4``, ``encoder="local"``, ...

    Returns:
        The run: ``trials``, ``curves`` and ``conclusions`` are tables, ``directory`` contains the files.

    Raises:
        SemscaleError: any error that the user can fix.
    """
    bypass_proxies_for_loopback()
    changes = {**study, **keys} if isinstance(study, Mapping) else keys
    path = None if isinstance(study, Mapping) else study
    if path is None and "datasets" in changes:
        changes = {"name": "study", **changes}  # no longer the quickstart
    config = load_study(path, {(key,): (key, value) for key, value in changes.items()}, check=check_references)
    report = choose_reporter(open_console()) if progress else SilentReporter()
    arms = make_arms(config, report)  # refuses an impossible study before the engines are imported
    from semscale.study.pipeline import sweep as run

    return run(config, None if out is None else MirroredDirectory.of(out), report, arms)
