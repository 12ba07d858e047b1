"""The training loop: seeded, on one thread, the same weights every time on the same machine."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import open_clip
import torch
from torch.nn.functional import cross_entropy

from semscale.serving.mini import build_mini, mini_transforms
from semscale.training.captions import CLASSES, name_captions, truth_table, write_caption
from semscale.training.data import draw_pool, normalise, take
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
class Trained:
    """The outcome: the model, the token rows that its captions touched, and the loss of every step."""

    model: open_clip.CLIP
    used_tokens: list[int]
    losses: list[float]


OnStep = Callable[[int, float, open_clip.CLIP, set[int]], None]


def train(recipe: Recipe, on_step: OnStep | None = None, seconds: float = math.inf) -> Trained:
    """Train the bundled model's architecture from scratch on the training halves of the bundled datasets.

    Args:
        recipe: sizes, rates and seed.
        on_step: called after every step with its number (from 1), its loss, the model and the tokens used so far.
        seconds: stop after this much wall time, though the schedule has not ended.
    """
    torch.manual_seed(recipe.seed)
    rng = np.random.default_rng([recipe.seed, 7])
    model = build_mini().to(memory_format=torch.channels_last).train()
    _, tokenize = mini_transforms(model)
    preset = model.visual.preprocess_cfg
    pools = [draw_pool(name, recipe.pool) for name in ("digits", "shapes")]
    optimiser = _optimiser(model, recipe)
    tokens_of: dict[str, torch.Tensor] = {}
    used: set[int] = set()
    losses: list[float] = []
    started = time.monotonic()
    for step in range(1, recipe.steps + 1):
        parts = [take(pool, recipe.batch // len(pools), rng) for pool in pools]
        truths = [truth for _, some in parts for truth in some]
        written = [write_caption(truth, rng) for truth in truths]
        claims = dict(written)  # one claim per text: a text means the same wherever it is written
        column = {text: i for i, text in enumerate(claims)}
        offered = name_captions(rng)
        names = list(dict.fromkeys(text for texts in offered.values() for text in texts))
        place = {text: len(claims) + i for i, text in enumerate(names)}
        for text in (*claims, *names):
            if text not in tokens_of:
                tokens_of[text] = tokenize([text])[0]
                used.update(tokens_of[text].tolist())
        tokens = torch.stack([tokens_of[text] for text in (*claims, *names)])
        images = normalise(torch.cat([images for images, _ in parts]), preset["mean"], preset["std"])
        true = torch.from_numpy(truth_table(list(claims.values()), truths))
        own = torch.tensor([column[text] for text, _ in written])
        choices = torch.tensor([[place[text] for text in offered[truth.size]] for truth in truths])
        shown = torch.tensor([CLASSES.index(truth.class_name) for truth in truths])

        image_rows = model.encode_image(images, normalize=True)
        text_rows = encode_short_texts(model, tokens)
        logits = model.logit_scale.exp() * image_rows @ text_rows.T
        # Captions differ in colour and size before they differ in class; the names of all classes, offered with every
        # batch, keep the image tower at the harder question from the start.
        loss = contrastive_loss(logits[:, : len(claims)], true, own)
        loss = loss + cross_entropy(logits.gather(1, choices), shown)
        _set_rates(optimiser, recipe, step)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, math.log(100))
        losses.append(loss.item())
        if on_step is not None:
            on_step(step, losses[-1], model, used)
        if time.monotonic() - started > seconds:
            break
    return Trained(model.eval(), sorted(used), losses)


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
