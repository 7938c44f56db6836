"""Where a crop is cut out of a scan, and how it is changed on the way."""

from __future__ import annotations

import numpy as np
import torch
from monai.transforms import Compose
from torch import Tensor

from versemi.learning.augmentation import cut, random_affine, swap_sides
from versemi.learning.cache import CachedCase
from versemi.learning.sources import Source

_VOXELS_PER_LABEL = 4000


def places_in(labels: np.ndarray) -> dict[int, np.ndarray]:
    """Some voxel coordinates ``(n, 3)`` of every label value but 0 in a map ``(z, y, x)``."""
    found: dict[int, np.ndarray] = {}
    for value in np.unique(labels):
        if value:
            voxels = np.argwhere(labels == value)
            found[int(value)] = voxels[:: max(1, len(voxels) // _VOXELS_PER_LABEL)]
    return found


def crop_of(
    rng: np.random.Generator,
    source: Source,
    case: CachedCase,
    places: dict[int, np.ndarray],
    labels: np.ndarray | None = None,
) -> tuple[Tensor, Tensor]:
    """Cut a crop with random geometry: image and labels, all background for a scan without."""
    image = case.image
    if labels is None:
        labels = case.labels if case.labelled else np.zeros(image.shape, dtype=np.uint8)
    centre = _centre(rng, source, image.shape, places)
    matrix, swapped = random_affine(rng, source.geometry, np.array(source.spacing))
    crop, truth = cut(image, labels, centre, matrix, source.crop)
    return crop, swap_sides(truth) if swapped else truth


def augmented(rng: np.random.Generator, image: Tensor, augment: Compose) -> Tensor:
    """Change a crop's intensities, ``(z, y, x)``."""
    augment.set_random_state(int(rng.integers(2**31)))
    changed = torch.as_tensor(augment(image[None].clone()))[0].clamp(-1.0, 1.0)
    return changed.as_subclass(Tensor)


def _centre(
    rng: np.random.Generator,
    source: Source,
    shape: tuple[int, ...],
    places: dict[int, np.ndarray],
) -> np.ndarray:
    """Choose a crop's centre: near a random structure, or anywhere."""
    crop, size = np.array(source.crop), np.array(shape)
    if places and rng.random() < source.centred:
        voxels = places[list(places)[int(rng.integers(len(places)))]]
        centre = voxels[int(rng.integers(len(voxels)))] + rng.uniform(-0.3, 0.3, 3) * crop
    else:
        centre = rng.uniform(0, 1, 3) * size
    slack = crop * source.overhang
    low = np.minimum(crop / 2 - slack, size / 2 - slack)
    return np.clip(centre, low, np.maximum(size - low, low)) - 0.5
