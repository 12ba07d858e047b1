from __future__ import annotations

import io
from dataclasses import asdict
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from semscale.common.errors import SemscaleError
from semscale.datasets.bundled import BUNDLED
from semscale.datasets.loader_registry import load_dataset
from semscale.models import bundled_model
from semscale.models.bundled_model import load_pruned, read_record, save_pruned
from semscale.training.loop import Recipe
from semscale.training.mini import ladder_accuracy


@pytest.fixture(scope="module")
def loaded() -> tuple[torch.nn.Module, bundled_model.Preprocess, open_clip.SimpleTokenizer]:
    return bundled_model.load_mini()


def test_weights_are_small_and_contain_the_record_of_their_training() -> None:
    assert bundled_model.WEIGHTS.stat().st_size < 4_000_000
    record = read_record(bundled_model.WEIGHTS)
    assert record["recipe"] == asdict(Recipe())
    assert set(record["test_accuracy_percent"]) == set(BUNDLED)


def test_model_is_a_float32_vision_transformer_in_eval_mode(loaded: tuple) -> None:
    model, preprocess, tokenizer = loaded
    assert not model.training
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert type(model.visual.trunk).__name__ == "VisionTransformer"
    assert not any(tensor.isnan().any() for tensor in model.state_dict().values())
    assert preprocess(Image.new("RGB", (90, 70))).shape == (3, bundled_model.IMAGE_SIZE, bundled_model.IMAGE_SIZE)
    assert tokenizer(["seven", "large crosses"]).shape == (2, 77)


@pytest.mark.parametrize("name", BUNDLED)
def test_class_names_alone_leave_room_to_move(loaded: tuple, name: str) -> None:
    together, alone = ladder_accuracy(loaded[0], load_dataset(name))
    assert 85 <= alone[0] <= 97
    assert together[0] == alone[0]
    assert max(together) - min(together) >= 1
    recorded = read_record(bundled_model.WEIGHTS)["test_accuracy_percent"][name]["ladder"]
    assert np.allclose(together, recorded, atol=0.3)  # another processor may turn a near tie or two


def test_open_clip_knows_the_architecture_and_its_preprocessing(loaded: tuple) -> None:
    model, preprocess, tokenizer = loaded
    assert bundled_model.NAME in open_clip.list_models()
    untrained, _, same = open_clip.create_model_and_transforms(bundled_model.NAME)
    assert {k: v.shape for k, v in untrained.state_dict().items()} == {
        k: v.shape for k, v in model.state_dict().items()
    }
    dataset = load_dataset("shapes")
    image = Image.open(io.BytesIO(dataset.reader.read(dataset.samples[0].file)))
    assert torch.equal(preprocess(image), same(image))
    assert torch.equal(tokenizer(["a ring"]), open_clip.get_tokenizer(bundled_model.NAME)(["a ring"]))


def test_untrained_model_is_the_one_that_open_clip_builds() -> None:
    torch.manual_seed(3)
    ours = bundled_model.build_mini()
    torch.manual_seed(3)
    theirs = open_clip.create_model(bundled_model.NAME).state_dict()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.state_dict().items())


def test_unknown_words_are_faint_but_different(loaded: tuple) -> None:
    model, _, tokenizer = loaded
    with torch.inference_mode():
        rows = model.encode_text(tokenizer(["zebra", "walrus"]), normalize=True)
    assert rows.isfinite().all()
    assert not torch.allclose(rows[0], rows[1])
    lengths = model.token_embedding.weight.norm(dim=1)
    known, unknown = tokenizer(["seven"])[0, 1], tokenizer(["zebra"])[0, 1]
    assert lengths[known] > lengths[unknown] > 0


def test_missing_weights_name_the_program_that_trains_them(tmp_path: Path) -> None:
    with pytest.raises(SemscaleError, match=r"semscale\.training\.mini"):
        bundled_model.load_mini(weights=tmp_path / "gone.safetensors")


def test_damaged_weights_are_refused(tmp_path: Path) -> None:
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(bundled_model.WEIGHTS.read_bytes()[:5000])
    with pytest.raises(SemscaleError, match="cannot be read"):
        bundled_model.load_mini(weights=cut)
    pickled = tmp_path / "pickled.safetensors"
    torch.save({"logit_scale": torch.zeros(())}, pickled)
    with pytest.raises(SemscaleError, match="cannot be read"):
        bundled_model.load_mini(weights=pickled)


def test_pruned_file_keeps_used_rows_and_refills_the_others(tmp_path: Path) -> None:
    state = {
        "token_embedding.weight": torch.randn(49_408, 8, generator=torch.Generator().manual_seed(1)),
        "scale": torch.tensor(2.5),
        "seen": torch.tensor(7),
    }
    path = tmp_path / "small.safetensors"
    save_pruned(state, [5, 3, 5], path, {"steps": 1})
    back = load_pruned(path)
    assert read_record(path) == {"steps": 1}
    assert path.stat().st_size < 2000
    assert (back["scale"], back["seen"]) == (2.5, 7)
    assert back["seen"].dtype == torch.int64
    table, source = back["token_embedding.weight"], state["token_embedding.weight"]
    assert torch.allclose(table[[3, 5]], source[[3, 5]], atol=2e-3)
    assert table.shape == source.shape
    assert 0 < table[4].abs().max() < 0.2
