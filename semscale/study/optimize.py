"""Greedy forward selection of category texts on one half of a dataset's images, evaluated on the other half."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from semscale.analysis.greedy import CandidateTexts, SelectionRound, select_candidates, stratified_halves
from semscale.analysis.intervals import change_interval, wilson_interval
from semscale.categories.candidates import Candidate, candidate_ladder, candidate_pool
from semscale.categories.ladder import Ladder
from semscale.common.errors import SemscaleError
from semscale.common.progress import ProgressReporter
from semscale.common.redact import mask_url
from semscale.config import StudyConfig
from semscale.datasets.dataset import Dataset
from semscale.encoding.backends import open_encoder
from semscale.scoring.nearest import nearest_categories
from semscale.store.mirrored_directory import store_directory
from semscale.study.arms import load_study_dataset

Float32 = npt.NDArray[np.float32]

DEFAULT_STRATEGIES = ("templates-fixed", "image-picture", "prompts")
"""Strategies whose texts are candidates by default: they fit any class and need no data."""


@dataclass(frozen=True)
class OptimizedCategories:
    """A selected category set and its held-out gain: a ladder of the class names, then a step per chosen position.

    Of `n_positions` positions of the strategies' lists, `tried` has the best of each round on the choosing half. The
    counts are images of the held-out half: right with the class names (`before`), right with the whole set (`after`),
    made right (`gained`) and made wrong (`lost`) by the set. Unusable images are in neither half.
    """

    dataset: str
    model: str
    strategies: tuple[str, ...]
    seed: int
    n_positions: int
    n_choosing: int
    n_held_out: int
    rounds: tuple[SelectionRound, ...]
    tried: tuple[Candidate, ...]
    ladder: Ladder
    before: int
    after: int
    gained: int
    lost: int
    unusable: int

    @property
    def chosen(self) -> tuple[Candidate, ...]:
        """The candidates of the set, in the order of their rounds."""
        return tuple(candidate for candidate, round_ in zip(self.tried, self.rounds, strict=True) if round_.taken)

    def held_out(self) -> dict[str, float]:
        """Return accuracies in percent with Wilson's 95 % intervals and the gain in points with its paired one."""
        n = self.n_held_out
        values: dict[str, float] = {}
        for name, correct in (("before", self.before), ("after", self.after)):
            low, high = wilson_interval(correct, n)
            values |= {name: correct / n, f"{name}_low": float(low), f"{name}_high": float(high)}
        # without a chosen position both sets are equal, and the gain is exactly 0
        ends = map(float, change_interval(self.gained, self.lost, n)) if self.chosen else (0.0, 0.0)
        values |= dict(zip(("gain_low", "gain_high"), ends, strict=True), gain=(self.after - self.before) / n)
        return {name: 100 * value for name, value in values.items()}

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain values; accuracies in percent, gains in points."""
        rounds = [
            {"strategy": candidate.strategy, "position": candidate.index, "template": candidate.label}
            | {"accuracy": 100 * round_.correct / self.n_choosing, "gain_low": 100 * round_.low}
            | {name: getattr(round_, name) for name in ("n_candidates", "gained", "lost", "taken")}
            for candidate, round_ in zip(self.tried, self.rounds, strict=True)
        ]
        counts = {"n_images": self.n_held_out, "gained": self.gained, "lost": self.lost}
        names = ("dataset", "model", "strategies", "seed", "n_positions", "n_choosing", "unusable")
        document = {name: getattr(self, name) for name in names} | {"strategies": list(self.strategies)}
        return document | {"rounds": rounds, "held_out": counts | self.held_out(), "ladder": self.ladder.to_json()}


def optimize(
    study: StudyConfig, strategies: Sequence[str], report: ProgressReporter, seed: int = 0
) -> OptimizedCategories:
    """Select a category set for the dataset and model of a study on half of the images, and evaluate it on the others.

    The halves are drawn within classes with this seed; an image is labelled with the class of the nearest text.
    """
    (config,), (model,) = study.datasets, study.models
    with report.stage(f"listing {mask_url(config.spec)}"):
        dataset = load_study_dataset(study, config)
    for line in dataset.notes:
        report.note(f"{dataset.name}: {line}")
    strategies = tuple(dict.fromkeys(strategies))
    pool = candidate_pool(dataset.name, dataset.classes, dataset.domain, strategies)
    offered = [one.text for candidate in pool for one in candidate.categories.values() if one is not None]
    all_texts = list(dict.fromkeys([*dataset.classes, *offered]))
    with open_encoder(study, model, store_directory(study.store), report) as encoder:
        with report.stage(f"encoding {dataset.name}", len(dataset.samples), "images") as advance:
            encoded = encoder.encode_images(dataset, advance)
        with report.stage("encoding categories", len(all_texts), "texts") as advance:
            encoder.encode_texts(all_texts, advance)
        texts = dict(zip(all_texts, encoder.text_embeddings(all_texts), strict=True))
        embedded = EmbeddedDataset(dataset, encoded.positions, encoder.image_embeddings(encoded.keys), texts)
    with report.stage("choosing"):
        return choose_categories(embedded, pool, model, strategies, seed)


@dataclass(frozen=True)
class EmbeddedDataset:
    """A dataset with unit embeddings of its usable images, float32[n, d] at `positions`, and of texts, float32[d]."""

    dataset: Dataset
    positions: npt.NDArray[np.int64]
    images: Float32
    texts: Mapping[str, Float32]


def choose_categories(
    embedded: EmbeddedDataset, pool: Sequence[Candidate], model: str, strategies: tuple[str, ...], seed: int
) -> OptimizedCategories:
    """Select from the pool on one half of the images, and evaluate the chosen ladder on the other."""
    dataset, images, texts = embedded.dataset, embedded.images, embedded.texts
    true_class = dataset.samples.class_index[embedded.positions]
    choosing, held_out = stratified_halves(true_class, seed)
    if not len(choosing) or not len(held_out):
        raise SemscaleError("a single image cannot be halved", where=f"dataset {dataset.name}", expected="two or more")
    names = np.stack([texts[name] for name in dataset.classes])
    candidates = _candidate_texts(images[choosing], dataset.classes, pool, texts)
    rounds = select_candidates(candidates, images[choosing] @ names.T, true_class[choosing])
    chosen = [pool[round_.candidate] for round_ in rounds if round_.taken]
    note = f"chosen on {len(choosing)} of {len(true_class)} images with {model}, seed {seed}"
    ladder = candidate_ladder(dataset.name, dataset.classes, chosen, "optimized", [note])
    flat = ladder.flatten()
    rows = np.stack([texts[text] for text in flat.texts])
    predicted = flat.class_index[nearest_categories(images[held_out], rows, flat.step_ends)]
    right = predicted == true_class[held_out][:, None]
    first, last = right[:, 0], right[:, -1]
    return OptimizedCategories(
        dataset=dataset.name,
        model=model,
        strategies=strategies,
        seed=seed,
        n_positions=len(pool),
        n_choosing=len(choosing),
        n_held_out=len(held_out),
        rounds=tuple(rounds),
        tried=tuple(pool[round_.candidate] for round_ in rounds),
        ladder=ladder,
        before=int(first.sum()),
        after=int(last.sum()),
        gained=int((last & ~first).sum()),
        lost=int((first & ~last).sum()),
        unusable=len(dataset.samples) - len(embedded.positions),
    )


def _candidate_texts(
    images: Float32, classes: Sequence[str], pool: Sequence[Candidate], texts: Mapping[str, Float32]
) -> CandidateTexts:
    missing = np.zeros(images.shape[1], dtype=np.float32)
    categories = [[candidate.categories[name] for name in classes] for candidate in pool]
    rows = np.array([[texts[one.text] if one else missing for one in row] for row in categories], np.float32)
    offered = np.array([[one is not None for one in row] for row in categories], dtype=np.bool_)
    shape = (len(pool), len(classes))
    return CandidateTexts(images, rows.reshape(*shape, images.shape[1]), offered.reshape(shape))
