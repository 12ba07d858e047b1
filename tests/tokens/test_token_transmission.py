"""Messages: every byte is counted, lossless tiles come back as they were, opponents stay within the budget."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tower_zoo import LOCAL, normalised, pictures, tower, trace

from semscale.common.errors import ConfigError
from semscale.tokens import parse_setting
from semscale.tokens.batch import TokenBatch
from semscale.tokens.levels import trace_levels
from semscale.tokens.tile_codec import TileCoder, downsampled_within, jpeg_within


def noise(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (40, 40, 3)).astype(np.uint8)


@pytest.mark.parametrize("fill", ["drop", "mean", "blur"])
@pytest.mark.parametrize("kind", ["smooth", "noise", "flat"])
def test_lossless_tiles_come_back(fill: str, kind: str) -> None:
    flat = np.full((40, 40, 3), 7, dtype=np.uint8)
    picture = {"smooth": pictures(1)[0].numpy(), "noise": noise(), "flat": flat}[kind]
    coder = TileCoder((8, 8), fill=fill)
    cells = np.arange(25).reshape(5, 5).repeat(8, 0).repeat(8, 1)
    for count in (1, 7, 24, 25):
        keep = np.zeros(25, dtype=bool)
        keep[np.random.default_rng(count).permutation(25)[:count]] = True
        arrived = coder.decode(coder.encode(picture, keep))
        assert np.array_equal(arrived[keep[cells]], picture[keep[cells]])
        if fill == "mean" and count < 25:
            assert (arrived[~keep[cells]] == np.rint(picture.reshape(-1, 3).mean(0))).all()
        if fill == "drop":
            assert not arrived[~keep[cells]].any()


@pytest.mark.parametrize("fill", ["drop", "mean", "blur"])
@pytest.mark.parametrize("coder", ["deflate", "jpeg"])
def test_bytes_are_counted_whole_and_do_not_fall(fill: str, coder: str) -> None:
    tiles = TileCoder((8, 8), coder, 60, fill)
    for picture in (pictures(1)[0].numpy(), noise()):
        order = np.random.default_rng(1).permutation(25)
        fixed, sizes = tiles.sizes(picture)
        lengths = []
        for count in range(1, 25):
            keep = np.zeros(25, dtype=bool)
            keep[order[:count]] = True
            lengths.append(len(tiles.encode(picture, keep)))
            assert lengths[-1] == fixed + sizes[order[:count]].sum()
        assert lengths == sorted(lengths)
        whole = len(tiles.encode(picture, np.ones(25, dtype=bool)))
        assert whole == 8 + sizes.sum()  # no bits for what is there, and no fill


def test_a_tile_that_deflates_badly_is_sent_raw() -> None:
    _, sizes = TileCoder((8, 8)).sizes(noise())
    assert (sizes == 2 + 8 * 8 * 3).all()


def test_opponents_use_the_budget_and_no_more() -> None:
    for picture in (pictures(1)[0].numpy(), noise()):
        sizes: dict[str, list[int]] = {"jpeg": [], "down": []}
        for budget in (700, 900, 1500, 3000, 6000):
            for name, within in (("jpeg", jpeg_within), ("down", downsampled_within)):
                arrived, size = within(picture, budget)
                assert arrived.shape == picture.shape
                assert size <= budget
                sizes[name].append(size)
        assert all(each == sorted(each) for each in sizes.values())
        assert np.abs(downsampled_within(picture, 10**6)[0].astype(int) - picture).max() == 0


@pytest.mark.parametrize("name", LOCAL)
def test_dropped_tiles_are_dropped_tokens(name: str) -> None:
    images = pictures()
    settings = [parse_setting(text) for text in ("transmit:0.4+receiver=drop", "select:0.4+two-pass")]
    sent, selected = trace_levels(tower(name), normalised(images), settings)
    assert torch.equal(sent.kept, selected.kept)
    assert torch.equal(sent.features, selected.features)
    # the kept tokens do not depend on what is in the other tiles
    with torch.inference_mode():
        whole, arrived = (tower(name).stem()(normalised(each)) for each in (images, sent.images))
        if whole.ndim == 4 and tuple(whole.shape[2:]) == (5, 5):
            whole, arrived = (each.flatten(2).transpose(1, 2) for each in (whole, arrived))
        whole, arrived = (each.reshape(3, 25, -1) for each in (whole, arrived))
    assert torch.equal(whole[sent.kept], arrived[sent.kept])
    assert not torch.equal(whole, arrived)


def test_opponents_get_the_bytes_of_the_tiles() -> None:
    images = pictures()
    settings = [
        parse_setting(f"transmit:0.3/{kind}") for kind in ("attn", "jpeg", "down", "random", "centre", "lowest")
    ]
    found = dict(
        zip(
            ("attn", "jpeg", "down", "random", "centre", "lowest"),
            trace_levels(tower("tok"), normalised(images), settings),
            strict=True,
        )
    )
    for kind in ("jpeg", "down"):
        assert (found[kind].sent_bytes <= found["attn"].sent_bytes).all()
        assert (found[kind].sent_bytes > 0.5 * found["attn"].sent_bytes).all()
    assert {int(found[kind].kept.sum()) for kind in ("attn", "random", "centre", "lowest")} == {24}
    assert not (found["attn"].kept & found["lowest"].kept).any()
    assert found["centre"].kept[0, 12]


def test_a_budget_of_bytes_takes_as_many_tiles_as_fit() -> None:
    images = pictures()
    texts = (
        "transmit:800",
        "transmit:2000",
        "transmit:2000/random#1",
        "transmit:2000/jpeg",
        "transmit:100000",
        "transmit:2",
    )
    small, large, drawn, jpeg, whole, none = trace("tok", images, texts)
    for outcome, budget in ((small, 800), (large, 2000), (drawn, 2000), (jpeg, 2000)):
        assert (outcome.sent_bytes <= budget).all()
    for outcome in (small, large, drawn):
        assert (outcome.sent_bytes + 8 * 8 * 3 + 2 > (800 if outcome is small else 2000)).all()
    assert not (small.kept & ~large.kept).any()
    assert torch.equal(whole.images, images)
    assert none.kept.sum(1).tolist() == [1, 1, 1]


def test_the_identity_is_lossless_and_bytes_come_back_from_pixels() -> None:
    images = pictures()
    every = torch.arange(256, dtype=torch.uint8).repeat(19)[: 40 * 40 * 3].reshape(1, 40, 40, 3)
    images = torch.cat([images, every])
    # nobody gave the images: they are recovered from the pixels
    settings = [parse_setting(text) for text in ("transmit:100000", "transmit:1", "transmit:100000+coder=jpeg")]
    sent, own, jpeg = trace_levels(tower("tok"), normalised(images), settings)
    assert torch.equal(sent.images, images)
    assert torch.equal(sent.features, own.features)
    assert not torch.equal(jpeg.images, images)


def test_bfloat16_pixels_need_the_images() -> None:
    batch = TokenBatch(tower("tok"), normalised(pictures()).to(torch.bfloat16))
    with pytest.raises(ConfigError, match="bfloat16"):
        batch.draws("x", 0, 1)
    half = TokenBatch(tower("tok"), normalised(pictures()).half())
    assert torch.equal(half.images, pictures())
