"""Choosing a category set on one half of a dataset's images and measuring its gain on the other half."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from semscale.analysis.greedy import PlaceTexts, Round, choose_places, halve
from semscale.analysis.intervals import change_interval, wilson_interval
from semscale.categories.candidates import Candidate, candidate_ladder, candidate_pool
from semscale.categories.ladder import Ladder
from semscale.config import study_from
from semscale.datasets.base import Dataset
from semscale.datasets.registry import load_dataset
from semscale.encoding.folder import Folder
from semscale.errors import SemscaleError
from semscale.redact import shown
from semscale.scoring.nearest import nearest_categories
from semscale.study.backends import open_encoder
from semscale.study.progress import Reporter

Float32 = npt.NDArray[np.float32]

STRATEGIES = ("templates-fixed", "image-picture", "prompts")
"""Whose places are tried unless asked otherwise: those that fit any class and need no data."""


@dataclass(frozen=True)
class Optimized:
    """A chosen category set and what it is worth.

    Attributes:
        dataset, model, strategies, seed: what was asked for.
        n_places: places that could be chosen.
        n_choosing, n_held_out: images of the halves.
        rounds: the search on the choosing half.
        tried: the best place of each round.
        ladder: the class names, and then a step for each chosen place.
        before, after: images of the held-out half that are right with the class names, and with the whole set.
        gained, lost: images of the held-out half that the set makes right, and wrong.
        unusable: images that could not be encoded and are in neither half.
    """

    dataset: str
    model: str
    strategies: tuple[str, ...]
    seed: int
    n_places: int
    n_choosing: int
    n_held_out: int
    rounds: tuple[Round, ...]
    tried: tuple[Candidate, ...]
    ladder: Ladder
    before: int
    after: int
    gained: int
    lost: int
    unusable: int

    @property
    def chosen(self) -> tuple[Candidate, ...]:
        """The places of the set, in the order in which they were found."""
        return tuple(place for place, found in zip(self.tried, self.rounds, strict=True) if found.taken)

    def held_out(self) -> dict[str, float]:
        """Return accuracies in percent with Wilson's 95 % intervals and the gain in points with its paired one."""
        n = self.n_held_out
        values: dict[str, float] = {}
        for name, correct in (("before", self.before), ("after", self.after)):
            low, high = wilson_interval(correct, n)
            values |= {name: correct / n, f"{name}_low": float(low), f"{name}_high": float(high)}
        # without a chosen place both sets are one, and its gain over itself is 0 whatever the images
        ends = map(float, change_interval(self.gained, self.lost, n)) if self.chosen else (0.0, 0.0)
        values |= dict(zip(("gain_low", "gain_high"), ends, strict=True), gain=(self.after - self.before) / n)
        return {name: 100 * value for name, value in values.items()}

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain values; accuracies in percent, gains in points."""
        rounds = [
            {
                "strategy": place.strategy,
                "place": place.number,
                "template": place.label,
                "candidates": found.candidates,
                "accuracy": 100 * found.correct / self.n_choosing,
                "gained": found.gained,
                "lost": found.lost,
                "gain_low": 100 * found.low,
                "taken": found.taken,
            }
            for place, found in zip(self.tried, self.rounds, strict=True)
        ]
        counts = {"n_images": self.n_held_out, "gained": self.gained, "lost": self.lost}
        return {
            "dataset": self.dataset,
            "model": self.model,
            "strategies": list(self.strategies),
            "seed": self.seed,
            "n_places": self.n_places,
            "n_choosing": self.n_choosing,
            "unusable": self.unusable,
            "rounds": rounds,
            "held_out": counts | self.held_out(),
            "ladder": self.ladder.to_json(),
        }


def optimize(
    dataset: str,
    model: str,
    strategies: Sequence[str],
    report: Reporter,
    store: Folder,
    servers: Sequence[str] = (),
    how: Mapping[str, Any] | None = None,
    limit: int | None = None,
    seed: int = 0,
    encoder: str | None = None,
) -> Optimized:
    """Choose a category set on one half of the images and measure it on the other.

    The halves are drawn class by class (:func:`semscale.analysis.greedy.halve`); the search is
    :func:`semscale.analysis.greedy.choose_places`; the class of an image is that of the nearest text. Embeddings come
    from the store or through the servers into it, as in a sweep.

    Args:
        dataset: its spec.
        model: its name.
        strategies: whose places are tried.
        report: shows the progress.
        store: the embedding store.
        servers: addresses of running servers; without any one is started for the time of the call.
        how: more about the dataset, as :func:`semscale.datasets.registry.load_dataset` takes it.
        limit: at most this many images.
        seed: of the halves.
        encoder: ``server`` unless given, or ``local`` for a model in this process.

    Raises:
        SemscaleError: for anything that the user can mend.
    """
    study = study_from(
        {
            "datasets": [{"spec": dataset, **(how or {})}],
            "models": [model],
            "encoder": encoder or "server",
            "server": {"urls": list(servers)},
            "limit": limit,
        }
    )
    with report.stage(f"listing {shown(dataset)}"):
        loaded = load_dataset(dataset, limit=limit, **(how or {}))
    for line in loaded.notes:
        report.note(f"{loaded.name}: {line}")
    strategies = tuple(dict.fromkeys(strategies))
    pool = candidate_pool(loaded.name, loaded.classes, loaded.domain, strategies)
    offered = [made.text for place in pool for made in place.categories.values() if made is not None]
    everything = list(dict.fromkeys([*loaded.classes, *offered]))
    with open_encoder(study, model, store, report) as rows:
        with report.stage(f"encoding {loaded.name}", len(loaded.samples), "images") as advance:
            encoded = rows.encode_images(loaded, advance)
        with report.stage("encoding categories", len(everything), "texts") as advance:
            rows.encode_texts(everything, advance)
        images, texts = rows.image_embeddings(encoded.keys), rows.text_embeddings(everything)
    with report.stage("choosing"):
        vectors = dict(zip(everything, texts, strict=True))
        return _choose(loaded, encoded.positions, model, strategies, pool, images, vectors, seed)


def _choose(
    dataset: Dataset,
    positions: npt.NDArray[np.int64],
    model: str,
    strategies: tuple[str, ...],
    pool: Sequence[Candidate],
    images: Float32,
    vectors: dict[str, Float32],
    seed: int,
) -> Optimized:
    true_class = dataset.samples.class_index[positions]
    choosing, held_out = halve(true_class, seed)
    if not len(choosing) or not len(held_out):
        raise SemscaleError("a single image cannot be halved", where=f"dataset {dataset.name}", expected="two or more")
    names = np.stack([vectors[name] for name in dataset.classes])
    rounds = choose_places(
        _place_texts(images[choosing], dataset.classes, pool, vectors), images[choosing] @ names.T, true_class[choosing]
    )
    chosen = [pool[found.place] for found in rounds if found.taken]
    note = f"chosen on {len(choosing)} of {len(true_class)} images with {model}, seed {seed}"
    ladder = candidate_ladder(dataset.name, dataset.classes, chosen, "optimized", [note])
    flat = ladder.flatten()
    texts = np.stack([vectors[text] for text in flat.texts])
    predicted = flat.class_index[nearest_categories(images[held_out], texts, flat.step_ends)]
    right = predicted == true_class[held_out][:, None]
    first, last = right[:, 0], right[:, -1]
    return Optimized(
        dataset=dataset.name,
        model=model,
        strategies=strategies,
        seed=seed,
        n_places=len(pool),
        n_choosing=len(choosing),
        n_held_out=len(held_out),
        rounds=tuple(rounds),
        tried=tuple(pool[found.place] for found in rounds),
        ladder=ladder,
        before=int(first.sum()),
        after=int(last.sum()),
        gained=int((last & ~first).sum()),
        lost=int((first & ~last).sum()),
        unusable=len(dataset.samples) - len(positions),
    )


def _place_texts(
    images: Float32, classes: Sequence[str], pool: Sequence[Candidate], vectors: dict[str, Float32]
) -> PlaceTexts:
    nothing = np.zeros(images.shape[1], dtype=np.float32)
    rows = [[place.categories[name] for name in classes] for place in pool]
    texts = np.array([[nothing if made is None else vectors[made.text] for made in row] for row in rows], np.float32)
    offered = np.array([[made is not None for made in row] for row in rows], dtype=np.bool_)
    shape = (len(pool), len(classes))
    return PlaceTexts(images, texts.reshape(*shape, images.shape[1]), offered.reshape(shape))
