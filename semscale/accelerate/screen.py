"""Screening: bfloat16 products with torch leave for each image the few texts that can be its nearest."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from semscale.accelerate.bound import BFLOAT16_UNIT, norms, screening_bound
from semscale.accelerate.resolve import Candidates
from semscale.scoring.plan import Float32, Step


class Screen:
    """The texts of a ladder as bfloat16 numbers on a device, and working memory for one block of images.

    Args:
        texts: float32[m, d].
        steps: the texts that each step adds.
        device: a torch device: `cpu`, `cuda`, `cuda:1`, ...

    Attributes:
        t_norm: the largest norm of a text embedding, rounded or not.
    """

    def __init__(self, texts: Float32, steps: Sequence[Step], device: str) -> None:
        self._steps = steps
        self._device = torch.device(device)
        own = torch.tensor(texts).bfloat16()
        rounded = own.float().numpy()
        self.t_norm = float(max(norms(texts).max(), norms(rounded).max()))
        self._t_error = float(norms(texts - rounded).max())
        self._texts = own.to(self._device)
        # The bound needs sums in float32 to the end; parts of a sum may be added as bfloat16 numbers otherwise.
        torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False

    def candidates(self, images: Float32) -> Candidates:
        """Return the texts that can be nearest, for float32[rows, d] images.

        Let b be the text with the largest screened cosine s so far and e the bound. The kernel's nearest text a has,
        before its screened cosine is rounded to bfloat16, at least that of b less 2 e; rounding keeps the order and
        moves each of the two by at most a unit roundoff. So all with a screened cosine below
        s - 2 e - 2 u (|s| + 2 e + 2 u |s|) are out.
        """
        own = torch.tensor(images).bfloat16()
        bound = torch.from_numpy(screening_bound(images, own.float().numpy(), self.t_norm, self._t_error))
        slack = 2 * bound.to(self._device)
        block = own.to(self._device)
        best = torch.full((len(images),), -torch.inf, dtype=torch.float64, device=self._device)
        floors, rows, texts, values = [], [], [], []
        for step in self._steps:
            if step.stop > step.start:
                screened = torch.mm(block, self._texts[step.start : step.stop].T).float()
                nearest = screened.amax(dim=1)
                best = torch.maximum(best, nearest.double())
                row, column = _at_least(screened, nearest, _floor(best, slack))
                rows.append(row.cpu().numpy())
                texts.append(column.cpu().numpy() + step.start)
                values.append(screened[row, column].cpu().numpy())
            floors.append(_floor(best, slack).cpu().numpy())
        row_of, text_of, value_of = (np.concatenate(parts) for parts in (rows, texts, values))
        order = np.argsort(row_of, kind="stable")
        return Candidates(row_of[order], text_of[order], value_of[order], np.stack(floors, axis=1))


def _floor(best: torch.Tensor, slack: torch.Tensor) -> torch.Tensor:
    # 2.5 instead of 2 units covers the terms of second order
    return best - slack - 2.5 * BFLOAT16_UNIT * (best.abs() + slack)


def _at_least(screened: torch.Tensor, nearest: torch.Tensor, floor: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    # a float32 floor rounded down keeps every candidate
    low = torch.nextafter(floor.float(), torch.tensor(-torch.inf, device=floor.device))
    # most rows of a later step have nothing near the best so far, and need no second look
    active = (nearest >= low).nonzero()[:, 0]
    marks = screened[active] >= low[active, None]
    if marks.device.type == "cpu":  # numpy finds the few marks several times faster than torch on a CPU
        row, column = (torch.from_numpy(each) for each in np.nonzero(marks.numpy()))
    else:
        row, column = marks.nonzero(as_tuple=True)
    return active[row], column
