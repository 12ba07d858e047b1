"""Training loop in two stages: seeded, on one thread, with the same weights every time on the same machine.

The first stage trains both towers. The second keeps the image tower and trains the text tower on the way people name
things, from shapes alone: sizes other than medium, plurals for several. A bare name then fits one object of medium
size a little better than others, so that a ladder of category texts has something to add, and the words for digits,
which are not repeated, fade a little.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import open_clip
import torch
from torch.nn.functional import cross_entropy, log_softmax
from torch.optim.lr_scheduler import LambdaLR

from semscale.datasets.bundled import BUNDLED
from semscale.models.bundled_model import build_mini, mini_transforms
from semscale.training.batches import Batch, Batcher, normalise, render_pool
from semscale.training.captions import ClassCaptions, write_class_captions, write_usual_class_captions

_BETAS = (0.9, 0.98)


@dataclass(frozen=True)
class Recipe:
    """Settings that determine the trained weights; learning rates are the maxima of a stage."""

    steps: int = 6_000
    batch: int = 128  # images per step, half of each dataset
    pool: int = 30_000  # images rendered per dataset
    image_rate: float = 1.5e-3  # learning rate of the image tower
    text_rate: float = 1e-3  # of everything else
    weight_decay: float = 0.05  # AdamW's, on matrices outside the token table
    warmup: int = 200  # steps to the maximum learning rate, which then falls to zero along a half cosine
    usage_steps: int = 300  # of the second stage
    usage_rate: float = 2e-3  # learning rate of the second stage
    seed: int = 0  # of initial weights, batches and captions


@dataclass(frozen=True)
class TrainingProgress:
    """State of a training after a step; `used_tokens` returns the rows of the token table used so far."""

    step: int
    loss: float
    model: open_clip.CLIP
    used_tokens: Callable[[], list[int]]


def train_both_towers(recipe: Recipe) -> Iterator[TrainingProgress]:
    """Train the bundled model's architecture from scratch on the training halves of the bundled datasets."""
    torch.manual_seed(recipe.seed)
    model = build_mini().to(memory_format=torch.channels_last).train()
    batcher = _batcher(model, recipe, BUNDLED, 7, write_class_captions)
    schedule = _schedule(_optimiser(model, recipe), recipe.steps, recipe.warmup)
    for step in range(1, recipe.steps + 1):
        loss = _loss(model, batcher.draw(recipe.batch))
        _descend(model, schedule, loss)
        yield TrainingProgress(step, loss.item(), model, batcher.used_tokens)


def train_text_tower(recipe: Recipe, model: open_clip.CLIP) -> Iterator[TrainingProgress]:
    """Train the text tower of a trained model further, in place, on names that people give to such images."""
    batcher = _batcher(model, recipe, ("shapes",), 8, write_usual_class_captions)
    model.visual.requires_grad_(False)
    text_parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(text_parameters, lr=recipe.usage_rate, betas=_BETAS, weight_decay=0.0)
    schedule = _schedule(optimiser, recipe.usage_steps, warmup=0)
    for step in range(1, recipe.usage_steps + 1):
        batch = batcher.draw(recipe.batch)
        loss = _naming_loss(_logits(model, batch), batch)
        _descend(model, schedule, loss)
        yield TrainingProgress(step, loss.item(), model, batcher.used_tokens)


def _batcher(
    model: open_clip.CLIP, recipe: Recipe, datasets: Sequence[str], stage: int, captions: Callable[..., ClassCaptions]
) -> Batcher:
    _, tokenize = mini_transforms(model)
    pools = [render_pool(name, recipe.pool) for name in datasets]
    return Batcher(pools, tokenize, np.random.default_rng([recipe.seed, stage]), captions)


def _logits(model: open_clip.CLIP, batch: Batch) -> torch.Tensor:
    preset = model.visual.preprocess_cfg
    image_rows = model.encode_image(normalise(batch.images, preset["mean"], preset["std"]), normalize=True)
    logits: torch.Tensor = model.logit_scale.exp() * image_rows @ encode_short_texts(model, batch.tokens).T
    return logits


def _naming_loss(logits: torch.Tensor, batch: Batch) -> torch.Tensor:
    return cross_entropy(logits.gather(1, batch.class_texts), batch.class_index)


