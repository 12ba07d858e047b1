"""The two stages of training: seeded, on one thread, the same weights every time on the same machine.

The first stage learns both towers. The second keeps the image tower as it is and lets the text tower pick up how
people name things, from shapes alone: sizes where they are remarkable, plurals for several. A bare name then means one
thing of middling size a little more than others, which is what gives a ladder of category texts something to add, and
the words for digits, which are not rehearsed, fade a little.
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
from semscale.training.batches import Batch, Batcher, draw_pool, normalise
from semscale.training.captions import Offer, offer_names, offer_usual_names

_BETAS = (0.9, 0.98)


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the trained weights; learning rates are the highest of a stage."""

    steps: int = 6_000
    batch: int = 128  # images per step, half of each dataset
    pool: int = 30_000  # images drawn beforehand per dataset
    image_rate: float = 1.5e-3  # learning rate of the image tower
    text_rate: float = 1e-3  # of everything else
    weight_decay: float = 0.05  # AdamW's, on matrices outside the token table
    warmup: int = 200  # steps until the highest learning rate; a half cosine brings it down to zero afterwards
    usage_steps: int = 300  # of the second stage
    usage_rate: float = 2e-3  # learning rate of the second stage
    seed: int = 0  # of first weights, batches and captions


@dataclass(frozen=True)
class Progress:
    """Where a training stands after a step; `used_tokens` returns the rows of the token table touched so far."""

    step: int
    loss: float
    model: open_clip.CLIP
    used_tokens: Callable[[], list[int]]


def learn_both_towers(recipe: Recipe) -> Iterator[Progress]:
    """Train the bundled model's architecture from scratch on the training halves of the bundled datasets."""
    torch.manual_seed(recipe.seed)
    model = build_mini().to(memory_format=torch.channels_last).train()
    batcher = _batcher(model, recipe, BUNDLED, 7, offer_names)
    schedule = _schedule(_optimiser(model, recipe), recipe.steps, recipe.warmup)
    for step in range(1, recipe.steps + 1):
        loss = _loss(model, batcher.draw(recipe.batch))
        _descend(model, schedule, loss)
        yield Progress(step, loss.item(), model, batcher.used_tokens)


def learn_usage(recipe: Recipe, model: open_clip.CLIP) -> Iterator[Progress]:
    """Train the text tower of a trained model further, in place, on names that people would give to the images."""
    batcher = _batcher(model, recipe, ("shapes",), 8, offer_usual_names)
    model.visual.requires_grad_(False)
    text_side = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(text_side, lr=recipe.usage_rate, betas=_BETAS, weight_decay=0.0)
    schedule = _schedule(optimiser, recipe.usage_steps, warmup=0)
    for step in range(1, recipe.usage_steps + 1):
        batch = batcher.draw(recipe.batch)
        loss = _naming_loss(_logits(model, batch), batch)
        _descend(model, schedule, loss)
        yield Progress(step, loss.item(), model, batcher.used_tokens)


def _batcher(
    model: open_clip.CLIP, recipe: Recipe, datasets: Sequence[str], stage: int, offer: Callable[..., Offer]
) -> Batcher:
    _, tokenize = mini_transforms(model)
    pools = [draw_pool(name, recipe.pool) for name in datasets]
    return Batcher(pools, tokenize, np.random.default_rng([recipe.seed, stage]), offer)


def _logits(model: open_clip.CLIP, batch: Batch) -> torch.Tensor:
    preset = model.visual.preprocess_cfg
    image_rows = model.encode_image(normalise(batch.images, preset["mean"], preset["std"]), normalize=True)
    logits: torch.Tensor = model.logit_scale.exp() * image_rows @ encode_short_texts(model, batch.tokens).T
    return logits


def _naming_loss(logits: torch.Tensor, batch: Batch) -> torch.Tensor:
    return cross_entropy(logits.gather(1, batch.names), batch.shown)


def _loss(model: open_clip.CLIP, batch: Batch) -> torch.Tensor:
    logits = _logits(model, batch)
    # Captions differ in colour and size before they differ in class; the names of all classes, offered with every
    # batch, keep the image tower at the harder question from the start.
    contrast = contrastive_loss(logits[:, : batch.true.shape[1]], batch.true, batch.own)
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
    """Encode (n, 77) token numbers to (n, embed_dim) unit-length rows, without the zeros behind the longest text.

    The text tower looks only backwards, so what stands behind a text's end changes nothing.
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
        rise = min(1.0, (done + 1) / max(1, warmup))
        return rise * 0.5 * (1 + math.cos(math.pi * max(0, done + 1 - warmup) / max(1, steps - warmup)))

    return LambdaLR(optimiser, factor)


def contrastive_loss(logits: torch.Tensor, true: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
    """Return the loss of a batch, averaged over both directions (image to text, text to image).

    Half of it is the usual contrastive loss (A. Radford et al., 2021, CLIP) of each image and the caption written for
    it, with the other true captions taken out of the denominator; the other half spreads the target evenly over
    everything that is true (P. Khosla et al., 2020, Supervised Contrastive Learning).

    `logits` (images, captions) are scaled cosine similarities; `true` says whether a caption is true of an image, and
    `own` (images,) which column was written for it.

    >>> logits = torch.tensor([[9.0, 0.0], [0.0, 9.0]])
    >>> true, own = torch.eye(2, dtype=torch.bool), torch.arange(2)
    >>> bool(contrastive_loss(logits, true, own) < contrastive_loss(-logits, true, own))
    True
    """
    rows = torch.arange(len(own))
    mine = torch.zeros_like(true)
    mine[rows, own] = True
    spread = _spread(logits, true) + _spread(logits.T, true.T)
    rival = logits.masked_fill(true & ~mine, float("-inf"))
    to_text = -log_softmax(rival, 1)[rows, own].mean()
    # seen from a caption, the images it is true of are out of the way, except the one it was written for
    beside = torch.where(true, float("-inf"), logits)
    others = torch.logsumexp(beside, 0)[own]
    matched = logits[rows, own]
    to_image = (torch.logaddexp(others, matched) - matched).mean()
    return (spread + to_text + to_image) / 4


def _spread(logits: torch.Tensor, true: torch.Tensor) -> torch.Tensor:
    weight = true.float()
    return -(log_softmax(logits, 1) * weight).sum(1).div(weight.sum(1)).mean()
