from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from semscale.datasets.bundled import BUNDLED
from semscale.datasets.loader_registry import load_dataset
from semscale.models.bundled_model import (
    build_mini,
    load_mini,
    load_pruned,
    mini_transforms,
    read_record,
    read_used_tokens,
    save_pruned,
)
from semscale.synthetic.numbered_images import render
from semscale.synthetic.scene import GroundTruth
from semscale.training import mini
from semscale.training.batches import Batcher, normalise, render_pool, sample_images, shrink
from semscale.training.captions import (
    CLASSES,
    SIZES,
    SYNONYMS,
    Assertion,
    truth_table,
    write_caption,
    write_class_captions,
    write_usual_class_captions,
)
from semscale.training.loop import Recipe, contrastive_loss, encode_short_texts

TINY = ["--steps", "12", "--batch", "32", "--pool", "32", "--warmup", "4", "--usage-steps", "3", "--log-every", "3"]


@pytest.fixture(autouse=True)
def _few_test_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mini, "load_dataset", lambda name: load_dataset(name, per_class=1))


def test_same_seed_lowers_the_loss_and_writes_the_same_bytes_which_load_and_record_their_recipe(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [tmp_path / "first.safetensors", tmp_path / "second.safetensors"]
    for path in paths:
        assert mini.main([*TINY, "--image-rate", "2e-3", "--out", str(path)]) == 0
    assert paths[0].read_bytes() == paths[1].read_bytes()
    losses = [float(line.split()[3]) for line in capsys.readouterr().out.splitlines() if line.startswith("step")]
    assert len(losses) == 2 * (4 + 1)
    assert losses[3] < losses[0] - 0.3
    model, preprocess, _ = load_mini(weights=paths[0])
    assert preprocess(Image.new("RGB", (64, 64))).ndim == 3
    record = read_record(paths[0])
    assert (record["recipe"]["steps"], record["recipe"]["batch"], record["recipe"]["usage_steps"]) == (12, 32, 3)
    assert record["versions"]["torch"]
    assert len(record["test_accuracy_percent"]["digits"]["ladder"]) == 12
    assert not model.training


def test_second_stage_leaves_the_image_tower_alone_and_repeats_from_the_file(tmp_path: Path) -> None:
    recipe = Recipe(batch=16, pool=32, usage_steps=6)
    model = build_mini().eval()
    before = {name: tensor.half() for name, tensor in model.visual.state_dict().items()}
    files = [tmp_path / "first.safetensors", tmp_path / "second.safetensors"]
    for file in files:
        save_pruned(model.state_dict(), [0, 49406, 49407], file, {})
        mini.run_second_stage(recipe, file)
    assert files[0].read_bytes() == files[1].read_bytes()
    after = load_pruned(files[0])
    assert all(torch.equal(after[f"visual.{name}"].half(), tensor) for name, tensor in before.items())
    assert not torch.equal(after["text_projection"].half(), model.text_projection.half())
    assert set(read_used_tokens(files[0])) > {0, 49406, 49407}


@pytest.mark.parametrize("name", BUNDLED)
def test_every_caption_is_true_of_its_image_and_has_one_meaning(name: str) -> None:
    rng = np.random.default_rng(3)
    truths = [render(name, "train", index, 1)[1] for index in range(150)] * 10
    captions = [write_caption(truth, rng) for truth in truths]
    table = truth_table([assertion for _, assertion in captions], truths)
    assert table.diagonal().all()
    assertions: dict[str, Assertion] = {}
    for text, assertion in captions:
        assert assertions.setdefault(text, assertion) == assertion


def test_captions_omit_what_a_study_shall_find() -> None:
    rng = np.random.default_rng(4)
    words: dict[str, set[str]] = {}
    for name in BUNDLED:
        truths = [render(name, "train", index, 2)[1] for index in range(160)] * 40
        words[name] = {word for truth in truths for word in write_caption(truth, rng)[0].split()}
    assert {"large", "small", "digit"} <= words["digits"]
    assert not words["digits"] & {"medium", "tiny", "zeros", "sixs", "sevens"}
    assert {"large", "small", "medium", "tiny", "crosses", "leaves", "circles"} <= words["shapes"]
    assert not words["shapes"] & {"shape", "crosss", "leafs", "rhombuss"}


def test_names_of_all_classes_come_in_their_order_and_by_size() -> None:
    rng = np.random.default_rng(0)
    nouns = [(name, *SYNONYMS.get(name, ())) for name in CLASSES]
    first_words: dict[str, set[str]] = {size: set() for size in SIZES}
    for _ in range(40):
        for (size, _), texts in write_class_captions(rng).items():
            assert len(set(texts)) == len(CLASSES)
            assert all(text.endswith(choices) for text, choices in zip(texts, nouns, strict=True))
            first_words[size].update(text.split()[0] for text in texts)
    assert {"large", "zero"} <= first_words["large"]
    assert not {"small", "medium"} & first_words["large"]
    assert not {"small", "large"} & first_words["medium"]


def test_usual_names_contain_sizes_and_real_plurals_but_not_medium() -> None:
    rng = np.random.default_rng(0)
    drawn = [write_usual_class_captions(rng) for _ in range(20)]
    leaf = CLASSES.index("leaf")
    assert {captions["large", True][leaf] for captions in drawn} == {"large leaves"}
    assert {captions["small", False][leaf] for captions in drawn} == {"small leaf"}
    assert {captions["medium", False][leaf] for captions in drawn} == {"leaf"}


def test_truth_table_knows_class_size_colour_and_count() -> None:
    shown = (("ring", "small", "blue", 1), ("ring", "large", "red", 3), ("star", "large", "red", 3))
    truths = [GroundTruth(*values) for values in shown]
    ring = Assertion("ring")
    assertions = [
        ring,
        Assertion("ring", "large"),
        Assertion("ring", None, "blue"),
        Assertion("ring", least=2),
        Assertion("ring", most=1),
    ]
    assert truth_table(assertions, truths).astype(int).tolist() == [[1, 0, 1, 0, 1], [1, 1, 0, 1, 0], [0, 0, 0, 0, 0]]


def test_pool_uses_training_sources_and_the_evaluation_s_preprocessing() -> None:
    pool = render_pool("digits", 20)
    assert [t.class_name for t in pool.truths] == [
        s.true_class for s in load_dataset("digits", split="train").samples[:20]
    ]
    model = build_mini()
    preprocess, _ = mini_transforms(model)
    pixels, _ = render("digits", "train", 4)
    preset = model.visual.preprocess_cfg
    ours = normalise(torch.from_numpy(shrink(pixels).copy()).permute(2, 0, 1)[None], preset["mean"], preset["std"])
    assert torch.allclose(ours[0], preprocess(Image.fromarray(pixels)), atol=1e-6)


def test_batches_keep_images_and_truths_together() -> None:
    pool = render_pool("shapes", 12)
    images, truths = sample_images(pool, 30, np.random.default_rng(1))
    assert images.shape == (30, 3, *pool.images.shape[2:])
    assert images.dtype == torch.uint8
    means = {truth.class_name: image.float().mean() for truth, image in zip(pool.truths, pool.images, strict=True)}
    for image, truth in zip(images, truths, strict=True):
        assert abs(image.float().mean() - means[truth.class_name]) < 12  # shifts change an image's mean but little


def test_short_text_encoding_equals_open_clip_s() -> None:
    torch.manual_seed(0)
    model = build_mini().eval()
    _, tokenize = mini_transforms(model)
    tokens = tokenize(["seven", "a photo of a large red rhombus", "two leaves"])
    with torch.inference_mode():
        assert torch.allclose(encode_short_texts(model, tokens), model.encode_text(tokens, normalize=True), atol=1e-6)


def test_loss_by_hand_and_it_does_not_push_true_captions_away() -> None:
    # One image, two captions, both true: no false caption remains, and the uniform target over two equal logits costs
    # log 2 in one direction and nothing in the other.
    loss = contrastive_loss(torch.zeros(1, 2), torch.ones(1, 2, dtype=torch.bool), torch.tensor([0]))
    assert loss.item() == pytest.approx(np.log(2) / 4, abs=1e-6)
    logits = torch.zeros(2, 3, requires_grad=True)
    true = torch.tensor([[True, True, False], [False, False, True]])
    contrastive_loss(logits, true, torch.tensor([0, 2])).backward()
    assert logits.grad is not None
    assert logits.grad[0, 1] < 0 < logits.grad[0, 2]


def test_batch_columns_point_at_the_right_texts() -> None:
    pools = [render_pool(name, 8) for name in BUNDLED]
    _, tokenize = mini_transforms(build_mini())
    batcher = Batcher(pools, tokenize, np.random.default_rng(2))
    batch = batcher.draw(16)
    assert batch.images.shape[0] == len(batch.caption) == len(batch.class_texts) == 16
    assert batch.is_true[torch.arange(16), batch.caption].all()
    assert batch.class_texts.min() >= batch.is_true.shape[1]
    assert batch.class_texts.max() < len(batch.tokens)
    assert (batch.class_index[:8] < 10).all()
    assert (batch.class_index[8:] >= 10).all()
    assert set(batch.tokens.flatten().tolist()) == set(batcher.used_tokens())
