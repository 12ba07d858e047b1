"""A model's origin changes with everything that could change its embeddings, and with nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from semscale.models.model_fingerprint import model_origin


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "weights.safetensors"
    path.write_bytes(b"numbers")
    return path


def test_other_content_is_another_origin_even_at_the_same_time_and_size(weights: Path) -> None:
    name, stamp = f"ViT-B-32::{weights}", weights.stat()
    before = model_origin(name, "cpu", None)
    weights.write_bytes(b"Numbers")
    os.utime(weights, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    after = model_origin(name, "cpu", None)
    assert None not in (before, after)
    assert before != after
    weights.write_bytes(b"numbers")
    assert model_origin(name, "cpu", None) == before


def test_name_device_and_precision_are_part_of_it(weights: Path) -> None:
    name = f"ViT-B-32::{weights}"
    found = {
        model_origin(name, "cpu", None),
        model_origin(name, "cuda", None),
        model_origin(name, "cpu", "bf16"),
        model_origin(f"ViT-B-16::{weights}", "cpu", None),
    }
    assert len(found) == 4
    assert model_origin(name, "cuda:1", None) == model_origin(name, "cuda", None)


def test_a_directory_is_all_its_files(tmp_path: Path, weights: Path) -> None:
    (tmp_path / "open_clip_config.json").write_text("{}", encoding="utf-8")
    before = model_origin(f"local-dir:{tmp_path}", "cpu", None)
    (tmp_path / "open_clip_config.json").write_text('{"a": 1}', encoding="utf-8")
    assert before != model_origin(f"local-dir:{tmp_path}", "cpu", None)
    assert before != model_origin(str(tmp_path), "cpu", None)


def test_a_directory_without_a_model_has_none(tmp_path: Path, weights: Path) -> None:
    assert model_origin(str(tmp_path), "cpu", None) is None


def test_the_bundled_model_has_one() -> None:
    origin = model_origin("semscale-mini", "cpu", None)
    assert origin is not None
    assert origin == model_origin("semscale-mini", "cpu", None)


@pytest.mark.parametrize(
    "name", ["ViT-B-32::laion2b_s34b_b79k", "hf-hub:org/name", "ViT-B-32::/nowhere/w.safetensors", "ViT-B-32"]
)
def test_what_is_not_in_files_of_this_machine_has_none(name: str) -> None:
    assert model_origin(name, "cpu", None) is None
