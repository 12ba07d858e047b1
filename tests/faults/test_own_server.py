"""The sweep's own clip-server is killed as a whole amid encoding: started again, and the files are as without it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest

from semscale.config import study_from
from semscale.encoding.store import EmbeddingStore
from semscale.study.progress import Quiet
from semscale.study.study import sweep

IMAGES = 1200


def servers() -> set[int]:
    """Process ids of the clip-servers that this process has started."""
    return {child.pid for child in psutil.Process().children() if "semscale.serving" in child.cmdline()}


class KillsTheServer(Quiet):
    """Kills every process of a server that was not there before, once, amid the encoding."""

    def __init__(self) -> None:
        self._before = servers()
        self.lines: list[str] = []
        self.kept: int | None = None

    @contextmanager
    def stage(self, title: str, total: int | None = None, unit: str = "") -> Iterator[Any]:
        def advance(done: int, total: int | None) -> None:
            if title == "encoding shapes" and self.kept is None and 0 < done < IMAGES:
                self.kept = done
                (own,) = servers() - self._before
                os.killpg(own, signal.SIGKILL)

        yield advance

    def note(self, text: str) -> None:
        self.lines.append(text)


@pytest.mark.faults
def test_the_sweep_starts_its_own_server_again(mini_server: str, ray_session: None, tmp_path: Path) -> None:
    tree = {"datasets": ["shapes"], "strategies": ["templates"], "controls": [], "steps": 3}
    encoding = {"batch_size": 16}
    alone = tmp_path / "alone"
    known = {**tree, "store": str(tmp_path / "store-alone"), "server": {"urls": [mini_server]}, "encoding": encoding}
    undisturbed = sweep(study_from(known), alone / "run", Quiet())
    report = KillsTheServer()
    store = tmp_path / "store-own"
    own = {**tree, "store": str(store), "server": {"replicas": 1, "patience": 120}, "encoding": encoding}
    result = sweep(study_from(own), tmp_path / "own" / "run", report)
    assert report.kept is not None
    assert any(line.startswith("the clip-server has ended; starting it again (1 of") for line in report.lines)
    for name in ("trials", "curves"):
        ours, theirs = (getattr(one, name) for one in (result, undisturbed))
        loose = [column for column in ours.columns if "run_id" in column]
        pd.testing.assert_frame_equal(ours.drop(columns=loose), theirs.drop(columns=loose), check_exact=True)
    (path,) = (alone / "run" / "predictions").iterdir()
    assert (tmp_path / "own" / "run" / "predictions" / path.name).read_bytes() == path.read_bytes()
    (folder,) = store.glob("*/image")
    assert len(EmbeddingStore(folder)) == IMAGES
    # what was on its way when the server went is sent again, and nothing that had come back
    assert IMAGES <= result.images_sent <= 2 * IMAGES - report.kept
    assert len(servers() - report._before) == 0
