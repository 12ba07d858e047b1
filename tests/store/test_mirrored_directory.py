"""Embedding store in a real object store: the rows of one machine are read on another."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_embedding_store import keys, rows

from semscale.common.errors import SemscaleError
from semscale.encoding.server_discovery import Servers
from semscale.encoding.verification import identify_encoder
from semscale.store.embedding_store import EmbeddingStore
from semscale.store.encoder_fingerprint import cache_fingerprint, cached_fingerprint, evict_fingerprint, read_probe
from semscale.store.mirrored_directory import MirroredDirectory
from semscale.store.segment import write_segment


@pytest.fixture(scope="module")
def bucket(s3: Any) -> str:
    s3.mkdir("embeddings")
    return "embeddings"


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that switches to a machine, with a separate cache, of a name."""

    def be_on(name: str) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / name))

    be_on("first")
    return be_on


def test_spellings_of_a_folder_are_equal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert (
        MirroredDirectory.of("store")
        == MirroredDirectory.of(tmp_path / "store")
        == MirroredDirectory.of(f"file://{tmp_path}/store")
    )
    assert MirroredDirectory.of("store").local == tmp_path / "store"
    assert pickle.loads(pickle.dumps(MirroredDirectory.of("s3://b/c/") / "d")) == MirroredDirectory("s3://b/c/d")


def test_rows_of_one_machine_are_read_on_another(bucket: str, s3: Any, machine: Any) -> None:
    folder = MirroredDirectory.of(f"s3://{bucket}/two/image")
    write_segment(folder, keys(5, "a"), rows(5, 1))
    machine("second")
    assert not folder.local.exists()
    store = EmbeddingStore(folder)
    assert np.array_equal(store.read(keys(5, "a")), rows(5, 1))
    write_segment(folder, keys(3, "b"), rows(3, 2))
    machine("first")
    reopened = EmbeddingStore(folder)
    assert len(reopened) == 8
    assert np.array_equal(reopened.read(keys(3, "b")), rows(3, 2))
    assert len(s3.ls(f"{bucket}/two/image")) == 2


def test_a_damaged_copy_is_replaced_and_a_damaged_object_set_aside(bucket: str, s3: Any, machine: Any) -> None:
    folder = MirroredDirectory.of(f"s3://{bucket}/damaged/image")
    path = write_segment(folder, keys(40), rows(40))
    good = path.read_bytes()
    at = good.index(rows(40)[7].tobytes())
    bad = bytes([*good[:at], good[at] ^ 1, *good[at + 1 :]])
    path.write_bytes(bad)
    assert np.array_equal(EmbeddingStore(folder).read(keys(40)), rows(40))
    store = EmbeddingStore(folder)
    path.write_bytes(bad)
    assert np.array_equal(store.read(keys(40)), rows(40))
    assert path.read_bytes() == good

    s3.pipe(f"{bucket}/damaged/image/{path.name}", bad)
    machine("second")
    assert len(EmbeddingStore(folder)) == 0
    assert [name.rpartition(".")[2] for name in s3.ls(f"{bucket}/damaged/image")] == ["damaged"]


def test_a_segment_that_cannot_be_uploaded_is_not_kept(machine: Any, s3: Any) -> None:
    folder = MirroredDirectory.of("s3://no-such-bucket/store/image")
    with pytest.raises(SemscaleError, match="cannot be written") as caught:
        write_segment(folder, keys(2), rows(2))
    assert caught.value.where == "s3://no-such-bucket/store/image"
    assert not list(folder.local.iterdir())


def test_the_record_of_the_encoder_is_shared(mini_server: str, bucket: str, s3: Any, machine: Any) -> None:
    root = MirroredDirectory.of(f"s3://{bucket}/records")
    identity = identify_encoder(Servers([mini_server]), "semscale-mini", root)
    cache_fingerprint(root, identity, "abc")
    machine("second")
    assert cached_fingerprint(root, "semscale-mini", "abc") == identity
    probe = read_probe(root, identity.fingerprint)
    assert probe is not None and probe.shape == (2, identity.dimension)  # noqa: PT018
    assert identify_encoder(Servers([mini_server]), "semscale-mini", root) == identity
    evict_fingerprint(root, "abc")
    machine("third")
    assert cached_fingerprint(root, "semscale-mini", "abc") is None