def _loss(model: open_clip.CLIP, batch: Batch) -> torch.Tensor:
    logits = _logits(model, batch)
    # Captions differ in colour and size before they differ in class; the names of all classes in every batch keep the
    # image tower on the harder task from the start.
    contrast = contrastive_loss(logits[:, : batch.is_true.shape[1]], batch.is_true, batch.caption)
    return contrast + _naming_loss(logits, batch)


def _descend(model: open_clip.CLIP, schedule: LambdaLR, loss: torch.Tensor) -> None:
    schedule.optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    schedule.optimizer.step()
    schedule.step()
    with torch.no_grad():
        model.logit_scale.clamp_(0, math.log(100))


def encode_short_texts(model: open_clip.CLIP, tokens: torch.Tensor) -> torch.Tensor:
    """Encode (n, 77) token numbers to (n, embed_dim) unit-length rows, without the zeros after the longest text.

    Attention is causal, so the tokens after the end of a text change nothing.
    """
    length = int((tokens != 0).sum(1).max())
    short = tokens[:, :length]
    x = model.token_embedding(short) + model.positional_embedding[:length]
    x = model.ln_final(model.transformer(x, attn_mask=model.attn_mask[:length, :length]))
    x = x[torch.arange(len(short)), short.argmax(1)] @ model.text_projection
    return torch.nn.functional.normalize(x, dim=-1)


def _optimiser(model: open_clip.CLIP, recipe: Recipe) -> torch.optim.AdamW:
    groups = []
    for image_side, decayed in itertools.product((True, False), repeat=2):
        chosen = [
            parameter
            for name, parameter in model.named_parameters()
            if name.startswith("visual.") == image_side and (parameter.ndim >= 2 and "embed" not in name) == decayed
        ]
        rate, decay = recipe.image_rate if image_side else recipe.text_rate, recipe.weight_decay if decayed else 0.0
        groups.append({"params": chosen, "lr": rate, "weight_decay": decay})
    return torch.optim.AdamW(groups, betas=_BETAS)


def _schedule(optimiser: torch.optim.AdamW, steps: int, warmup: int) -> LambdaLR:
    def factor(done: int) -> float:
        ramp = min(1.0, (done + 1) / max(1, warmup))
        return ramp * 0.5 * (1 + math.cos(math.pi * max(0, done + 1 - warmup) / max(1, steps - warmup)))

    return LambdaLR(optimiser, factor)


def contrastive_loss(logits: torch.Tensor, is_true: torch.Tensor, caption: torch.Tensor) -> torch.Tensor:
    """Return the loss of a batch, averaged over both directions (image to text, text to image).

    Half of it is the usual contrastive loss (A. Radford et al., 2021, CLIP) of each image and the caption written for
    it, without the other true captions in the denominator; the other half has a target that is uniform over all true
    pairs (P. Khosla et al., 2020, Supervised Contrastive Learning).

    `logits` (images, captions) are scaled cosine similarities; `is_true` (images, captions) marks captions that are
    true of an image, and `caption` (images,) is the index of the one written for it.

    >>> logits = torch.tensor([[9.0, 0.0], [0.0, 9.0]])
    >>> is_true, caption = torch.eye(2, dtype=torch.bool), torch.arange(2)
    >>> bool(contrastive_loss(logits, is_true, caption) < contrastive_loss(-logits, is_true, caption))
    True
    """
    rows = torch.arange(len(caption))
    matched = torch.zeros_like(is_true)
    matched[rows, caption] = True
    supervised = _supervised_loss(logits, is_true) + _supervised_loss(logits.T, is_true.T)
    without_other_true = logits.masked_fill(is_true & ~matched, float("-inf"))
    to_text = -log_softmax(without_other_true, 1)[rows, caption].mean()
    # from a caption's side, all images that it is true of are excluded, but for the one it was written for
    negatives = torch.logsumexp(torch.where(is_true, float("-inf"), logits), 0)[caption]
    positives = logits[rows, caption]
    to_image = (torch.logaddexp(negatives, positives) - positives).mean()
    return (supervised + to_text + to_image) / 4


def _supervised_loss(logits: torch.Tensor, is_true: torch.Tensor) -> torch.Tensor:
    weight = is_true.float()
    return -(log_softmax(logits, 1) * weight).sum(1).div(weight.sum(1)).mean()
