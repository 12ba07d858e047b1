"""The training loop: seeded, on one thread, the same weights every time on the same machine."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import open_clip
import torch
from torch.nn.functional import cross_entropy

from semscale.datasets.bundled import BUNDLED
from semscale.serving.mini import build_mini, mini_transforms
from semscale.training.batches import Batch, Batcher
from semscale.training.data import draw_pool, normalise
from semscale.training.loss import contrastive_loss


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the trained weights.

    Attributes:
        steps: number of optimiser steps.
        batch: images per step, half of each dataset.
        pool: images drawn beforehand per dataset.
        image_rate: highest learning rate of the image tower.
        text_rate: highest learning rate of everything else.
        weight_decay: AdamW's, on matrices outside the token table.
        warmup: steps until the highest learning rate; a half cosine brings it down to zero afterwards.
        seed: of first weights, batches and captions.
    """

    steps: int = 6_000
    batch: int = 128
    pool: int = 30_000
    image_rate: float = 1.5e-3
    text_rate: float = 1e-3
    weight_decay: float = 0.05
    warmup: int = 200
    seed: int = 0


@dataclass(frozen=True)
class Progress:
    """Where a training stands after a step.

    Attributes:
        step: steps done.
        loss: the loss of the last step.
        model: the model, in training mode until the last step.
        used_tokens: returns the rows of the token table that captions have touched so far, sorted.
    """

    step: int
    loss: float
    model: open_clip.CLIP
    used_tokens: Callable[[], list[int]]


def train(recipe: Recipe) -> Iterator[Progress]:
    """Train the bundled model's architecture from scratch on the training halves of the bundled datasets.

    Args:
        recipe: sizes, rates and seed.

    Yields:
        Where the training stands, after every step; the model is in evaluation mode after the last.
    """
    torch.manual_seed(recipe.seed)
    model = build_mini().to(memory_format=torch.channels_last).train()
    _, tokenize = mini_transforms(model)
    preset = model.visual.preprocess_cfg
    pools = [draw_pool(name, recipe.pool) for name in BUNDLED]
    batcher = Batcher(pools, tokenize, np.random.default_rng([recipe.seed, 7]))
    optimiser = _optimiser(model, recipe)
    for step in range(1, recipe.steps + 1):
        batch = batcher.draw(recipe.batch)
        loss = _loss(model, batch, normalise(batch.images, preset["mean"], preset["std"]))
        _set_rates(optimiser, recipe, step)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, math.log(100))
        model.train(step < recipe.steps)
        yield Progress(step, loss.item(), model, batcher.used_tokens)


def _loss(model: open_clip.CLIP, batch: Batch, images: torch.Tensor) -> torch.Tensor:
    image_rows = model.encode_image(images, normalize=True)
    text_rows = encode_short_texts(model, batch.tokens)
    logits = model.logit_scale.exp() * image_rows @ text_rows.T
    # Captions differ in colour and size before they differ in class; the names of all classes, offered with every
    # batch, keep the image tower at the harder question from the start.
    naming = cross_entropy(logits.gather(1, batch.names), batch.shown)
    return contrastive_loss(logits[:, : batch.true.shape[1]], batch.true, batch.own) + naming


def encode_short_texts(model: open_clip.CLIP, tokens: torch.Tensor) -> torch.Tensor:
    """Encode texts as the model's encode_text does, without computing the empty places behind the longest of them.

    The text tower looks only backwards, so what stands behind a text's end changes nothing.

    Args:
        model: an open_clip CLIP.
        tokens: (n, 77) token numbers, 0 behind the end.

    Returns:
        (n, embed_dim) unit-length rows.
    """
    length = int((tokens != 0).sum(1).max())
    short = tokens[:, :length]
    x = model.token_embedding(short) + model.positional_embedding[:length]
    x = model.ln_final(model.transformer(x, attn_mask=model.attn_mask[:length, :length]))
    x = x[torch.arange(len(short)), short.argmax(1)] @ model.text_projection
    return torch.nn.functional.normalize(x, dim=-1)


def _optimiser(model: open_clip.CLIP, recipe: Recipe) -> torch.optim.AdamW:
    groups = []
    for image_side in (True, False):
        for decayed in (True, False):
            chosen = [
                parameter
                for name, parameter in model.named_parameters()
                if name.startswith("visual.") == image_side and (parameter.ndim >= 2 and "embed" not in name) == decayed
            ]
            rate = recipe.image_rate if image_side else recipe.text_rate
            decay = recipe.weight_decay if decayed else 0.0
            groups.append({"params": chosen, "lr": rate, "highest": rate, "weight_decay": decay})
    return torch.optim.AdamW(groups, betas=(0.9, 0.98))


def _set_rates(optimiser: torch.optim.AdamW, recipe: Recipe, step: int) -> None:
    rise = min(1.0, step / max(1, recipe.warmup))
    fall = 0.5 * (1 + math.cos(math.pi * max(0, step - recipe.warmup) / max(1, recipe.steps - recipe.warmup)))
    for group in optimiser.param_groups:
        group["lr"] = group["highest"] * rise * fall
