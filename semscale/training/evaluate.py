"""How well a trained model labels the bundled test halves, along the published ladder of category texts."""

from __future__ import annotations

import io

import open_clip
import torch
from PIL import Image

from semscale.datasets.base import Dataset
from semscale.datasets.bundled import BUNDLED
from semscale.datasets.registry import load_dataset
from semscale.models.mini import mini_transforms

FORMS = (
    "{0}", "{0}s", "Large {0}", "Large {0}s", "Small {0}", "Small {0}s",
    "Medium {0}", "Medium {0}s", "{1} {0}", "{1} {0}s", "Tiny {0}", "Tiny {0}s",
)  # fmt: skip
"""The published ladder's categories of a class, naive plurals and all; {1} is the dataset's domain word."""

_BLOCK = 64


@torch.inference_mode()
def ladder_accuracy(model: open_clip.CLIP, dataset: Dataset) -> tuple[list[float], list[float]]:
    """Return the accuracy in percent at every scale of the published ladder, and of every form of text by itself.

    These are twelve figures with the first s forms and max aggregation, and twelve with form s alone.
    """
    preprocess, tokenize = mini_transforms(model)
    images = torch.stack(
        [preprocess(Image.open(io.BytesIO(dataset.reader.read(sample.file)))) for sample in dataset.samples]
    )
    true_class = torch.tensor([dataset.classes.index(sample.true_class) for sample in dataset.samples])
    rows = torch.cat(
        [model.encode_image(images[i : i + _BLOCK], normalize=True) for i in range(0, len(images), _BLOCK)]
    )
    best = torch.full((len(images), len(dataset.classes)), -2.0)
    together, alone = [], []
    for form in FORMS:
        texts = [form.format(name, dataset.domain.capitalize()) for name in dataset.classes]
        scores = rows @ model.encode_text(tokenize(texts), normalize=True).T
        best = torch.maximum(best, scores)
        together.append(100 * (best.argmax(1) == true_class).float().mean().item())
        alone.append(100 * (scores.argmax(1) == true_class).float().mean().item())
    return together, alone


def describe(model: open_clip.CLIP) -> dict[str, dict[str, list[float]]]:
    """Return ladder_accuracy of both bundled test halves, by dataset, rounded to a tenth of a point."""
    figures = {}
    for name in BUNDLED:
        together, alone = ladder_accuracy(model, load_dataset(name))
        figures[name] = {"ladder": [round(x, 1) for x in together], "alone": [round(x, 1) for x in alone]}
    return figures
