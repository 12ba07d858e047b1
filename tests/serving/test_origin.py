"""The digest of a model's files changes with everything that can change its embeddings, and with nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from semscale.models.model_fingerprint import model_files_digest


def test_it_depends_on_content_name_kind_of_device_and_precision(tmp_path: Path) -> None:
    weights = tmp_path / "weights.safetensors"
    weights.write_bytes(b"numbers")
    name, stamp = f"ViT-B-32::{weights}", weights.stat()
    found = [
        model_files_digest(name, "cpu", None),
        model_files_digest(name, "cuda", None),
        model_files_digest(name, "cpu", "bf16"),
        model_files_digest(f"ViT-B-16::{weights}", "cpu", None),
    ]
    assert model_files_digest(name, "cuda:1", None) == found[1]
    weights.write_bytes(b"Numbers")  # as many bytes, of the same time
    os.utime(weights, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    found.append(model_files_digest(name, "cpu", None))
    assert None not in found
    assert len(set(found)) == 5
    weights.write_bytes(b"numbers")
    assert model_files_digest(name, "cpu", None) == found[0]


def test_a_directory_is_all_its_files_if_it_holds_a_model(tmp_path: Path) -> None:
    (tmp_path / "weights.safetensors").write_bytes(b"numbers")
    assert model_files_digest(str(tmp_path), "cpu", None) is None
    (tmp_path / "open_clip_config.json").write_text("{}", encoding="utf-8")
    before = model_files_digest(f"local-dir:{tmp_path}", "cpu", None)
    (tmp_path / "open_clip_config.json").write_text('{"a": 1}', encoding="utf-8")
    assert before not in (model_files_digest(name, "cpu", None) for name in (f"local-dir:{tmp_path}", str(tmp_path)))


@pytest.mark.parametrize(
    "name", ["ViT-B-32::laion2b_s34b_b79k", "hf-hub:org/name", "ViT-B-32::/nowhere/w.safetensors", "ViT-B-32"]
)
def test_only_local_files_have_one(name: str) -> None:
    assert (
        model_files_digest("semscale-mini", "cpu", None) == model_files_digest("semscale-mini", "cpu", None) is not None
    )
    assert model_files_digest(name, "cpu", None) is None
