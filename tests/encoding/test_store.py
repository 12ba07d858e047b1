import hashlib
from pathlib import Path

import numpy as np
import pytest

from semscale.encoding.store import EmbeddingStore, write_segment
from semscale.errors import SemscaleError


def rows(n: int, seed: int = 0) -> np.ndarray:
    values = np.random.default_rng(seed).standard_normal((n, 16)).astype(np.float32)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def keys(n: int, prefix: str = "k") -> list[bytes]:
    return [hashlib.sha256(f"{prefix}{i}".encode()).digest() for i in range(n)]


def test_rows_come_back_bit_for_bit_in_the_asked_order(tmp_path: Path) -> None:
    first, second = rows(5, 1), rows(7, 2)
    write_segment(tmp_path, keys(5, "a"), first)
    write_segment(tmp_path, keys(7, "b"), second)
    store = EmbeddingStore(tmp_path)
    assert len(store) == 12
    wanted = [keys(7, "b")[6], keys(5, "a")[0], keys(7, "b")[0], keys(5, "a")[0]]
    expected = np.stack([second[6], first[0], second[0], first[0]])
    assert np.array_equal(store.read(wanted), expected)


def test_rows_written_later_are_seen_after_a_refresh(tmp_path: Path) -> None:
    store = EmbeddingStore(tmp_path / "not-there-yet")
    assert len(store) == 0
    write_segment(tmp_path / "not-there-yet", keys(3), rows(3))
    assert keys(3)[0] not in store
    store.refresh()
    assert set(keys(3)) == store.keys()


def test_a_flipped_bit_costs_the_segment_and_nothing_else(tmp_path: Path) -> None:
    path = write_segment(tmp_path, keys(400, "a"), rows(400))
    write_segment(tmp_path, keys(2, "b"), rows(2))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(bytes(content))
    store = EmbeddingStore(tmp_path)
    assert store.keys() == set(keys(2, "b"))
    assert path.with_suffix(".damaged").exists()


def test_a_truncated_segment_is_set_aside(tmp_path: Path) -> None:
    path = write_segment(tmp_path, keys(50), rows(50))
    path.write_bytes(path.read_bytes()[:-100])
    assert len(EmbeddingStore(tmp_path)) == 0


def test_unwritable_store_is_a_user_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(SemscaleError, match="cannot be written"):
        write_segment(tmp_path / "file", keys(1), rows(1))
    assert not list(tmp_path.glob("*.partial"))
