from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from semscale.common.errors import SemscaleError
from semscale.models.loading import common_preprocess, hash_weights, load_model, needs_quick_gelu
from semscale.models.model_name import parse_model_name


def test_directory_gives_the_identity_of_its_model(tiny_model: Path, tiny_state: dict[str, Any]) -> None:
    loaded = load_model(str(tiny_model))
    info = loaded.info
    expected = {
        "architecture": "tiny",
        "embedding_dim": 48,
        "image_size": [32, 32],
        "context_length": 77,
        "logit_scale": pytest.approx(float(tiny_state["logit_scale"].exp())),
        "dtype": "fp32",
        "device": "cpu",
        "weights_sha256": hash_weights(tiny_state),
    }
    assert {key: info[key] for key in expected} == expected
    assert (info["preprocess"]["mean"], info["preprocess"]["std"]) == ([0.5, 0.4, 0.3], [0.25, 0.5, 0.75])
    assert json.loads(json.dumps(info)) == info
    assert loaded.preprocess(Image.new("L", (50, 70))).shape == (3, 32, 32)
    assert loaded.tokenizer(["a"]).shape == (1, 77)


def test_loaded_model_computes_what_open_clip_computes(tiny_model: Path) -> None:
    import open_clip

    loaded = load_model(str(tiny_model))
    # Without gradients, as in the server: torch picks other kernels for a few rows (1e-6 apart) when they are wanted.
    plain = open_clip.create_model(f"local-dir:{tiny_model}").eval().requires_grad_(False)
    images = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        assert torch.equal(loaded.model.encode_image(images), plain.encode_image(images))  # type: ignore[operator]
        tokens = loaded.tokenizer(["a dog", "dogs"])
        assert torch.equal(loaded.model.encode_text(tokens), plain.encode_text(tokens))  # type: ignore[operator]


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".bin"])
def test_file_of_any_kind_has_the_same_hash(
    suffix: str, tmp_path: Path, tiny_state: dict[str, Any], tiny_architecture: str
) -> None:
    path = tmp_path / f"weights{suffix}"
    if suffix == ".safetensors":
        save_file(tiny_state, str(path))
    else:
        torch.save({"state_dict": tiny_state} if suffix == ".pt" else tiny_state, path)
    info = load_model(f"{tiny_architecture}::{path}").info
    assert info["weights_sha256"] == hash_weights(tiny_state)
    assert info["architecture"] == tiny_architecture


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model"])
def test_tensors_of_a_training_checkpoint_are_found(
    key: str, tmp_path: Path, tiny_model: Path, tiny_state: dict[str, Any], tiny_architecture: str
) -> None:
    path = tmp_path / "open_clip_pytorch_model.bin"
    torch.save({"epoch": 3, key: {f"module.{name}": tensor for name, tensor in tiny_state.items()}}, path)
    (tmp_path / "open_clip_config.json").write_text((tiny_model / "open_clip_config.json").read_text())
    for name in (f"{tiny_architecture}::{path}", str(tmp_path)):
        assert load_model(name).info["weights_sha256"] == hash_weights(tiny_state)


def test_unknown_keys_of_a_checkpoint_are_named(tmp_path: Path, tiny_state: dict[str, Any]) -> None:
    torch.save({"epoch": 3, "net": tiny_state}, tmp_path / "weights.pt")
    with pytest.raises(SemscaleError, match="no tensors by name") as caught:
        parse_model_name(f"ViT-B-32::{tmp_path / 'weights.pt'}")
    assert caught.value.found == "'epoch', 'net'"
    assert "model_state_dict" in str(caught.value.expected)


def test_hash_sees_values_names_and_shapes() -> None:
    base = {"a": torch.arange(4.0), "b": torch.ones(2)}
    changed: list[dict[str, torch.Tensor]] = [
        {"a": torch.arange(4.0) + 1e-6, "b": torch.ones(2)},
        {"a": torch.arange(4.0).reshape(2, 2), "b": torch.ones(2)},
        {"a": torch.arange(4.0), "c": torch.ones(2)},
        {"a": torch.arange(4.0), "b": torch.ones(2, dtype=torch.float16)},
    ]
    assert len({hash_weights(state) for state in [base, *changed]}) == 5


