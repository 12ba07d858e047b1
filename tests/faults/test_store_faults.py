"""What can befall the embedding store: damage at any time, dead writers, other sweeps, and a disk that is full."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from semscale.common.errors import SemscaleError
from semscale.common.progress import LineReporter, SilentReporter
from semscale.common.text import counted
from semscale.config import StudyConfig, study_from
from semscale.store.embedding_store import EmbeddingStore, LostRowsError
from semscale.store.segment import LEFTOVER_S, read_keys, write_segment
from semscale.study.pipeline import SweepResult, sweep

LIMIT, STEPS = 60, 2


def rows(n: int, seed: int = 0, d: int = 16) -> np.ndarray:
    values = np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def keys(n: int, prefix: str = "k") -> list[bytes]:
    return [hashlib.sha256(f"{prefix}{i}".encode()).digest() for i in range(n)]


def flip(path: Path, byte: int, bit: int = 2) -> None:
    content = bytearray(path.read_bytes())
    content[byte] ^= 1 << bit
    path.write_bytes(bytes(content))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own of 8 MB."""
    place = tmp_path / "small"
    place.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(place)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {done.stderr.strip()}")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def fill(disk: Path, left: int) -> Path:
    filler = disk / "filler"
    room = os.statvfs(disk)
    filler.write_bytes(bytes(room.f_bavail * room.f_frsize - left))
    return filler


# --- a segment on its own --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [pytest.param((0, 5), id="two of each byte"),
                                  pytest.param(range(8), id="every bit", marks=pytest.mark.faults)])  # fmt: skip
