"""Where in an uncertainty map to look, worst first."""

from dataclasses import dataclass

import numpy as np

DOUBTFUL = 0.5
"""Uncertainty from which a voxel is doubtful.

Half a bit of entropy, which is odds of eight to one; or a gap of 0.3 to *foreground*.
"""

_APART = 15.0
_REACH = 2.0
_MOST = 50


@dataclass(frozen=True)
class DoubtfulPlace:
    """A region of doubt: its worst voxel `ijk`, its volume, and its mean uncertainty there."""

    ijk: tuple[int, int, int]
    volumeMl: float
    uncertainty: float


def findDoubtfulPlaces(
    uncertainty: np.ndarray, spacing: tuple[float, float, float]
) -> list[DoubtfulPlace]:
    """The places to look at, worst first and at most 50 of them.

    `uncertainty` (k, j, i) is in 0..1; `spacing` (i, j, k) in mm. Connected voxels that are
    doubtful make a region. Around every structure lies a thin and even layer of doubt, which joins
    everything on its surface; so what counts is doubt on average over a few millimetres, which is
    high where the layer is thick, and a region that reaches further than 15 mm from its worst
    place has several.
    """
    doubtful = uncertainty >= DOUBTFUL
    spans = [
        np.flatnonzero(doubtful.any(axis=tuple(other for other in range(3) if other != axis)))
        for axis in range(3)
    ]
    if any(span.size == 0 for span in spans):
        return []
    box = tuple(slice(int(span[0]), int(span[-1]) + 1) for span in spans)
    averaged, regions = _averageAndConnect(uncertainty[box], doubtful[box], spacing)

    voxels = np.argwhere(doubtful[box])
    values = averaged[doubtful[box]]
    labels = regions[doubtful[box]]
    points = voxels * np.array(spacing[::-1])
    start = np.array([piece.start for piece in box])
    voxelMl = float(np.prod(spacing)) / 1000
    left = np.ones(len(voxels), bool)
    places = []
    while left.any() and len(places) < _MOST:
        worst = int(np.argmax(np.where(left, values, -1.0)))
        near = np.linalg.norm(points - points[worst], axis=1) <= _APART
        taken = left & near & (labels == labels[worst])
        left &= ~taken
        k, j, i = (int(n) for n in voxels[worst] + start)
        places.append(DoubtfulPlace((i, j, k), int(taken.sum()) * voxelMl, float(values[worst])))
    return places


def _averageAndConnect(
    uncertainty: np.ndarray, doubtful: np.ndarray, spacing: tuple[float, float, float]
) -> tuple[np.ndarray, np.ndarray]:
    """The map averaged over a few millimetres, and a number for each connected region."""
    # Part of Slicer, and slow to import.
    from scipy import ndimage

    size = [2 * round(_REACH / step) + 1 for step in spacing[::-1]]
    averaged = uncertainty.astype(np.float32)
    # Twice, so that the middle of a region counts for more than what is near its edge.
    for _ in range(2):
        averaged = ndimage.uniform_filter(averaged, size, mode="constant")
    regions, _ = ndimage.label(doubtful, np.ones((3, 3, 3)))
    return averaged, regions
