"""Cached fingerprints: used only if the stored record is certainly the encoder's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from semscale.store.encoder_fingerprint import (
    EncoderIdentity,
    cache_fingerprint,
    cached_fingerprint,
    evict_fingerprint,
    fingerprint_of,
)

INFO = {"name": "m", "architecture": "a", "weights_sha256": "00", "embedding_dim": 2, "dtype": "fp32", "preprocess": {}}


def recorded(store: Path, info: dict[str, object], files_digest: str = "abc") -> EncoderIdentity:
    """Store the record of an encoder and the digest of its files."""
    identity = EncoderIdentity("m", fingerprint_of("m", info, 2), 2, info)
    folder = store / identity.fingerprint
    folder.mkdir(parents=True)
    record = {"model": "m", "info": info, "probe": [[1.0, 0.0], [0.0, 1.0]]}
    (folder / "encoder.json").write_text(json.dumps(record), encoding="utf-8")
    cache_fingerprint(store, identity, files_digest)
    return identity


def test_a_fingerprint_is_cached_until_evicted(tmp_path: Path) -> None:
    identity = recorded(tmp_path, INFO)
    assert cached_fingerprint(tmp_path, "m", "abc") == identity
    assert cached_fingerprint(tmp_path, "m", "abd") is None
    recorded(tmp_path, INFO | {"weights_sha256": "11"})  # two encoders of the same files
    assert cached_fingerprint(tmp_path, "m", "abc") is None
    evict_fingerprint(tmp_path, "abc")
    assert cached_fingerprint(tmp_path, "m", "abc") is None


@pytest.mark.parametrize(
    "record",
    [
        None,
        "{",
        "{}",
        json.dumps({"info": None, "probe": [[1.0, 0.0]]}),
        json.dumps({"info": INFO, "probe": []}),
        json.dumps({"info": INFO, "probe": [[1.0, 0.0, 0.0]]}),
        json.dumps({"info": INFO | {"name": "other"}, "probe": [[1.0, 0.0]]}),
        json.dumps({"info": INFO | {"dtype": "fp16"}, "probe": [[1.0, 0.0]]}),
    ],
)
def test_an_invalid_record_is_not_used(record: str | None, tmp_path: Path) -> None:
    identity = recorded(tmp_path, INFO)
    path = tmp_path / identity.fingerprint / "encoder.json"
    path.unlink() if record is None else path.write_text(record, encoding="utf-8")
    assert cached_fingerprint(tmp_path, "m", "abc") is None
