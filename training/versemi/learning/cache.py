"""Scans prepared once, mapped into memory afterwards.

An entry is a folder named by a hash of the files' bytes and of everything that shapes the
result, with ``image.npy`` (float16 in [-1, 1]) and ``labels.npy`` (uint8, label values of the
registry), both ``(z, y, x)``. An entry is complete or absent: it is renamed into place.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from versemi.geometry import Grid, image_corners
from versemi.preprocessing import GroupSettings, intensity_limits, prepare, prepare_labels

_FORMAT = 1


@dataclass(frozen=True)
class CachedCase:
    """One prepared scan: its name and the folder with its arrays."""

    name: str
    folder: Path

    @property
    def image(self) -> np.ndarray:
        """Intensities, float16 ``(z, y, x)``, mapped."""
        return np.load(self.folder / "image.npy", mmap_mode="r")

    @property
    def labels(self) -> np.ndarray:
        """Label values of the registry, uint8 ``(z, y, x)``, mapped."""
        return np.load(self.folder / "labels.npy", mmap_mode="r")


def cached_case(
    image_path: Path,
    label_path: Path,
    values: Mapping[int, int],
    settings: GroupSettings,
    scale: float,
    cache: Path,
) -> CachedCase:
    """Return the prepared scan, preparing it if the cache does not hold it.

    Args:
        image_path, label_path: files on one grid.
        values: label value in the file -> label value of the registry; others become 0.
        settings: of the prompt group.
        scale: factor on the group's spacing; 1 for the fine level.
        cache: folder of all entries.
    """
    spacing = tuple(s * scale for s in settings.spacing)
    recipe = {
        "format": _FORMAT,
        "values": sorted(values.items()),
        "spacing": spacing,
        "normalisation": settings.normalisation,
        "limits": settings.limits,
    }
    digest = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode())
    digest.update(image_path.read_bytes())
    digest.update(label_path.read_bytes())
    folder = cache / digest.hexdigest()[:32]
    case = CachedCase(image_path.name.split(".")[0], folder)
    if folder.is_dir():
        return case

    image = sitk.ReadImage(str(image_path))
    grid = Grid.covering(image_corners(image), spacing)
    array = prepare(image, grid, intensity_limits(image, settings)).astype(np.float16)
    given = sitk.GetArrayFromImage(sitk.ReadImage(str(label_path)))
    mapped = np.zeros(given.shape, dtype=np.uint8)
    for source, target in values.items():
        mapped[given == source] = target
    label_image = sitk.GetImageFromArray(mapped)
    label_image.CopyInformation(image)
    labels = prepare_labels(label_image, grid)

    cache.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=cache, prefix=".new-"))
    try:
        np.save(temporary / "image.npy", array)
        np.save(temporary / "labels.npy", labels)
        os.replace(temporary, folder)
    except OSError:
        shutil.rmtree(temporary, ignore_errors=True)
        if not folder.is_dir():  # unless another process was quicker
            raise
    return case
