"""What makes two scans the same scan: equal voxels in the same places."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import SimpleITK as sitk

#: In voxels. A file rounds a geometry, NIfTI to single precision; that makes no other scan of it.
_TOLERANCE = 0.1


@dataclass(frozen=True)
class Grid:
    """Where the voxels of an image lie, once its axes point to the left, back and head.

    Attributes:
        size: voxels along x, y, z.
        spacing: mm along x, y, z.
        origin: LPS mm, of the first voxel.
        direction: nine cosines, row by row, an axis a column.
    """

    size: tuple[int, ...]
    spacing: tuple[float, ...]
    origin: tuple[float, ...]
    direction: tuple[float, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {name: list(getattr(self, name)) for name in _FIELDS}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Grid:
        """The grid that `to_json` described."""
        return cls(**{name: tuple(data[name]) for name in _FIELDS})

    def same_as(self, other: Grid) -> bool:
        """Whether both have the same voxels in the same places, up to a tenth of a voxel."""
        if self.size != other.size:
            return False
        tolerance = _TOLERANCE * min(self.spacing)
        return bool(np.allclose(self._corners(), other._corners(), rtol=0, atol=tolerance))

    def _corners(self) -> np.ndarray:
        """(4, 3) LPS mm: the first voxel, and the end of each axis."""
        steps = np.array(self.direction).reshape(3, 3) * np.array(self.spacing)
        corners = np.vstack([np.zeros(3), np.diag(self.size)])
        return np.array(self.origin) + corners @ steps.T


_FIELDS = ("size", "spacing", "origin", "direction")


def identify(image: sitk.Image) -> tuple[str, Grid]:
    """Digest the voxels of a scan, and say where they lie.

    The answer is the same for a scan that was written to a file and read again, in whatever type
    of number, and for one whose axes were flipped or exchanged on the way (Slicer flips the slices
    of a left-handed volume).

    Args:
        image: 3D, one value a voxel.

    Returns:
        SHA-256 of the voxels in single precision and LPS order, in hexadecimal, and their grid.
    """
    oriented = sitk.DICOMOrient(image, "LPS")
    digest = hashlib.sha256(f"{oriented.GetSize()}".encode())
    # Slice by slice: a copy of a whole long scan in another type could exhaust the memory.
    with np.errstate(over="ignore"):
        for plane in sitk.GetArrayViewFromImage(oriented):
            # Adding zero makes -0.0 and 0.0 the same bytes.
            digest.update((plane.astype("<f4") + np.float32(0)).tobytes())
    grid = Grid(
        oriented.GetSize(),
        oriented.GetSpacing(),
        oriented.GetOrigin(),
        oriented.GetDirection(),
    )
    return digest.hexdigest(), grid