def test_no_flipped_bit_ever_changes_a_row(bits: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("ERROR")
    path = write_segment(tmp_path, keys(5), rows(5, d=4))
    good = path.read_bytes()
    aside = 0
    for byte in range(len(good)):
        for bit in bits:
            path.write_bytes(good)
            flip(path, byte, bit)
            store = EmbeddingStore(tmp_path)
            if len(store):
                assert np.array_equal(store.read(keys(5)), rows(5, d=4)), (byte, bit)
            else:
                aside += 1
                assert not path.exists()
    assert aside > len(good) * len(bits) / 2


def test_no_truncated_segment_is_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("ERROR")
    path = write_segment(tmp_path, keys(5), rows(5, d=4))
    good = path.read_bytes()
    for length in range(len(good)):
        path.write_bytes(good[:length])
        assert len(EmbeddingStore(tmp_path)) == 0
        assert not path.exists()


def test_damage_after_opening_is_noticed_at_reading_and_only_those_rows_are_lost(tmp_path: Path) -> None:
    first = write_segment(tmp_path, keys(40, "a"), rows(40, 1))
    write_segment(tmp_path, keys(30, "b"), rows(30, 2))
    store = EmbeddingStore(tmp_path)
    flip(first, first.stat().st_size // 2)
    with pytest.raises(LostRowsError, match="set aside") as caught:
        store.read([*keys(40, "a")[:7], *keys(30, "b")])
    assert caught.value.n == 7
    assert first.with_suffix(".damaged").exists()
    assert np.array_equal(store.read(keys(30, "b")), rows(30, 2))
    write_segment(tmp_path, keys(40, "a"), rows(40, 1))
    store.refresh()
    assert np.array_equal(store.read(keys(40, "a")), rows(40, 1))


def test_a_segment_that_another_sweep_set_aside_and_wrote_again_is_found(tmp_path: Path) -> None:
    first = write_segment(tmp_path, keys(40), rows(40))
    reader, other = EmbeddingStore(tmp_path), EmbeddingStore(tmp_path)
    flip(first, first.stat().st_size // 2)
    with pytest.raises(LostRowsError):
        other.read(keys(1))
    write_segment(tmp_path, keys(40), rows(40))
    assert np.array_equal(reader.read(keys(40)), rows(40))


def test_the_same_rows_in_two_segments_survive_the_loss_of_one(tmp_path: Path) -> None:
    paths = [write_segment(tmp_path, keys(9), rows(9)) for _ in range(2)]
    for path in paths:
        store = EmbeddingStore(tmp_path)
        if store._segments[0] == path:
            flip(path, path.stat().st_size // 2)
            break
    assert np.array_equal(store.read(keys(9)), rows(9))
    assert len(list(tmp_path.glob("*.damaged"))) == 1


def test_a_lost_row_keeps_its_words_on_the_way_between_processes(tmp_path: Path) -> None:
    import pickle

    error = pickle.loads(pickle.dumps(LostRowsError(tmp_path, 3)))
    assert isinstance(error, LostRowsError)
    assert (error.folder, error.n) == (tmp_path, 3)


def test_leftovers_of_dead_writers_go_and_those_of_living_ones_stay(tmp_path: Path) -> None:
    folder = tmp_path / "encoder" / "image"
    folder.mkdir(parents=True)
    old = [folder / "a.partial", folder.parent / "encoder.77.partial"]
    young = [folder / "b.partial", folder.parent / "encoder.78.partial"]
    for path in [*old, *young]:
        path.write_bytes(b"half")
    for path in old:
        then = path.stat().st_mtime - LEFTOVER_S - 60
        os.utime(path, (then, then))
    EmbeddingStore(folder)
    assert [path.exists() for path in old] == [False, False]
    assert [path.exists() for path in young] == [True, True]


def test_segments_of_the_first_version_are_read(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    path = write_segment(tmp_path, keys(5), rows(5))
    table = pq.read_table(path).replace_schema_metadata(None)
    pq.write_table(table, path, compression="NONE", use_dictionary=False, write_page_checksum=True)
    assert np.array_equal(EmbeddingStore(tmp_path).read(keys(5)), rows(5))


def test_a_store_that_can_only_be_read_is_read_past_its_damage(small_disk: Path) -> None:
    folder = small_disk / "store"
    first = write_segment(folder, keys(40, "a"), rows(40, 1))
    write_segment(folder, keys(30, "b"), rows(30, 2))
    flip(first, first.stat().st_size // 2)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    store = EmbeddingStore(folder)
    assert np.array_equal(store.read(keys(30, "b")), rows(30, 2))
    assert len(store) == 30
    with pytest.raises(SemscaleError, match="cannot be written") as caught:
        write_segment(folder, keys(1), rows(1))
    assert "Read-only file system" in str(caught.value)


# --- whole sweeps ----------------------------------------------------------------------------------------------------


def make_study(url: str, store: Path, **changes: Any) -> StudyConfig:
    tree = {"datasets": ["digits"], "strategies": ["templates"], "controls": ["random-words"], "steps": STEPS}
    return study_from({**tree, "limit": LIMIT, "server": {"urls": [url]}, "store": str(store), **changes})


def files_of(run: Path) -> dict[str, bytes]:
    found = [*run.glob("predictions/*"), *run.glob("ladders/*"), *run.glob("quarantine.csv")]
    files = {str(path.relative_to(run)): path.read_bytes() for path in found}
    for name in ("trials.parquet", "curves.parquet", "steps.parquet", "controls.parquet"):
        table = pd.read_parquet(run / name)
        files[name] = table.drop(columns="mlflow_run_id", errors="ignore").to_csv(index=False).encode()
    return files


@pytest.fixture(scope="module")
def undisturbed(mini_server: str, ray_session: None, tmp_path_factory: pytest.TempPathFactory) -> SweepResult:
    place = tmp_path_factory.mktemp("undisturbed")
    return sweep(make_study(mini_server, place / "store"), place / "runs" / "run", SilentReporter())


def test_damage_between_encoding_and_scoring_is_mended_within_the_sweep(
    mini_server: str, undisturbed: SweepResult, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from rich.console import Console

    class Meddler(LineReporter):
        """Flips a bit of an image segment when the categories are about to be encoded: after images, before scoring."""

        lost = 0

        def stage(self, title: str, total: int | None = None, unit: str = "") -> Any:
            if title == "encoding categories" and not self.lost:
                segment = max((tmp_path / "store").glob("*/image/*.parquet"))
                self.lost = len(read_keys(segment))
                flip(segment, segment.stat().st_size // 2)
            return super().stage(title, total, unit)

    meddler = Meddler(Console(width=200))
    result = sweep(make_study(mini_server, tmp_path / "store"), tmp_path / "runs" / "run", meddler)
    assert files_of(result.directory) == files_of(undisturbed.directory)
    assert result.images_sent == LIMIT + meddler.lost
    assert result.texts_sent == undisturbed.texts_sent
    assert f"{counted(meddler.lost, 'rows of the store are')} damaged" in capsys.readouterr().out


@pytest.mark.faults
def test_a_full_store_stops_clearly_and_the_same_command_completes(
    mini_server: str, undisturbed: SweepResult, small_disk: Path, tmp_path: Path
) -> None:
    store = small_disk / "store"
    study = make_study(mini_server, store, encoding={"batch_size": 16, "actors": 1})
    filler = fill(small_disk, left=48_000)
    with pytest.raises(SemscaleError) as caught:
        sweep(study, tmp_path / "runs" / "run", SilentReporter())
    message = str(caught.value)
    assert "the embedding store cannot be written: the disk is full" in message
    assert str(store) in message
    assert "MB free" in message
    assert "free some space" in message
    assert not list(store.rglob("*.partial"))
    stored = sum(len(read_keys(path)) for path in store.glob("*/image/*.parquet"))
    assert 0 < stored < LIMIT
    filler.unlink()
    result = sweep(study, tmp_path / "runs" / "run", SilentReporter())
    assert result.images_sent == LIMIT - stored
    assert files_of(result.directory) == files_of(undisturbed.directory)


@pytest.mark.faults
def test_a_full_run_directory_stops_clearly_and_the_same_command_completes(
    mini_server: str, undisturbed: SweepResult, small_disk: Path, tmp_path: Path
) -> None:
    study = make_study(mini_server, tmp_path / "store", tracking={"uri": f"sqlite:///{tmp_path}/mlflow.db"})
    filler = fill(small_disk, left=12_288)
    with pytest.raises(SemscaleError, match="the run directory cannot be written: the disk is full"):
        sweep(study, small_disk / "run", SilentReporter())
    filler.unlink()
    result = sweep(study, small_disk / "run", SilentReporter())
    assert files_of(result.directory) == files_of(undisturbed.directory)
    assert not list(small_disk.rglob("*.partial"))


@pytest.mark.faults
def test_a_read_only_store_and_run_directory_stop_clearly(
    mini_server: str, undisturbed: SweepResult, small_disk: Path, tmp_path: Path
) -> None:
    filled = sweep(make_study(mini_server, small_disk / "store"), tmp_path / "runs" / "filling", SilentReporter())
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    more = make_study(mini_server, small_disk / "store", steps=STEPS + 1)
    with pytest.raises(SemscaleError, match="the embedding store cannot be written") as caught:
        sweep(more, tmp_path / "runs" / "more", SilentReporter())
    assert "Read-only file system" in str(caught.value)
    with pytest.raises(SemscaleError, match="the run directory cannot be written"):
        sweep(more, small_disk / "run", SilentReporter())
    # what is in it can be used
    again = sweep(make_study(mini_server, small_disk / "store"), tmp_path / "runs" / "again", SilentReporter())
    assert (again.images_sent, again.texts_sent) == (0, 0)
    assert files_of(again.directory) == files_of(filled.directory) == files_of(undisturbed.directory)


@pytest.mark.faults
def test_two_sweeps_at_once_share_one_store(mini_server: str, undisturbed: SweepResult, tmp_path: Path) -> None:
    study = tmp_path / "study.yaml"
    study.write_text(make_study(mini_server, tmp_path / "store").to_yaml(), encoding="utf-8")
    command = [sys.executable, "-m", "semscale", "sweep", str(study), "--quiet", "--out"]
    processes = [
        subprocess.Popen(
            [*command, str(tmp_path / name / "run")], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        for name in ("one", "two")
    ]
    said = [process.communicate(timeout=200)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    for name in ("one", "two"):
        assert files_of(tmp_path / name / "run") == files_of(undisturbed.directory)
    # whatever both of them sent is there once or twice, and the same
    for kind, n in (("image", undisturbed.images_sent), ("text", undisturbed.texts_sent)):
        (folder,) = (tmp_path / "store").glob(f"*/{kind}")
        assert len(EmbeddingStore(folder)) == n
        assert not [path for path in folder.iterdir() if path.suffix != ".parquet"]
    third = sweep(make_study(mini_server, tmp_path / "store"), tmp_path / "third" / "run", SilentReporter())
    assert (third.images_sent, third.texts_sent) == (0, 0)
    assert files_of(third.directory) == files_of(undisturbed.directory)
