"""From what the scans say of themselves to an order; numbers alone, no files and no network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from versemi.ranking.signs import QUESTION, Signs

RULE = (
    "Score = (gap rank + doubt rank + novelty) / 3, each 0..1. Measured prompt by prompt and then"
    f" averaged, over the voxels where the prompt leads and it or foreground reaches {QUESTION:g}:"
    " gap = sum |most probable prompt - foreground| / sum max of both, doubt = mean binary entropy"
    " in bits. Their ranks are the shares of the other unlabelled cases that have less; what is not"
    " defined because nothing was found counts 0.5. Novelty: the distance, between pooled"
    " bottleneck features of length one, to the nearest case of the same modality that has a label"
    " or stands above, as the share of all pairs of cases that lie closer together; 1 where there"
    " is no such case. The next is always the case with the highest score (farthest-first, as"
    " k-centre greedy: Sener & Savarese, ICLR 2018)."
)


@dataclass(frozen=True)
class Place:
    """A case's place in the order.

    Attributes:
        index: which of the cases it is.
        score: the mean of the three that follow, 0..1.
        gap: rank of its gap.
        doubt: rank of its doubt.
        novelty: when its turn came.
        nearest: index, labelled cases first and unlabelled ones after them, of the nearest case
            with a label or above; None where there was none.
    """

    index: int
    score: float
    gap: float
    doubt: float
    novelty: float
    nearest: int | None


def in_order(
    unlabelled: Sequence[tuple[str, Signs]], labelled: Sequence[tuple[str, Signs]]
) -> list[Place]:
    """Order the unlabelled cases by what they would teach; see :data:`RULE`.

    Args:
        unlabelled: modality and signs of each.
        labelled: of each that is learnt from already.

    Returns:
        A place for each unlabelled case, the first to correct first. Of two with the same score
        the one that was given first.
    """
    gaps = ranks([signs.gap for _, signs in unlabelled])
    doubts = ranks([signs.doubt for _, signs in unlabelled])
    map_ = _Map(unlabelled, labelled)
    waiting = list(range(len(unlabelled)))
    places = []
    while waiting:
        novelty = map_.novelty()
        scores = (gaps + doubts + novelty) / 3
        best = max(waiting, key=lambda i: (scores[i], -i))
        places.append(
            Place(
                index=best,
                score=float(scores[best]),
                gap=float(gaps[best]),
                doubt=float(doubts[best]),
                novelty=float(novelty[best]),
                nearest=map_.nearest(best),
            )
        )
        map_.take(best)
        waiting.remove(best)
    return places


def ranks(values: Sequence[float | None]) -> np.ndarray:
    """The share of the other values that are smaller, ties counting half, ``(N,)`` in 0..1.

    Example:
        >>> ranks([0.3, None, 0.1, 0.9]).tolist()
        [0.5, 0.5, 0.0, 1.0]
    """
    known = np.array([value for value in values if value is not None])
    if len(known) < 2:
        return np.full(len(values), 0.5)
    found = np.full(len(values), 0.5)
    for index, value in enumerate(values):
        if value is not None:
            ties = (known == value).sum() - 1
            found[index] = ((known < value).sum() + ties / 2) / (len(known) - 1)
    return found


class _Map:
    """How far the unlabelled cases are from what is known, which grows.

    Only cases of one modality are compared; the features of others mean something else.
    """

    def __init__(
        self, unlabelled: Sequence[tuple[str, Signs]], labelled: Sequence[tuple[str, Signs]]
    ) -> None:
        every = [*labelled, *unlabelled]
        self._first = len(labelled)
        self._kinds = np.array([kind for kind, _ in every])
        self._distance = np.full((len(every), len(every)), np.inf)
        self._closeness: dict[str, np.ndarray] = {}
        for kind in dict.fromkeys(kind for kind, _ in every):
            mine = np.flatnonzero(self._kinds == kind)
            points = np.array([every[i][1].bottleneck for i in mine])
            squares = np.maximum(0, 2 - 2 * points @ points.T)
            self._distance[np.ix_(mine, mine)] = np.sqrt(squares)
            pairs = np.triu_indices(len(mine), 1)
            self._closeness[kind] = np.sort(np.sqrt(squares[pairs]))
        known = self._distance[self._first :, : self._first]
        self._nearest = np.full(len(unlabelled), -1)
        self._least = np.full(len(unlabelled), np.inf)
        if self._first:
            self._nearest = known.argmin(axis=1)
            self._least = known.min(axis=1)

    def novelty(self) -> np.ndarray:
        found = np.ones(len(self._least))
        for index in np.flatnonzero(np.isfinite(self._least)):
            pairs = self._closeness[self._kinds[self._first + index]]
            found[index] = np.searchsorted(pairs, self._least[index]) / len(pairs)
        return found

    def nearest(self, index: int) -> int | None:
        return int(self._nearest[index]) if np.isfinite(self._least[index]) else None

    def take(self, index: int) -> None:
        distance = self._distance[self._first :, self._first + index]
        closer = distance < self._least
        self._least = np.where(closer, distance, self._least)
        self._nearest = np.where(closer, self._first + index, self._nearest)
