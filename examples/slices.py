"""Planes through a scan along the patient's axes, whatever way its voxels lie."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import map_coordinates

PIXEL_MM = 0.5
_BIN_MM = 2.0


@dataclass(frozen=True)
class View:
    """One of the three anatomical planes, in radiological convention.

    Attributes:
        name: as the picture calls it.
        normal: RAS axis (0, 1, 2) that the plane is perpendicular to.
        across: RAS axis that runs along the picture's rows.
        up: RAS axis that runs up.
        across_sign: -1 where the axis decreases to the right, as R to L does.
        sides: letters at the left, right, top and bottom.
    """

    name: str
    normal: int
    across: int
    up: int
    across_sign: int
    sides: tuple[str, str, str, str]


VIEWS = (
    View("Axial", 2, 0, 1, -1, ("R", "L", "A", "P")),
    View("Coronal", 1, 0, 2, -1, ("R", "L", "S", "I")),
    View("Sagittal", 0, 1, 2, -1, ("A", "P", "S", "I")),
)


@dataclass(frozen=True)
class Plane:
    """What one plane shows; rows from the bottom up.

    Attributes:
        view: which plane.
        position: mm along its normal.
        extent: mm of left, right, bottom and top edge, as matplotlib wants it.
        image: intensities, ``(H, W)``, nan outside the scan.
        shares: for each label value how much of each pixel is that label's, 0..1, ``(H, W)``.
    """

    view: View
    position: float
    extent: tuple[float, float, float, float]
    image: np.ndarray
    shares: Mapping[int, np.ndarray]


def cut(
    view: View,
    position: float,
    bounds: np.ndarray,
    image: np.ndarray,
    labels: np.ndarray,
    ras_to_ijk: np.ndarray,
) -> Plane:
    """Cut a plane out of a scan and its label map.

    Args:
        view: which plane.
        position: mm along its normal.
        bounds: RAS low and high corner of what is shown, ``(2, 3)``.
        image: intensities, ``(k, j, i)``.
        labels: label values on the same voxels.
        ras_to_ijk: ``(4, 4)``.
    """
    across = np.arange(bounds[0, view.across], bounds[1, view.across], PIXEL_MM)
    across = across[:: view.across_sign]
    up = np.arange(bounds[0, view.up], bounds[1, view.up], PIXEL_MM)
    points = np.empty((len(up), len(across), 3))
    points[..., view.normal] = position
    points[..., view.across] = across[None, :]
    points[..., view.up] = up[:, None]
    index = np.moveaxis((points @ ras_to_ijk[:3, :3].T + ras_to_ijk[:3, 3])[..., ::-1], -1, 0)
    shape = np.reshape(image.shape, (3, 1, 1))
    inside = ((index > -0.5) & (index < shape - 0.5)).all(axis=0)
    grey = map_coordinates(image.astype(np.float32), index, order=1, mode="nearest")
    shares = {}
    for value in np.unique(labels[labels > 0]):
        mask, start = _cropped(labels == value)
        place = index - np.reshape(start, (3, 1, 1))
        near = ((place > -1) & (place < np.reshape(mask.shape, (3, 1, 1)))).all(axis=0)
        share = np.zeros(near.shape, np.float32)
        share[near] = map_coordinates(mask, place[:, near], order=1, mode="constant")
        if share.max() > 0.5:
            shares[int(value)] = share
    extent = (float(across[0]), float(across[-1]), float(up[0]), float(up[-1]))
    return Plane(view, position, extent, np.where(inside, grey, np.nan), shares)


def best_position(labels: np.ndarray, ijk_to_ras: np.ndarray, axis: int) -> float:
    """Where along a RAS axis a plane meets the most of what was found.

    Structures count by the square root of their share of their own largest section, so that
    small ones are not lost beside large ones.
    """
    votes: dict[int, float] = {}
    positions: dict[int, float] = {}
    for value in np.unique(labels[labels > 0]):
        index = np.argwhere(labels == value)[:, ::-1]
        along = index @ ijk_to_ras[axis, :3] + ijk_to_ras[axis, 3]
        places, which, counts = np.unique(
            np.round(along / _BIN_MM).astype(int), return_inverse=True, return_counts=True
        )
        means = np.bincount(which, weights=along) / counts
        for place, count, mean in zip(places.tolist(), counts, means, strict=True):
            votes[place] = votes.get(place, 0.0) + float(np.sqrt(count / counts.max()))
            # Through the middle of voxels, not between two rows of them.
            positions[place] = float(mean)
    if not votes:
        middle = (np.array(labels.shape)[::-1] - 1) / 2
        return float(ijk_to_ras[axis, :3] @ middle + ijk_to_ras[axis, 3])
    return positions[max(votes, key=lambda place: votes[place])]


def ras_bounds(ijk_to_ras: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """The RAS box around the voxels from `low` to `high` (i, j, k): ``(2, 3)``."""
    corners = np.array(
        [[(low, high)[c >> axis & 1][axis] for axis in range(3)] for c in range(8)], dtype=float
    )
    ras = corners @ ijk_to_ras[:3, :3].T + ijk_to_ras[:3, 3]
    return np.stack([ras.min(axis=0), ras.max(axis=0)])


def _cropped(mask: np.ndarray) -> tuple[np.ndarray, list[int]]:
    """A mask cut down to what it holds and a voxel around it, float32, with its start."""
    box, start = [], []
    for axis in range(3):
        other = tuple(a for a in range(3) if a != axis)
        there = np.flatnonzero(mask.any(axis=other))
        first = max(0, int(there[0]) - 1)
        start.append(first)
        box.append(slice(first, int(there[-1]) + 2))
    return mask[tuple(box)].astype(np.float32), start
