"""Greedy choice of categories, with the interval of the gain as stopping rule."""

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
"""Of a round that takes a candidate although none helps."""


class Similarities(Protocol):
    """What P candidates say of n images: item p is float32[n, C], the similarity to each class's text of candidate p.

    -inf stands where a class has no text in the candidate. float32[P, n, C] is one, :class:`CandidateTexts` another.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, candidate: int, /) -> Float32: ...


@dataclass(frozen=True)
class CandidateTexts:
    """The similarities of images, float32[n, d], to texts, float32[P, C, d], multiplied when an item is read.

    `offered`, bool[P, C], tells whether the class has a text in the candidate.
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
class Round:
    """The best of `n_candidates` in one round of the search; with it these images are correct.

    `low` is the lower end of the one-sided interval of its gain, as a share of the images; the search ends with the
    first candidate that is not taken because the interval does not lie above 0.
    """

    candidate: int
    n_candidates: int
    correct: int
    gained: int
    lost: int
    low: float
    taken: bool


def select_candidates(candidates: Similarities, start: Float32, true_class: Int32, risk: float = RISK) -> list[Round]:
    """Add candidates to the start one by one, each time the one with most images right, as long as the gain is sure.

    An image gets the class of the nearest of all texts taken so far (the aggregation `max`), so a candidate costs one
    `np.maximum` and one `argmax` over float32[n, C]. Of candidates with as many images right the earlier one is tried,
    of equal similarities the earlier class wins.

    A candidate is taken when the one-sided interval of its gain (:func:`semscale.analysis.intervals.change_interval`)
    excludes 0. As it is the best of m candidates, the interval has confidence 1 - risk / m (Bonferroni): when no
    candidate helps, a round takes one in at most `risk` of all searches. The gain on these images is still the largest
    of many and so flattered; other images must measure it.

    Memory beyond the inputs: three times `n * C * 4` bytes, and an item of `candidates`.

    Args:
        candidates: the P candidates.
        start: float32[n, C], similarity to the class names.
        true_class: int32[n].
        risk: between 0 and 1.

    Returns:
        A round for each candidate taken, and a last one for the best candidate that was not, unless nothing was left.

    Raises:
        ValueError: there is no image, the risk is out of range or an item has another shape.

    >>> start = np.tile(np.float32([0.5, 0.4]), (40, 1))
    >>> true = np.repeat([0, 1], [20, 20]).astype(np.int32)
    >>> useless, useful = np.zeros_like(start), np.eye(2, dtype=np.float32)[true]
    >>> [(found.candidate, found.correct, found.taken) for found in select_candidates([useless, useful], start, true)]
    [(1, 40, True), (0, 40, False)]
    """
    if not len(true_class) or not 0 < risk < 1:
        raise ValueError(f"expected images and a risk between 0 and 1, but got {len(true_class)} and {risk}")
    best = np.array(start, dtype=np.float32)
    offered = np.empty_like(best)
    right: Bool = best.argmax(axis=1) == true_class
    left = list(range(len(candidates)))
    rounds: list[Round] = []
    while left and (not rounds or rounds[-1].taken):
        top, top_right = -1, right
        for candidate in left:
            similarity = candidates[candidate]
            if similarity.shape != best.shape:
                raise ValueError(
                    f"expected candidate {candidate} to be {list(best.shape)}, got {list(similarity.shape)}"
                )
            now: Bool = np.maximum(best, similarity, out=offered).argmax(axis=1) == true_class
            if top < 0 or now.sum() > top_right.sum():
                top, top_right = candidate, now
        gained, lost = int((top_right & ~right).sum()), int((right & ~top_right).sum())
        low = float(change_interval(gained, lost, len(right), 1 - 2 * risk / len(left))[0])
        rounds.append(Round(top, len(left), int(top_right.sum()), gained, lost, low, low > 0))
        np.maximum(best, candidates[top], out=best)
        right = top_right
        left.remove(top)
    return rounds


def halve(true_class: Int32, seed: int = 0) -> tuple[Index, Index]:
    """Split images into two halves at random, each class by itself; the odd images of classes go to either in turn.

    Returns the ascending indices of both halves of int32[n].

    >>> [half.tolist() for half in halve(np.array([0, 0, 1, 1, 1, 1], np.int32))]
    [[1, 3, 5], [0, 2, 4]]
    """
    rng = np.random.default_rng(seed)
    halves: tuple[list[Index], list[Index]] = ([], [])
    larger = 0
    for name in np.unique(true_class):
        mine = rng.permutation(np.flatnonzero(true_class == name))
        middle = len(mine) // 2
        halves[larger].append(mine[middle:])
        halves[1 - larger].append(mine[:middle])
        larger = (larger + len(mine)) % 2
    none = np.empty(0, dtype=np.intp)
    return np.sort(np.concatenate([none, *halves[0]])), np.sort(np.concatenate([none, *halves[1]]))
