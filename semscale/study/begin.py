"""Before the stages: where the run goes, its ladders, and the connection to Ray."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from semscale.config import StudyConfig
from semscale.encoding.folder import Folder
from semscale.meanwhile import importing
from semscale.study.arms import Arm
from semscale.study.cluster import check_shared, in_ray_job, ray_address, ray_cluster
from semscale.study.progress import Reporter
from semscale.study.rundir import RunDirectory

DEFAULT_RUNS = Path("semscale-runs")
HANDSHAKE = "semscale.encoding.handshake"
"""What is imported to ask servers who they are; jina comes with it."""


def default_runs() -> Path:
    """Return the folder of the run directories: ``semscale-runs`` in the working directory.

    A Ray job's working directory is a copy that goes with the job, so there it is the one in the home directory.
    """
    return Path.home() / DEFAULT_RUNS if in_ray_job() else DEFAULT_RUNS


def out_of(study: StudyConfig, out: str | Path | Folder | None = None, runs: str | None = None) -> Folder:
    """Return the run directory of a study; the same study always gets the same one, another study another.

    Args:
        study: the study.
        out: the run directory itself, if it is given.
        runs: the folder of the run directories; ``SEMSCALE_RUNS`` or :func:`default_runs` unless given.
    """
    if out is not None:
        return Folder.of(out)
    return Folder.of(runs or os.environ.get("SEMSCALE_RUNS") or default_runs()) / f"{study.name}-{study.digest()}"


def begin(
    study: StudyConfig,
    arms: Sequence[Arm],
    store: Folder,
    directory: RunDirectory,
    report: Reporter,
    stack: ExitStack,
    *,
    ray: bool = True,
    meanwhile: Sequence[str] = (),
) -> None:
    """Write the ladders and, if `ray`, connect to Ray for as long as the stack is open; the stages can follow.

    Args:
        study: the study.
        arms: its datasets with their ladders.
        store: root of the embedding store.
        directory: the run directory.
        report: shows the progress.
        stack: holds the connection.
        ray: whether Ray is needed.
        meanwhile: modules to import while Ray's processes start.

    Raises:
        SemscaleError: no Ray, or nodes that do not share the store.
    """
    for arm in arms:
        for ladder in arm.ladders:
            directory.write_ladder(ladder)
            for note in ladder.notes:
                report.note(f"{ladder.dataset} x {ladder.strategy}: {note}")
        for line in arm.dataset.notes:
            report.note(f"{arm.dataset.name}: {line}")
    if not ray:
        return
    with report.stage("connecting to Ray" if study.ray.address or ray_address() else "starting Ray"):
        with importing(*meanwhile):
            stack.enter_context(ray_cluster(study.ray.address))
        if not store.is_remote:
            check_shared(store.local)
