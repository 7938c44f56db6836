"""Where things are: regions of interest and the axis-aligned grids that the network sees.

Regions are given in RAS millimetres, as Slicer shows them; SimpleITK and the grids use LPS.
The network always sees a grid along the patient's own axes (x to the left, y to the back, z to
the head), whatever the scan's own axes are, so that right stays right on every scan.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import SimpleITK as sitk

from versemi.errors import InputError

Box = tuple[slice, slice, slice]

_RAS_TO_LPS = np.array([-1.0, -1.0, 1.0])


@dataclass(frozen=True)
class Roi:
    """A box that need not be aligned with anything.

    Attributes:
        center: RAS, mm, ``(3,)``.
        axes: three unit vectors in RAS, one per row and box axis, ``(3, 3)``.
        size: full edge lengths in mm, ``(3,)``.

    Raises:
        InputError: the box is empty, or a number is missing or not finite.
    """

    center: tuple[float, float, float]
    axes: tuple[tuple[float, float, float], ...]
    size: tuple[float, float, float]

    def __post_init__(self) -> None:
        values = [*self.center, *self.size, *(v for axis in self.axes for v in axis)]
        if len(values) != 15 or not all(math.isfinite(v) for v in values):
            raise InputError(
                "The region of interest needs a centre, a size and three axes of three finite "
                f"numbers each; got {len(values)} numbers."
            )
        if min(self.size) <= 0:
            raise InputError(
                f"The region of interest is empty (size {_text(self.size)} mm); give it a "
                "positive length along each axis."
            )
        axes = np.array(self.axes)
        if not np.allclose(axes @ axes.T, np.eye(3), atol=1e-3):
            raise InputError(
                "The axes of the region of interest are not perpendicular unit vectors; use an "
                "unsheared box."
            )

    @classmethod
    def from_bounds(cls, bounds: Sequence[float]) -> Roi:
        """Make an upright box from RAS bounds ``(r0, r1, a0, a1, s0, s1)`` in mm.

        Example:
            >>> Roi.from_bounds((-45, -12, -48, -2, -32, 6)).size
            (33.0, 46.0, 38.0)
        """
        if len(bounds) != 6:
            raise InputError(
                f"A region of interest is six numbers r0,r1,a0,a1,s0,s1 in mm; got {len(bounds)}."
            )
        pairs = [(float(bounds[i]), float(bounds[i + 1])) for i in (0, 2, 4)]
        return cls(
            center=tuple((a + b) / 2 for a, b in pairs),  # type: ignore[arg-type]
            axes=((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)),
            size=tuple(b - a for a, b in pairs),  # type: ignore[arg-type]
        )

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Roi:
        """Read ``{"center": [...], "axes": [[...], [...], [...]], "size": [...]}``."""
        try:
            center = tuple(float(v) for v in data["center"])
            size = tuple(float(v) for v in data["size"])
            axes = tuple(tuple(float(v) for v in axis) for axis in data["axes"])
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                "A region of interest needs 'center', 'axes' and 'size' as lists of numbers; "
                f"{error!r} is in the way."
            ) from None
        return cls(center, axes, size)  # type: ignore[arg-type]

    def to_json(self) -> dict[str, Any]:
        """Plain data, the inverse of :meth:`from_json`."""
        return {
            "center": list(self.center),
            "axes": [list(axis) for axis in self.axes],
            "size": list(self.size),
        }

    def corners_lps(self) -> np.ndarray:
        """The eight corners in LPS mm, ``(8, 3)``."""
        signs = np.array(list(itertools.product((-0.5, 0.5), repeat=3)))
        ras = np.array(self.center) + (signs * np.array(self.size)) @ np.array(self.axes)
        return ras * _RAS_TO_LPS

    def contains_lps(self, points: np.ndarray) -> np.ndarray:
        """Which of the points ``(..., 3)`` in LPS mm lie in the box, ``(...)`` of bool."""
        local = (points * _RAS_TO_LPS - np.array(self.center)) @ np.array(self.axes).T
        return (np.abs(local) <= np.array(self.size) / 2 + 1e-6).all(axis=-1)


@dataclass(frozen=True)
class Grid:
    """A regular grid along the patient's axes in LPS; arrays on it are ``(z, y, x)``.

    Attributes:
        origin: centre of the first voxel, LPS mm, ``(x, y, z)``.
        spacing: mm, ``(x, y, z)``.
        size: voxels, ``(x, y, z)``.
    """

    origin: tuple[float, float, float]
    spacing: tuple[float, float, float]
    size: tuple[int, int, int]

    @classmethod
    def covering(cls, corners: np.ndarray, spacing: Sequence[float]) -> Grid:
        """Make the smallest grid whose voxels cover the points `corners` ``(n, 3)`` in LPS mm."""
        low, high = corners.min(axis=0), corners.max(axis=0)
        step = np.asarray(spacing, dtype=float)
        # Half a thousandth of a voxel of slack, so that rounding does not add a row.
        size = np.maximum(1, np.ceil((high - low) / step - 5e-4)).astype(int)
        origin = (low + high) / 2 - (size - 1) / 2 * step
        return cls(_triple(origin), _triple(step), (int(size[0]), int(size[1]), int(size[2])))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of an array on the grid, ``(z, y, x)``."""
        return self.size[2], self.size[1], self.size[0]

    def blank(self, pixel: int = sitk.sitkUInt8) -> sitk.Image:
        """An image of zeros on the grid."""
        return self.image_of(None, pixel)

    def image_of(self, array: np.ndarray | None, pixel: int = sitk.sitkUInt8) -> sitk.Image:
        """Wrap `array` ``(z, y, x)`` (or zeros of type `pixel`) as an image in world space."""
        image = (
            sitk.Image(list(self.size), pixel) if array is None else sitk.GetImageFromArray(array)
        )
        image.SetSpacing(self.spacing)
        image.SetOrigin(self.origin)
        return image

    def part(self, start: Sequence[int], stop: Sequence[int]) -> Grid:
        """The sub-grid of voxels `start` to `stop` (exclusive), both ``(z, y, x)``."""
        first = [int(start[2 - i]) for i in range(3)]
        origin = tuple(o + f * s for o, f, s in zip(self.origin, first, self.spacing, strict=True))
        size = tuple(int(stop[2 - i]) - first[i] for i in range(3))
        return Grid(origin, self.spacing, size)  # type: ignore[arg-type]

    def corners(self) -> np.ndarray:
        """Outer corners of the outermost voxels, LPS mm, ``(8, 3)``."""
        return image_corners(self.blank_header())

    def blank_header(self) -> Header:
        """The grid as a header, for geometry that needs no voxels."""
        return Header(self.size, self.spacing, self.origin, (1, 0, 0, 0, 1, 0, 0, 0, 1))


