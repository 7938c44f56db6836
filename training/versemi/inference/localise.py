"""The coarse first pass: where each prompt is, so that the fine pass need not look elsewhere."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk

from versemi.geometry import Box, Grid

Corners = tuple[tuple[int, int], ...]

_THRESHOLD = 0.25
_SHARE = 0.05


def region_of(probability: np.ndarray, coarse: Grid, fine: Grid, margin: float) -> Box | None:
    """The part of the fine grid where a coarse answer sees its structure.

    Components that hold less than a twentieth of the largest one's probability are noise.

    Args:
        probability: ``(z, y, x)`` on `coarse`.
        coarse, fine: grids along the same axes.
        margin: mm around the structure.

    Returns:
        A box of `fine`, or None where the coarse pass sees nothing.
    """
    mask = probability > _THRESHOLD
    if not mask.any():
        return None
    labels = components(mask)
    mass = np.bincount(labels.ravel(), weights=probability.ravel())
    mass[0] = 0
    kept = np.argwhere((mass >= _SHARE * mass.max())[labels] & mask)
    low, high = kept.min(axis=0)[::-1], kept.max(axis=0)[::-1]
    spacing = np.array(coarse.spacing)
    first = np.array(coarse.origin) + (low - 0.5) * spacing - margin
    last = np.array(coarse.origin) + (high + 0.5) * spacing + margin
    return box_of(first, last, fine)


def box_of(low: np.ndarray, high: np.ndarray, grid: Grid) -> Box | None:
    """The voxels of `grid` between two LPS corners ``(x, y, z)``; None if there are none."""
    start = np.floor((low - grid.origin) / grid.spacing + 0.5).astype(int)
    stop = np.ceil((high - grid.origin) / grid.spacing + 0.5).astype(int)
    start, stop = np.maximum(start, 0), np.minimum(stop, grid.size)
    if (stop <= start).any():
        return None
    x, y, z = (slice(int(a), int(b)) for a, b in zip(start, stop, strict=True))
    return z, y, x


def corners_of(box: Box) -> Corners:
    """A box as numbers, which unlike slices can be a key before Python 3.12."""
    return tuple((s.start, s.stop) for s in box)


def components(mask: np.ndarray) -> np.ndarray:
    """Number the face-connected components of a mask ``(z, y, x)``: int32, 0 is outside."""
    image = sitk.GetImageFromArray(mask.astype(np.uint8))
    return sitk.GetArrayFromImage(sitk.ConnectedComponent(image)).astype(np.int32)


def clean(probability: np.ndarray, keep: str, min_ml: float, voxel_ml: float) -> np.ndarray:
    """Push components that a prompt's clean-up drops below one half.

    Args:
        probability: ``(z, y, x)``; changed in place.
        keep: ``"largest"`` or ``"all"``.
        min_ml: smallest component that is kept.
        voxel_ml: volume of a voxel.

    Returns:
        `probability`.
    """
    mask = probability > 0.5
    if not mask.any() or (keep == "all" and min_ml <= 0):
        return probability
    labels = components(mask)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    dropped = sizes * voxel_ml < min_ml
    if keep == "largest":
        dropped |= np.arange(len(sizes)) != sizes.argmax()
    dropped[0] = False
    probability[dropped[labels]] = 0.49
    return probability
