"""The image-text loss where several captions of a batch may be true of one image."""

from __future__ import annotations

import torch
from torch.nn.functional import log_softmax


def contrastive_loss(logits: torch.Tensor, true: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
    """Return the loss of a batch, averaged over both directions (image to text, text to image).

    Half of it is the usual contrastive loss (A. Radford et al., 2021, CLIP) of each image and the caption written for
    it, with the other true captions taken out of the denominator; the other half spreads the target evenly over
    everything that is true (P. Khosla et al., 2020, Supervised Contrastive Learning).

    Args:
        logits: (images, captions) scaled cosine similarities; no caption text occurs twice.
        true: (images, captions) whether the caption is true of the image.
        own: (images,) column of the caption that was written for the image.

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
