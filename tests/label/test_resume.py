"""A labelling that is killed goes on behind what is on the disk, and ends with the same bytes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from killed import CATEGORIES

from semscale.datasets.registry import load_dataset
from semscale.errors import SemscaleError
from semscale.label.journal import RESULTS, Journal, Mark
from semscale.label.request import Request
from semscale.label.resume import link, resume
from semscale.label.run import Labelled, label
from semscale.scoring.tally import RunningStatistics
from semscale.study.progress import Quiet

WINDOW = 20
FILES = ("quarantine.csv", "results.csv", "stats.csv")
HEADERS = {"results.csv": ("file", "label"), "quarantine.csv": ("file", "reason")}
TEXTS = np.eye(len(CATEGORIES), dtype=np.float32)


class Notes(Quiet):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    dataset = load_dataset("shapes", limit=100)
    for i, sample in enumerate(dataset.samples):
        content = dataset.reader.read(sample.place)
        (folder / f"{i:03d}.png").write_bytes(b"no picture" if i % 30 == 7 else content)
    return folder


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    words = ["star", "a heart", "a large ring", "circle", "the cross"]
    lines = [f"{words[i % 5]} number {i}" if i % 30 != 7 else "" for i in range(100)]
    (tmp_path / "texts.txt").write_text("\n".join(lines))
    return tmp_path / "texts.txt"


def start(given: Path, out: Path, server: str, store: Path) -> subprocess.Popen[str]:
    script = Path(__file__).with_name("killed.py")
    arguments = [str(given), str(out), server, str(store), str(WINDOW)]
    environment = {**os.environ, "PYTHONPATH": str(script.parents[2])}
    return subprocess.Popen(
        [sys.executable, str(script), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )


def kill_when(process: subprocess.Popen[str], stop: Callable[[str], bool]) -> list[str]:
    """Let the process go on step by step until a line fits, and end it with SIGKILL while it waits there."""
    assert process.stdin is not None
    assert process.stdout is not None
    lines = []
    try:
        for line in process.stdout:
            lines.append(line.strip())
            if stop(line):
                process.send_signal(signal.SIGKILL)
                break
            if not line.startswith("note"):
                process.stdin.write("\n")
                process.stdin.flush()
    finally:
        process.kill()
        process.stdout.close()
        process.wait()
    assert process.returncode == -signal.SIGKILL
    return lines


def finish(given: Path, out: Path, server: str, store: Path, report: Notes | None = None) -> Labelled:
    request = Request(str(given), CATEGORIES, "semscale-mini")
    return label(request, out, report or Notes(), store, [server], stats=True, window=WINDOW)


def contents(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(out.iterdir())}


@pytest.mark.parametrize("kind", ["photos", "texts"])
@pytest.mark.usefixtures("ray_session")
def test_a_killed_process_costs_nothing_and_changes_nothing(
    kind: str, mini_server: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    given: Path = request.getfixturevalue(kind)
    out, store = tmp_path / "out", tmp_path / "killed"
    whole = finish(given, tmp_path / "whole", mini_server, tmp_path / "undisturbed")
    # behind the second window, amid the third: 40 are written, 60 are encoded
    process = start(given, out, mini_server, store)
    first = kill_when(process, lambda line: line.startswith("labelling") and int(line.rpartition(" ")[2]) >= 60)
    assert not [line for line in first if line.startswith("note")]
    assert set(contents(out)) == {"quarantine.csv.partial", "results.csv.partial", "results.csv.state"}
    # what a kill between the rows and the state leaves behind
    with (out / "results.csv.partial").open("ab") as file:
        file.write(b"060.png,ci")
    # what is done is neither listed otherwise nor read again: were it read, it would be bad now
    if kind == "photos":
        before = (given / "000.png").stat()
        (given / "000.png").write_bytes(b"x" * before.st_size)
        os.utime(given / "000.png", ns=(before.st_atime_ns, before.st_mtime_ns))
    notes = Notes()
    result = finish(given, out, mini_server, store, notes)
    assert notes.lines == [f"going on after 40 {whole.kind}s of an earlier run"]
    assert (result.n_before, result.n_labelled, result.n_bad) == (40, whole.n_labelled, whole.n_bad) == (40, 96, 4)
    # the third window was encoded before the kill, or in part
    assert result.sent <= 58
    assert contents(out) == contents(tmp_path / "whole")
    assert set(contents(out)) == set(FILES)


@pytest.fixture
def begun(photos: Path, tmp_path: Path) -> Path:
    """The folder of a labelling of which 40 images are written."""
    request = Request(str(photos), CATEGORIES, "semscale-mini")
    listing = request.open()
    with Journal(tmp_path / "out", HEADERS) as journal:
        _, mark = resume(request, listing, "encoder", journal, RunningStatistics(TEXTS), Quiet())
        items = list(islice(listing.items, 40))
        statistics = RunningStatistics(TEXTS)
        statistics.add(TEXTS[[0] * 40], np.zeros(40, np.int32))
        rows = {RESULTS: [(item.name, "circle") for item in items]}
        journal.append(rows, Mark(mark.purpose, 40, link("", items), 0, statistics.arrays()))
    return tmp_path / "out"


def go_on(photos: Path, out: Path, encoder: str = "encoder", **changed: Any) -> tuple[int, int, list[str], int]:
    """Return how many items are behind and left, what was said, and how many rows there are."""
    request = Request(**{"given": str(photos), "categories": CATEGORIES, "model": "semscale-mini", **changed})
    notes, statistics = Notes(), RunningStatistics(TEXTS)
    with Journal(out, HEADERS) as journal:
        listing, mark = resume(request, request.open(), encoder, journal, statistics, notes)
        assert len(statistics) == mark.done
        return mark.done, len(list(listing.items)), notes.lines, len((out / "results.csv.partial").open().readlines())


def test_the_same_again_goes_on(begun: Path, photos: Path) -> None:
    with (begun / "results.csv.partial").open("a") as file:
        file.write("half a li")
    (photos / "zzz.png").touch()  # added behind what is done
    assert go_on(photos, begun) == (40, 61, ["going on after 40 images of an earlier run"], 41)


def renamed(photos: Path, out: Path) -> None:
    (photos / "003.png").rename(photos / "003a.png")


def replaced(photos: Path, out: Path) -> None:
    (photos / "003.png").write_bytes((photos / "004.png").read_bytes())


def removed(photos: Path, out: Path) -> None:
    for path in sorted(photos.iterdir())[30:]:
        path.unlink()


def cut_off(photos: Path, out: Path) -> None:
    os.truncate(out / "results.csv.partial", 50)


def damaged(photos: Path, out: Path) -> None:
    os.truncate(out / "results.csv.state", 500)


@pytest.mark.parametrize(
    ("change", "left", "said"),
    [
        (renamed, 100, "the input is another than in an earlier run"),
        (replaced, 100, "the input is another than in an earlier run"),
        (removed, 30, "the input is another than in an earlier run"),
        (cut_off, 100, "results.csv.partial of an earlier run is cut off"),
        (damaged, 100, "the state of an earlier run cannot be read"),
    ],
)
def test_what_has_changed_starts_anew(
    change: Callable[[Path, Path], None], left: int, said: str, begun: Path, photos: Path
) -> None:
    change(photos, begun)
    assert go_on(photos, begun) == (0, left, [f"starting anew: {said}"], 1)
    # and what was there is not found again
    assert go_on(photos, begun) == (0, left, [], 1)


@pytest.mark.parametrize("changed", [{"categories": CATEGORIES[::-1]}, {"encoder": "another"}, {"limit": 100}])
def test_another_request_starts_anew(changed: dict[str, Any], begun: Path, photos: Path) -> None:
    said = "starting anew: the input, the categories or the model are others than in an earlier run"
    assert go_on(photos, begun, **changed) == (0, 100, [said], 1)


def test_two_at_once_into_one_folder_are_refused(tmp_path: Path) -> None:
    headers = {RESULTS: ("file", "label")}
    with Journal(tmp_path, headers), pytest.raises(SemscaleError, match="another process is labelling"):
        Journal(tmp_path, headers)


def test_a_folder_that_cannot_be_written_is_a_user_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SemscaleError, match="cannot be written"):
        Journal(tmp_path / "file" / "out", {RESULTS: ("file", "label")})
