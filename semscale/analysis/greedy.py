"""Greedy forward selection of categories, with the interval of the gain as stopping rule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from semscale.analysis.answer_patterns import Bool
from semscale.analysis.intervals import change_interval

Float32 = NDArray[np.float32]
Int32 = NDArray[np.int32]
Index = NDArray[np.intp]

RISK = 0.05
"""Default probability that a round takes a candidate when none improves accuracy."""


class Similarities(Protocol):
    """Similarities of n images to P candidates: item p is float32[n, C], to each class's text of candidate p.

    The similarity is -inf where a class has no text in the candidate. float32[P, n, C] is one implementation,
    :class:`CandidateTexts` another.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, candidate: int, /) -> Float32: ...


@dataclass(frozen=True)
class CandidateTexts:
    """Similarities of images, float32[n, d], to texts, float32[P, C, d], multiplied when an item is read.

    `offered`, bool[P, C], is whether the class has a text in the candidate.
    """

    images: Float32
    texts: Float32
    offered: Bool

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, candidate: int, /) -> Float32:
        similarity: Float32 = self.images @ self.texts[candidate].T
        similarity[:, ~self.offered[candidate]] = -np.inf
        return similarity


@dataclass(frozen=True)
class SelectionRound:
    """The best of `n_candidates` in one round of the search, and the number of images that are correct with it.

    `low` is the lower end of the one-sided interval of its gain, as a share of the images; the search ends with the
    first candidate that is not taken because that is not above 0.
    """

    candidate: int
    n_candidates: int
    correct: int
    gained: int
    lost: int
    low: float
    taken: bool


def select_candidates(
    candidates: Similarities, start: Float32, true_class: Int32, risk: float = RISK
) -> list[SelectionRound]:
    """Add candidates to the start one by one, each time the most accurate one, as long as its gain is significant.

    An image gets the class of the nearest of all texts taken so far (the aggregation `max`), so a candidate costs one
    `np.maximum` and one `argmax` over float32[n, C]. Of equally accurate candidates the earlier one is tried, of equal
    similarities the earlier class wins.

    A candidate is taken when the one-sided interval of its gain (:func:`semscale.analysis.intervals.change_interval`)
    excludes 0. As it is the best of m candidates, the interval has confidence 1 - risk / m (Bonferroni): when no
    candidate improves accuracy, a round takes one with probability `risk` at most. The gain on these images is the
    largest of many and so biased upwards; measure it on other images.

    Memory besides the inputs: three times `n * C * 4` bytes, and an item of `candidates`.

    Args:
        candidates: the P candidates.
        start: float32[n, C], similarity to the class names.
        true_class: int32[n].
        risk: between 0 and 1.

    Returns:
        A round for each candidate taken, and a last one for the best candidate that was not, unless none was left.

    Raises:
        ValueError: no image, a risk out of range, or an item of another shape.

    >>> start = np.tile(np.float32([0.5, 0.4]), (40, 1))
    >>> true = np.repeat([0, 1], [20, 20]).astype(np.int32)
    >>> useless, useful = np.zeros_like(start), np.eye(2, dtype=np.float32)[true]
    >>> [(each.candidate, each.correct, each.taken) for each in select_candidates([useless, useful], start, true)]
    [(1, 40, True), (0, 40, False)]
    """
    if not len(true_class) or not 0 < risk < 1:
        raise ValueError(f"expected images and a risk between 0 and 1, but got {len(true_class)} and {risk}")
    best = np.array(start, dtype=np.float32)
    workspace = np.empty_like(best)
    correct: Bool = best.argmax(axis=1) == true_class
    remaining = list(range(len(candidates)))
    rounds: list[SelectionRound] = []
    while remaining and (not rounds or rounds[-1].taken):
        top, top_correct = -1, correct
        for candidate in remaining:
            similarity = candidates[candidate]
            if similarity.shape != best.shape:
                raise ValueError(
                    f"expected candidate {candidate} to be {list(best.shape)}, got {list(similarity.shape)}"
                )
            with_candidate: Bool = np.maximum(best, similarity, out=workspace).argmax(axis=1) == true_class
            if top < 0 or with_candidate.sum() > top_correct.sum():
                top, top_correct = candidate, with_candidate
        gained, lost = int((top_correct & ~correct).sum()), int((correct & ~top_correct).sum())
        low = float(change_interval(gained, lost, len(correct), 1 - 2 * risk / len(remaining))[0])
        rounds.append(SelectionRound(top, len(remaining), int(top_correct.sum()), gained, lost, low, low > 0))
        np.maximum(best, candidates[top], out=best)
        correct = top_correct
        remaining.remove(top)
    return rounds


def stratified_halves(true_class: Int32, seed: int = 0) -> tuple[Index, Index]:
    """Return the sorted indices of two random halves of int32[n], stratified by class.

    The odd images of classes go to the two halves in turn.

    >>> [half.tolist() for half in stratified_halves(np.array([0, 0, 1, 1, 1, 1], np.int32))]
    [[1, 3, 5], [0, 2, 4]]
    """
    rng = np.random.default_rng(seed)
    halves: tuple[list[Index], list[Index]] = ([], [])
    larger = 0
    for label in np.unique(true_class):
        members = rng.permutation(np.flatnonzero(true_class == label))
        middle = len(members) // 2
        halves[larger].append(members[middle:])
        halves[1 - larger].append(members[:middle])
        larger = (larger + len(members)) % 2
    empty = np.empty(0, dtype=np.intp)
    return np.sort(np.concatenate([empty, *halves[0]])), np.sort(np.concatenate([empty, *halves[1]]))
