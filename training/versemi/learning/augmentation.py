"""Random geometry and intensities for one crop, from an explicit random generator.

Geometry is one affine resampling that also cuts the crop out of the scan, so a rotated crop
has true image content in its corners. Intensities are MONAI's transforms.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from monai.transforms import (
    Compose,
    RandAdjustContrast,
    RandBiasField,
    RandGaussianNoise,
    RandGaussianSmooth,
    RandScaleIntensity,
    RandShiftIntensity,
    RandSimulateLowResolution,
)
from torch import Tensor

from versemi.preprocessing import OUTSIDE
from versemi.tasks import TASKS, mirrored


@dataclass(frozen=True)
class GeometryRange:
    """How far the geometry of a crop may stray.

    Attributes:
        probability: of any rotation or scaling at all.
        degrees: largest rotation about each axis.
        scale: largest factor of growth or shrinkage, per axis in part.
        flips: probability of a flip along ``(z, y, x)``; a flip along x swaps sided prompts.
    """

    probability: float = 0.4
    degrees: float = 15.0
    scale: float = 1.25
    flips: tuple[float, float, float] = (0.0, 0.0, 0.2)


def random_affine(
    rng: np.random.Generator, ranges: GeometryRange, spacing: np.ndarray
) -> tuple[np.ndarray, bool]:
    """Draw a map from crop offsets to scan offsets in voxels.

    Args:
        rng: source of all chance.
        ranges: how far to stray.
        spacing: mm, ``(z, y, x)``; rotations are rotations in mm.

    Returns:
        Matrix ``(3, 3)`` acting on ``(z, y, x)`` offsets, and whether left and right changed
        places.
    """
    matrix = np.eye(3)
    if rng.random() < ranges.probability:
        for axis, angle in enumerate(rng.uniform(-1, 1, 3) * np.deg2rad(ranges.degrees)):
            a, b = [i for i in range(3) if i != axis]
            turn = np.eye(3)
            turn[a, a] = turn[b, b] = np.cos(angle)
            turn[a, b], turn[b, a] = -np.sin(angle), np.sin(angle)
            matrix = matrix @ turn
        whole = rng.uniform(-1, 1) * np.log(ranges.scale)
        each = rng.uniform(-1, 1, 3) * np.log(ranges.scale) / 3
        matrix = matrix @ np.diag(np.exp(whole + each))
    flips = rng.random(3) < np.array(ranges.flips)
    matrix = matrix @ np.diag(np.where(flips, -1.0, 1.0))
    return np.diag(1 / spacing) @ matrix @ np.diag(spacing), bool(flips[2])


def cut(
    image: np.ndarray,
    labels: np.ndarray,
    centre: np.ndarray,
    matrix: np.ndarray,
    shape: tuple[int, int, int],
) -> tuple[Tensor, Tensor]:
    """Cut a crop around `centre` through the affine `matrix`.

    Args:
        image: ``(z, y, x)`` in [-1, 1], may be mapped; only the part needed is read.
        labels: uint8, same shape.
        centre: voxel coordinates ``(z, y, x)``.
        matrix: ``(3, 3)``, crop offsets to scan offsets in voxels.
        shape: of the crop, ``(z, y, x)``.

    Returns:
        float32 image and uint8 labels of `shape`; -1 and 0 outside the scan.
    """
    reach = np.abs(matrix) @ (np.array(shape) / 2) + 2
    start = np.clip(np.floor(centre - reach).astype(int), 0, np.array(image.shape) - 1)
    stop = np.clip(np.ceil(centre + reach).astype(int) + 1, start + 1, image.shape)
    box = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
    # Shifted by one so that the zeros outside mean "nothing there".
    part = torch.from_numpy(image[box].astype(np.float32)) - OUTSIDE
    truth = torch.from_numpy(labels[box].astype(np.float32))

    size = np.array(part.shape)
    offset = centre + 0.5 - start - size / 2
    # grid_sample works in (x, y, z) from -1 to 1 over the part; align_corners is False.
    theta = np.concatenate(
        [np.diag(2 / size) @ matrix @ np.diag(np.array(shape) / 2), (2 * offset / size)[:, None]],
        axis=1,
    )
    theta = theta[::-1][:, [2, 1, 0, 3]].copy()
    grid = F.affine_grid(torch.from_numpy(theta).float()[None], [1, 1, *shape], align_corners=False)
    crop = F.grid_sample(part[None, None], grid, mode="bilinear", align_corners=False)
    mask = F.grid_sample(truth[None, None], grid, mode="nearest", align_corners=False)
    return crop[0, 0] + OUTSIDE, mask[0, 0].to(torch.uint8)


def swap_sides(labels: Tensor) -> Tensor:
    """Give every sided structure the label of its other side, as a left-right flip demands."""
    table = torch.arange(256, dtype=torch.uint8)
    for task in TASKS.values():
        table[task.label] = TASKS[mirrored(task.id)].label
    return table[labels.long()]


def intensity_augmentation(modality: str) -> Compose:
    """MONAI transforms for crops ``(1, z, y, x)`` in [-1, 1] of a modality.

    MR varies far more between scanners than CT, whose numbers mean something.
    """
    wide = modality == "MR"
    steps = [
        RandGaussianSmooth(sigma_x=(0.3, 1.0), sigma_y=(0.3, 1.0), sigma_z=(0.3, 1.0), prob=0.1),
        RandSimulateLowResolution(prob=0.1, zoom_range=(0.5, 0.9)),
        RandScaleIntensity(factors=0.25 if wide else 0.1, prob=0.5),
        RandShiftIntensity(offsets=0.2 if wide else 0.1, prob=0.5),
        RandGaussianNoise(prob=0.2, std=0.15),
    ]
    if wide:
        steps.insert(0, RandBiasField(degree=2, coeff_range=(0.0, 0.15), prob=0.15))
        steps.insert(1, RandAdjustContrast(gamma=(0.7, 1.5), prob=0.3))
    return Compose(steps)
