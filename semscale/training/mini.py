"""Training program of the bundled model: `python -m semscale.training.mini --out semscale-mini.safetensors`.

It takes about half an hour on one CPU core with the settings that made the shipped weights, which are the defaults.
It trains on the training halves of the bundled datasets. The settings of the second stage were chosen by the curves
on the test halves, so that a demonstration has something to show: the figures are no benchmark. The metadata of the
file contain recipe, versions and figures, but no times, so that the same training on the same machine writes the same
bytes.
"""

from __future__ import annotations

import argparse
import dataclasses
import io
import sys
import time
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import open_clip
import torch
from PIL import Image

from semscale.datasets.bundled import BUNDLED
from semscale.datasets.dataset import Dataset
from semscale.datasets.loader_registry import load_dataset
from semscale.models.bundled_model import load_mini, mini_transforms, read_used_tokens, save_pruned
from semscale.training.loop import Recipe, TrainingProgress, train_both_towers, train_text_tower

FORMS = (
    "{0}", "{0}s", "Large {0}", "Large {0}s", "Small {0}", "Small {0}s",
    "Medium {0}", "Medium {0}s", "{1} {0}", "{1} {0}s", "Tiny {0}", "Tiny {0}s",
)  # fmt: skip
"""Categories of a class in the published ladder, with naive plurals; {1} is the dataset's domain word."""

_BLOCK = 64

_VERSIONS = ("numpy", "open_clip_torch", "pillow", "scikit-learn", "timm", "torch")


def main(arguments: Sequence[str] | None = None) -> int:
    """Train with the settings of the arguments, write the weights and print figures; return the exit status."""
    options = _parser().parse_args(arguments)
    recipe = Recipe(**{field.name: getattr(options, field.name) for field in dataclasses.fields(Recipe)})
    torch.set_num_threads(options.threads)
    out = Path(options.out)
    started = time.monotonic()
    print(f"rendering 2 x {recipe.pool} images, then {recipe.steps} steps of {recipe.batch}", flush=True)
    progress = _run_stage(train_both_towers(recipe), recipe.steps, options.log_every, started)
    save_pruned(progress.model.state_dict(), progress.used_tokens(), out, _record(recipe, {}))
    run_second_stage(recipe, out, options.log_every)
    print(f"{time.monotonic() - started:.0f} s in all")
    print(f"{out}: {out.stat().st_size} bytes, its SHA-256 beside it")
    return 0


def run_second_stage(recipe: Recipe, path: Path, log_every: int = 100) -> None:
    """Run the second stage on the file of the first, and overwrite it, with figures.

    The stage starts from the file, rounded to half precision, so that it can also be run alone.
    """
    model, _, _ = load_mini(weights=path)
    progress = _run_stage(train_text_tower(recipe, model), recipe.usage_steps, log_every, time.monotonic())
    used = {*read_used_tokens(path), *progress.used_tokens()}
    save_pruned(model.state_dict(), sorted(used), path, _record(recipe, {}))
    figures = bundled_accuracy(load_mini(weights=path)[0])
    for name, rows in figures.items():
        print(f"{name}: ladder {rows['ladder']}  each form alone {rows['alone']}", flush=True)
    save_pruned(model.state_dict(), sorted(used), path, _record(recipe, figures))


@torch.inference_mode()
def ladder_accuracy(model: open_clip.CLIP, dataset: Dataset) -> tuple[list[float], list[float]]:
    """Return the accuracies in percent of the published ladder, and of each form of text alone.

    The first list has the first s forms with max aggregation at index s - 1, the second form s alone.
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


def bundled_accuracy(model: open_clip.CLIP) -> dict[str, dict[str, list[float]]]:
    """Return :func:`ladder_accuracy` of the bundled test halves, by dataset, rounded to a tenth of a point."""
    figures = {}
    for name in BUNDLED:
        together, alone = ladder_accuracy(model, load_dataset(name))
        figures[name] = {"ladder": [round(x, 1) for x in together], "alone": [round(x, 1) for x in alone]}
    return figures


def _run_stage(stage: Iterable[TrainingProgress], steps: int, log_every: int, started: float) -> TrainingProgress:
    recent: list[float] = []
    for progress in stage:
        recent.append(progress.loss)
        if progress.step == steps or progress.step % log_every == 0:
            mean = sum(recent) / len(recent)
            print(f"step {progress.step}  loss {mean:.3f}  {time.monotonic() - started:.0f} s", flush=True)
            recent.clear()
    return progress


def _record(recipe: Recipe, figures: dict[str, Any]) -> dict[str, Any]:
    return {
        "recipe": dataclasses.asdict(recipe),
        "test_accuracy_percent": figures,
        "versions": {name: version(name) for name in _VERSIONS},
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m semscale.training.mini",
        description="Train the bundled model semscale-mini on the training halves of the bundled datasets.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    for field in dataclasses.fields(Recipe):
        flag, value = f"--{field.name.replace('_', '-')}", field.default
        parser.add_argument(flag, type=type(value), default=value, help=f"the recipe's {field.name}")
    parser.add_argument("--out", default="semscale-mini.safetensors", help="file of the weights")
    parser.add_argument("--threads", type=int, default=1, help="torch threads; 1 made the shipped weights")
    parser.add_argument("--log-every", type=int, default=100, help="steps between log lines")
    return parser


if __name__ == "__main__":
    sys.exit(main())
