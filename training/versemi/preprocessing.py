"""From a scan to what the network sees, and back. Training and inference both come through here.

A scan is resampled along the patient's axes to the spacing of its prompt group, and its
intensities are brought to [-1, 1]. -1 stands for air and for "nothing there" outside the scan.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import SimpleITK as sitk

from versemi.errors import PackError
from versemi.geometry import Grid, Header

OUTSIDE = -1.0


@dataclass(frozen=True)
class GroupSettings:
    """How the scans of one prompt group are prepared.

    Attributes:
        spacing: mm, ``(x, y, z)``.
        window: voxels of a sliding window, ``(z, y, x)``.
        normalisation: ``"window"`` clips to `limits` in the scan's own units (HU);
            ``"percentile"`` clips to these percentiles of the voxels above the minimum.
        limits: low and high, which become -1 and 1.
        coarse: factor between `spacing` and that of the coarse first pass; 0 if the group has
            none (its prompts were learnt from crops, so there is nothing to search in).
        margin: mm around a region of interest that the network sees beside it.
        overlap: of neighbouring windows, as a share of their edge.
        within: ``"lungs"`` if its structures lie in or at the lungs, so that nothing else of a
            CT scan of a whole body is looked at; else empty.
        whole_windows: whether a scan that is smaller than a window lies in the middle of it, with
            air around, as crops that hang over a scan's border do in training. Without, windows
            shrink to the scan.
    """

    spacing: tuple[float, float, float]
    window: tuple[int, int, int]
    normalisation: str
    limits: tuple[float, float]
    coarse: float = 0.0
    margin: float = 0.0
    overlap: float = 0.25
    within: str = ""
    whole_windows: bool = False

    def to_json(self) -> dict[str, Any]:
        """Plain data for a manifest."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> GroupSettings:
        """Read from a manifest.

        Raises:
            PackError: a value is missing or makes no sense.
        """
        try:
            settings = cls(
                spacing=tuple(float(v) for v in data["spacing"]),  # type: ignore[arg-type]
                window=tuple(int(v) for v in data["window"]),  # type: ignore[arg-type]
                normalisation=str(data["normalisation"]),
                limits=tuple(float(v) for v in data["limits"]),  # type: ignore[arg-type]
                coarse=float(data.get("coarse", 0.0)),
                margin=float(data.get("margin", 0.0)),
                overlap=float(data.get("overlap", 0.25)),
                within=str(data.get("within", "")),
                whole_windows=bool(data.get("whole_windows", False)),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise PackError(f"The pack's preprocessing cannot be read ({error!r}).") from None
        good = (
            len(settings.spacing) == len(settings.window) == 3
            and len(settings.limits) == 2
            and min(settings.spacing) > 0
            and min(settings.window) > 0
            and settings.limits[0] < settings.limits[1]
            and settings.normalisation in ("window", "percentile")
            and (settings.coarse == 0 or settings.coarse > 1)
            and settings.margin >= 0
            and 0 <= settings.overlap < 1
            and settings.within in ("", "lungs")
        )
        if not good:
            raise PackError(f"The pack's preprocessing makes no sense: {dict(data)}.")
        return settings


# What the shipped packs are trained with; a pack's manifest carries its own copy.
DEFAULT_GROUPS: dict[str, GroupSettings] = {
    "ct": GroupSettings(
        (2.0, 2.0, 3.0), (64, 96, 96), "window", (-125.0, 275.0), coarse=2.0, margin=24.0
    ),
    "ct_fine": GroupSettings(
        (1.5, 1.5, 1.5),
        (80, 80, 80),
        "window",
        (-125.0, 275.0),
        margin=24.0,
        overlap=0.125,
        within="lungs",
        whole_windows=True,
    ),
    "lge_mr": GroupSettings((1.25, 1.25, 1.25), (48, 80, 96), "percentile", (1.0, 99.0)),
    "t1_mr": GroupSettings((1.0, 1.0, 1.0), (48, 64, 48), "percentile", (1.0, 99.0)),
}


def resample_to(image: sitk.Image, grid: Grid, outside: float) -> np.ndarray:
    """Resample a scan onto a grid, averaging first where the grid is much coarser.

    Args:
        image: 3D scan, any orientation.
        grid: where to.
        outside: value of grid voxels that lie outside the scan.

    Returns:
        float32 ``(z, y, x)`` on `grid`.
    """
    factors = _shrink_factors(image, grid.spacing)
    if max(factors) > 1:
        image = sitk.BinShrink(image, factors)
    # Clamped to the border, not cut off half a voxel inside it, as ITK does by itself.
    inside = sitk.Resample(
        image,
        grid.blank(),
        sitk.Transform(),
        sitk.sitkLinear,
        outside,
        sitk.sitkFloat32,
        True,
    )
    array = sitk.GetArrayFromImage(inside)
    array[~_covered(grid, Header.of(image))] = outside
    return array


def resample_back(array: np.ndarray, grid: Grid, reference: Header) -> np.ndarray:
    """Bring values on a grid to another image's voxels by linear interpolation.

    Args:
        array: float32 ``(z, y, x)`` on `grid`.
        grid: where `array` lies.
        reference: the image's header, or that of a box in it.

    Returns:
        float32 ``(z, y, x)`` on `reference`; 0 outside the grid.
    """
    resampler = sitk.ResampleImageFilter()
    resampler.SetInterpolator(sitk.sitkLinear)
    resampler.SetSize(list(reference.size))
    resampler.SetOutputSpacing(reference.spacing)
    resampler.SetOutputOrigin(reference.origin)
    resampler.SetOutputDirection(reference.direction)
    resampler.SetOutputPixelType(sitk.sitkFloat32)
    return sitk.GetArrayFromImage(resampler.Execute(grid.image_of(np.ascontiguousarray(array))))


def intensity_limits(
    image: sitk.Image, settings: GroupSettings, box: tuple[slice, slice, slice] | None = None
) -> tuple[float, float]:
    """Find the intensities that become -1 and 1.

    Args:
        image: the scan in its own units.
        settings: of its prompt group.
        box: slices ``(z, y, x)`` of the part that counts (the region of interest); all if None.
    """
    if settings.normalisation == "window":
        return settings.limits
    voxels = sitk.GetArrayViewFromImage(image)
    if box is not None:
        voxels = voxels[box]
    # A million voxels settle a percentile; a long scan has a hundred times as many.
    step = max(1, math.floor((voxels.size / 1e6) ** (1 / 3)))
    sample = voxels[::step, ::step, ::step].astype(np.float64).ravel()
    above = sample[sample > sample.min()]
    if above.size == 0:
        above = sample
    low, high = np.percentile(above, settings.limits)
    return float(low), float(max(high, low + 1e-6))


def normalise(array: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    """Clip to `limits` and map them to -1 and 1, float32 of the same shape."""
    low, high = limits
    scaled = (array.astype(np.float32) - low) * np.float32(2.0 / (high - low)) - 1.0
    return np.clip(scaled, -1.0, 1.0)


def prepare(image: sitk.Image, grid: Grid, limits: tuple[float, float]) -> np.ndarray:
    """Clip, resample and normalise a scan: float32 ``(z, y, x)`` on `grid` in [-1, 1].

    Clipping comes first, as in scans that were stored clipped; otherwise a metal clip or the
    air beside the skin would bleed into its neighbours.
    """
    clamped = sitk.Clamp(image, image.GetPixelID(), *_pixel_range(image, limits))
    return normalise(resample_to(clamped, grid, outside=limits[0]), limits)


def prepare_labels(image: sitk.Image, grid: Grid) -> np.ndarray:
    """Resample a label map onto a grid, smoothly for every label: uint8 ``(z, y, x)``.

    A voxel goes to the label with the largest linearly interpolated membership, background
    included, so that thin slices do not leave steps.
    """
    values = [int(v) for v in np.unique(sitk.GetArrayViewFromImage(image)) if v != 0]
    labels = np.zeros(grid.shape, dtype=np.uint8)
    best = np.zeros(grid.shape, dtype=np.float32)
    background = np.ones(grid.shape, dtype=np.float32)
    for value in values:
        weight = resample_to(sitk.Cast(image == value, sitk.sitkFloat32), grid, outside=0.0)
        background -= weight
        won = weight > best
        labels[won] = value
        best[won] = weight[won]
    labels[background > best] = 0
    return labels


def _covered(grid: Grid, header: Header) -> np.ndarray:
    """Which grid voxels have their centre inside the image's outer box, bool ``(z, y, x)``."""
    inverse = np.linalg.inv(header.index_to_lps)
    axes = [
        np.arange(n) * s + o for n, s, o in zip(grid.size, grid.spacing, grid.origin, strict=True)
    ]
    inside = np.ones(grid.shape, dtype=bool)
    for row, n in zip(inverse[:3], header.size, strict=True):
        # One separable sum per image axis: no array of coordinates is ever built, and a scan
        # that lies along the patient's axes needs one line of numbers for each.
        index = np.full((1, 1, 1), row[3])
        for axis, shape in enumerate(((1, 1, -1), (1, -1, 1), (-1, 1, 1))):
            if abs(row[axis]) * np.ptp(axes[axis]) > 1e-6:
                index = index + row[axis] * axes[axis].reshape(shape)
            else:
                index = index + row[axis] * axes[axis][0]
        inside &= (index >= -0.5 - 1e-6) & (index <= n - 0.5 + 1e-6)
    return inside


def _shrink_factors(image: sitk.Image, spacing: Sequence[float]) -> list[int]:
    """Whole factors by which the scan is finer than the grid, per image axis."""
    direction = np.abs(np.reshape(image.GetDirection(), (3, 3)))
    factors = []
    for axis in range(3):
        world = int(direction[:, axis].argmax())
        ratio = spacing[world] / image.GetSpacing()[axis]
        factors.append(max(1, min(int(ratio + 0.05), image.GetSize()[axis])))
    return factors


def _pixel_range(image: sitk.Image, limits: tuple[float, float]) -> tuple[float, float]:
    """`limits` cut to what the pixel type can hold, which is what sitk.Clamp wants."""
    dtype = sitk.GetArrayViewFromImage(image).dtype
    if np.issubdtype(dtype, np.integer):
        info = np.iinfo(dtype)
        return (
            float(np.clip(math.floor(limits[0]), info.min, info.max)),
            float(np.clip(math.ceil(limits[1]), info.min, info.max)),
        )
    return limits
