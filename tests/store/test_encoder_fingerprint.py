"""An encoder is known without its server only when what is written down of it leaves no doubt."""

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


def noted(store: Path, info: dict[str, object], origin: str = "abc") -> EncoderIdentity:
    """Write down what a handshake leaves behind, and the origin."""
    identity = EncoderIdentity("m", fingerprint_of("m", info, 2), 2, info)
    folder = store / identity.fingerprint
    folder.mkdir(parents=True)
    record = {"model": "m", "info": info, "probe": [[1.0, 0.0], [0.0, 1.0]]}
    (folder / "encoder.json").write_text(json.dumps(record), encoding="utf-8")
    cache_fingerprint(store, identity, origin)
    return identity


def test_what_was_remembered_is_recalled_until_forgotten(tmp_path: Path) -> None:
    identity = noted(tmp_path, INFO)
    assert cached_fingerprint(tmp_path, "m", "abc") == identity
    assert cached_fingerprint(tmp_path, "m", "abd") is None
    noted(tmp_path, INFO | {"weights_sha256": "11"})  # two encoders of one origin are a doubt
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
def test_a_record_that_does_not_fit_its_folder_is_a_doubt(record: str | None, tmp_path: Path) -> None:
    identity = noted(tmp_path, INFO)
    path = tmp_path / identity.fingerprint / "encoder.json"
    path.unlink() if record is None else path.write_text(record, encoding="utf-8")
    assert cached_fingerprint(tmp_path, "m", "abc") is None