@dataclass(frozen=True)
class Header:
    """Size, spacing, origin and direction of an image, as SimpleITK gives them (LPS)."""

    size: tuple[int, ...]
    spacing: tuple[float, ...]
    origin: tuple[float, ...]
    direction: tuple[float, ...]

    @classmethod
    def of(cls, image: sitk.Image) -> Header:
        """Read the header of `image`."""
        return cls(image.GetSize(), image.GetSpacing(), image.GetOrigin(), image.GetDirection())

    @property
    def index_to_lps(self) -> np.ndarray:
        """Affine from voxel index ``(x, y, z)`` to LPS mm, ``(4, 4)``."""
        matrix = np.eye(4)
        matrix[:3, :3] = np.reshape(self.direction, (3, 3)) * np.asarray(self.spacing)
        matrix[:3, 3] = self.origin
        return matrix


def image_corners(image: sitk.Image | Header) -> np.ndarray:
    """Outer corners of the outermost voxels of an image, LPS mm, ``(8, 3)``."""
    header = image if isinstance(image, Header) else Header.of(image)
    index = np.array(list(itertools.product(*((-0.5, n - 0.5) for n in header.size))))
    matrix = header.index_to_lps
    return index @ matrix[:3, :3].T + matrix[:3, 3]


def bounding_box(mask: np.ndarray, margin: Sequence[int] = (0, 0, 0)) -> Box | None:
    """The smallest box that holds a mask and a margin around it, cut to the array.

    Args:
        mask: bool ``(z, y, x)``.
        margin: voxels ``(z, y, x)``.

    Returns:
        Slices ``(z, y, x)``; None where the mask is empty.
    """
    spans = [np.flatnonzero(mask.any(axis=others)) for others in ((1, 2), (0, 2), (0, 1))]
    if spans[0].size == 0:
        return None
    z, y, x = (
        slice(max(int(span[0]) - more, 0), min(int(span[-1]) + 1 + more, length))
        for span, more, length in zip(spans, margin, mask.shape, strict=True)
    )
    return z, y, x


def _triple(values: Sequence[float] | np.ndarray) -> tuple[float, float, float]:
    return float(values[0]), float(values[1]), float(values[2])


def _text(values: Sequence[float]) -> str:
    return " x ".join(f"{v:g}" for v in values)
