"""A killed labelling: a rerun sends nothing again and writes the same bytes; a partial file never looks complete."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from killed import CATEGORIES

from semscale.common.progress import SilentReporter
from semscale.datasets.loader_registry import load_dataset
from semscale.label.labelling import LabelResult, label
from semscale.label.listing import LabelRequest
from semscale.store.mirrored_directory import MirroredDirectory

WINDOW = 20
FILES = {"quarantine.csv", "results.csv", "stats.csv"}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    dataset = load_dataset("shapes", limit=100)
    for i, sample in enumerate(dataset.samples):
        content = dataset.reader.read(sample.location)
        (folder / f"{i:03d}.png").write_bytes(b"no picture" if i % 30 == 7 else content)
    return folder


def kill_at(items: int, given: Path, out: Path, store: Path) -> None:
    """Start a labelling, step it until `items` are encoded, and end it with SIGKILL."""
    script = Path(__file__).with_name("killed.py")
    process = subprocess.Popen(
        [sys.executable, str(script), str(given), str(out), str(store), str(WINDOW)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if line.startswith("labelling") and int(line.rpartition(" ")[2]) >= items:
                break
            process.stdin.write("\n")
            process.stdin.flush()
    finally:
        process.send_signal(signal.SIGKILL)
        process.stdout.close()
        process.wait()


def finish(given: Path, out: Path, store: Path) -> LabelResult:
    request = LabelRequest(str(given), CATEGORIES, "semscale-mini", encoder="local")
    return label(request, out, SilentReporter(), MirroredDirectory.of(store), stats=True, window=WINDOW)


def contents(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(out.iterdir())}


@pytest.mark.faults
def test_a_run_after_a_kill_sends_nothing_again(photos: Path, tmp_path: Path) -> None:
    out, store = tmp_path / "out", tmp_path / "killed"
    whole = finish(photos, tmp_path / "whole", tmp_path / "undisturbed")
    assert (whole.n_labelled, whole.n_bad, whole.sent) == (96, 4, 96)
    # after the second window, within the third: 38 usable items of two windows are stored, and up to 19 of the third
    kill_at(60, photos, out, store)
    assert contents(out)
    assert all(name.endswith(".partial") for name in contents(out))
    result = finish(photos, out, store)
    assert result.sent <= 58
    assert (result.n_labelled, result.n_bad) == (96, 4)
    assert {name: contents(out)[name] for name in FILES} == contents(tmp_path / "whole")
    assert finish(photos, out, store).sent == 0