def test_half_precision_keeps_hash_and_scale(tiny_model: Path) -> None:
    full, half = load_model(str(tiny_model)), load_model(str(tiny_model), dtype="bf16")
    assert half.info["dtype"] == "bf16"
    assert all(half.info[key] == full.info[key] for key in ("weights_sha256", "logit_scale"))
    tokens = full.tokenizer(["a dog"])
    with torch.inference_mode():
        precise = full.model.encode_text(tokens)[0]  # type: ignore[operator]
        rough = half.model.encode_text(tokens)[0].float()  # type: ignore[operator]
    assert torch.nn.functional.cosine_similarity(precise, rough, dim=0) > 0.999
    assert not torch.equal(precise, rough)


def test_damaged_file_is_named(tmp_path: Path, tiny_model: Path, tiny_architecture: str) -> None:
    whole = (tiny_model / "open_clip_model.safetensors").read_bytes()
    for name, content in {"half.safetensors": whole[: len(whole) // 2], "none.pt": b"", "text.bin": b"hello"}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(SemscaleError) as caught:
            load_model(f"{tiny_architecture}::{tmp_path / name}")
        assert caught.value.where == str(tmp_path / name)


@pytest.mark.parametrize(
    ("key", "value", "what", "found"),
    [
        ("layers", 3, "do not belong to this architecture", "visual.transformer.resblocks.2"),
        ("image_size", 64, "another image size", "visual.positional_embedding [17, 64]"),
    ],
)
def test_weights_of_another_architecture_are_refused_and_not_stretched(
    key: str, value: int, what: str, found: str, tiny_model: Path, tmp_path: Path
) -> None:
    config = json.loads((tiny_model / "open_clip_config.json").read_text())
    config["model_cfg"]["vision_cfg"][key] = value
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    (tmp_path / "open_clip_model.safetensors").write_bytes((tiny_model / "open_clip_model.safetensors").read_bytes())
    with pytest.raises(SemscaleError, match=what) as caught:
        load_model(str(tmp_path))
    assert found in str(caught.value.found)


@pytest.mark.parametrize(
    ("name", "what", "helpful"),
    [
        ("VitB32::openai", "unknown model architecture", "ViT-B-32"),
        ("ViT-B-32", "lacks the weights", "laion2b_s34b_b79k"),
        ("ViT-B-32::", "lacks the weights", "laion2b_s34b_b79k"),
        ("ViT-B-32::laion2b", "unknown pretrained tag for ViT-B-32", "laion2b_s34b_b79k"),
        ("ViT-B-32::no/such.safetensors", "no such weights file", "existing file"),
        ("no/such/directory", "a weights file needs its architecture", "ARCH::"),
        ("local-dir:no/such", "not the directory of an open_clip model", "open_clip_config.json"),
        ("hf-hub:model", "not a hub name", "hf-hub:ORG/NAME"),
        (" ", "model name is empty", "semscale-mini"),
    ],
)
def test_wrong_names_are_refused_with_valid_ones(name: str, what: str, helpful: str) -> None:
    with pytest.raises(SemscaleError, match=what) as caught:
        parse_model_name(name)
    assert helpful in str(caught.value.expected)


def test_directory_must_hold_configuration_and_weights(tmp_path: Path, tiny_model: Path) -> None:
    with pytest.raises(SemscaleError, match="not the directory"):
        load_model(str(tmp_path))
    for content in ("{", "{}", "[]"):
        (tmp_path / "open_clip_config.json").write_text(content)
        with pytest.raises(SemscaleError, match="not the configuration of an open_clip model"):
            load_model(str(tmp_path))
    (tmp_path / "open_clip_config.json").write_text((tiny_model / "open_clip_config.json").read_text())
    with pytest.raises(SemscaleError, match="no weights"):
        load_model(str(tmp_path))


@pytest.mark.parametrize("name", ["hf-hub:semscale/nothing", "RN50::openai"])
def test_hub_that_cannot_be_reached_fails_immediately(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    for variable in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    with pytest.raises(SemscaleError, match="cannot be fetched from the model hub") as caught:
        load_model(name)
    assert caught.value.where == name
    assert constants.HF_HUB_OFFLINE is False


def test_tag_decides_the_activation_that_open_clip_only_warns_about() -> None:
    assert needs_quick_gelu("ViT-B-32", "openai")
    assert not needs_quick_gelu("ViT-B-32", "laion2b_s34b_b79k")


def test_file_has_the_activation_of_all_published_weights(
    tmp_path: Path, tiny_model: Path, tiny_architecture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import open_clip
    from open_clip import factory, pretrained

    twin, tags = f"{tiny_architecture}-quickgelu", {"made": {"quick_gelu": True}, "own": {"quick_gelu": True}}
    quick = open_clip.get_model_config(tiny_architecture) | {"quick_gelu": True}
    monkeypatch.setitem(factory._MODEL_CONFIGS, twin, quick)
    monkeypatch.setitem(pretrained._PRETRAINED, tiny_architecture, tags)
    weights = tiny_model / "open_clip_model.safetensors"
    loaded = load_model(f"{tiny_architecture}::{weights}")
    plain = open_clip.create_model(twin, pretrained=str(weights)).eval().requires_grad_(False)
    tokens = loaded.tokenizer(["a dog"])
    assert torch.equal(loaded.model.encode_text(tokens), plain.encode_text(tokens))  # type: ignore[operator]
    assert loaded.info["architecture"] == twin
    assert "read with QuickGELU" in loaded.info["note"]
    tags["own"]["quick_gelu"] = False
    info = load_model(f"{tiny_architecture}::{weights}").info
    assert info["architecture"] == tiny_architecture
    assert f"if trained with QuickGELU, like made, name {twin}::{weights}" in info["note"]


@pytest.mark.parametrize(
    ("given", "architecture", "noted"),
    [
        *((name, f"{name}-quickgelu", "with QuickGELU") for name in ("RN50", "RN101", "RN50x4", "RN50x16", "RN50x64")),
        ("ViT-L-14-336", "ViT-L-14-336-quickgelu", "with QuickGELU"),
        *((name, name, f"name {name}-quickgelu::") for name in ("ViT-B-32", "ViT-B-16", "ViT-L-14")),
        ("ViT-L-14", "ViT-L-14", "usual mean, std; if others are right, as for laion2b_s32b_b82k"),
        ("ViT-H-14", "ViT-H-14", "usual resize_mode; if others are right, as for dfn5b"),
        ("ViT-B-32-quickgelu", "ViT-B-32-quickgelu", ""),
    ],
)
def test_file_of_a_known_architecture(given: str, architecture: str, noted: str, tiny_model: Path) -> None:
    source = parse_model_name(f"{given}::{tiny_model / 'open_clip_model.safetensors'}")
    assert source.architecture == architecture
    assert noted in source.note
    assert bool(noted) is bool(source.note)


def test_weights_file_gets_the_preprocessing_of_its_architecture() -> None:
    assert common_preprocess("ViT-B-16-SigLIP")["image_mean"] == (0.5, 0.5, 0.5)
    assert common_preprocess("ViT-B-16-SigLIP")["image_resize_mode"] == "squash"
    # The published weights have two resize modes: open_clip's default is used.
    assert "image_resize_mode" not in common_preprocess("ViT-H-14")


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_cuda_is_never_silently_the_cpu(tiny_model: Path) -> None:
    with pytest.raises(SemscaleError, match="no CUDA device"):
        load_model(str(tiny_model), device="cuda")


@pytest.mark.parametrize(("device", "dtype"), [("tpu", None), ("cpu:x", None), ("cpu", "int8")])
def test_unknown_device_or_dtype(device: str, dtype: str | None, tiny_model: Path) -> None:
    with pytest.raises(SemscaleError, match="unknown"):
        load_model(str(tiny_model), device=device, dtype=dtype)
