"""Embedding store: rows, segments and keys, and the claims on them."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from semscale.common.errors import SemscaleError
from semscale.encoding.content_claims import ContentClaims
from semscale.store.embedding_store import EmbeddingStore
from semscale.store.segment import write_segment


def rows(n: int, seed: int = 0) -> np.ndarray:
    values = np.random.default_rng(seed).standard_normal((n, 16)).astype(np.float32)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def keys(n: int, prefix: str = "k") -> list[bytes]:
    return [hashlib.sha256(f"{prefix}{i}".encode()).digest() for i in range(n)]


def test_rows_are_read_bit_for_bit_in_the_requested_order(tmp_path: Path) -> None:
    first, second = rows(5, 1), rows(7, 2)
    write_segment(tmp_path, keys(5, "a"), first)
    write_segment(tmp_path, keys(7, "b"), second)
    store = EmbeddingStore(tmp_path)
    assert len(store) == 12
    wanted = [keys(7, "b")[6], keys(5, "a")[0], keys(7, "b")[0], keys(5, "a")[0]]
    expected = np.stack([second[6], first[0], second[0], first[0]])
    assert np.array_equal(store.read(wanted), expected)


def test_many_segments_are_indexed_in_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("semscale.store.embedding_store._MIN_INDEX_BATCH", 7)
    values, names = rows(60), keys(60)
    for start in range(0, 60, 3):
        write_segment(tmp_path, names[start : start + 3], values[start : start + 3])
    write_segment(tmp_path, names[10:30], values[10:30])  # another sweep stored some of them as well
    store = EmbeddingStore(tmp_path)
    assert store.keys().tolist() == sorted(names)
    order = np.random.default_rng(1).integers(0, 60, 200)
    assert np.array_equal(store.read([names[i] for i in order]), values[order])
    assert store.read([]).size == 0


def test_a_refresh_loads_new_segments(tmp_path: Path) -> None:
    store = EmbeddingStore(tmp_path / "not-there-yet")
    assert len(store) == 0
    write_segment(tmp_path / "not-there-yet", keys(3), rows(3))
    assert keys(3)[0] not in store
    store.refresh()
    assert len(store) == 3
    assert store.contains([*keys(3), *keys(1, "other")]).tolist() == [True, True, True, False]


def test_an_unwritable_store_is_a_user_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(SemscaleError, match="cannot be written"):
        write_segment(tmp_path / "file", keys(1), rows(1))
    assert not list(tmp_path.glob("*.partial"))


def test_digests_that_end_in_zeros_are_distinct(tmp_path: Path) -> None:
    # numpy's bytes strings drop trailing zeros when they become Python's
    awkward = [b"a" * 31 + b"\0", b"a" * 30 + b"\0\0", bytes(32), b"\0" * 31 + b"a"]
    write_segment(tmp_path, awkward, rows(4))
    store = EmbeddingStore(tmp_path)
    assert len(store) == 4
    assert np.array_equal(store.read(awkward[::-1]), rows(4)[::-1])
    with pytest.raises(KeyError):
        store.read([b"b" * 32])


def test_every_key_is_granted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("semscale.encoding.content_claims._MAX_RECENT", 10)
    claims = ContentClaims([keys(20, "stored")])
    everything = [*keys(20, "stored"), *keys(60, "new")]
    granted = sum(claims.claim(chunk, everything[chunk : chunk + 9]).count(True) for chunk in range(75))
    assert granted == 60
    # a repeated chunk gets its claims again
    assert claims.claim(30, everything[30:39]) == [False] * 8 + [True]
