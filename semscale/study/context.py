"""Study context: a study with everything that its stages share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from semscale.config import StudyConfig
from semscale.encoding.folder import Folder
from semscale.study.arms import Arm
from semscale.study.progress import Reporter
from semscale.study.rundir import RunDirectory
from semscale.tracking.store import TrackingStore


@dataclass(frozen=True)
class StudyContext:
    """A study under way: its datasets with their ladders, the embedding store, where results go, and the progress."""

    study: StudyConfig
    arms: Sequence[Arm]
    store: Folder
    directory: RunDirectory
    report: Reporter
    tracking: TrackingStore
