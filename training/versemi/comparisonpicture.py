"""A case in three planes through what changed, with the outlines of before, after and truth."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import SimpleITK as sitk

from versemi.export import replacing
from versemi.geometry import Box, bounding_box

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Colours that people who cannot tell red from green can tell apart (Okabe and Ito), in the order
#: of drawing: where outlines are the same, the gaps of the dashed one show the one below.
_COLORS = {"before": "#D55E00", "after": "#56B4E9", "reference": "#F0E442"}
_STYLES: Mapping[str, tuple[float, tuple[float, ...]] | Literal["solid"]] = {
    "before": "solid",
    "after": "solid",
    "reference": (0, (3, 4)),
}
#: Shown around the structure, in mm.
_MARGIN = 20.0
#: Which array axis a plane is across, and whether its rows run upwards.
_PLANES = (("axial", 0, "upper"), ("coronal", 1, "lower"), ("sagittal", 2, "lower"))


def draw(
    image: sitk.Image,
    masks: Mapping[str, np.ndarray],
    path: Path,
    *,
    title: str,
    limits: tuple[float, float] | None = None,
) -> Path:
    """Draw a case as a radiologist looks at it, the patient's right on the left of the picture.

    Args:
        image: the scan, in any orientation.
        masks: ``reference``, ``before`` and ``after``, bool (D, H, W) on the scan's grid, not all
            of them empty.
        path: the PNG.
        title: above the planes.
        limits: intensities that become black and white; of the 1st and 99th percentile where None.

    Returns:
        The path.

    Raises:
        OutputError: it could not be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    spacing, scan, oriented = _patient_axes(image, masks)
    box = _box(np.any(list(oriented.values()), axis=0), spacing)
    scan, oriented = scan[box], {name: mask[box] for name, mask in oriented.items()}
    low, high = limits or tuple(np.percentile(scan, (1, 99)))
    figure = Figure(figsize=(12, 4.8), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=11, parse_math=False)
    for axis, (name, across, origin) in zip(figure.subplots(1, 3), _PLANES, strict=True):
        index = _where(oriented, across)
        rows, columns = (s for number, s in enumerate(spacing) if number != across)
        axis.imshow(
            np.take(scan, index, axis=across),
            cmap="gray",
            vmin=low,
            vmax=max(high, low + 1e-6),
            origin=origin,
            aspect=rows / columns,
            interpolation="bilinear",
        )
        for side in _COLORS:
            _outline(axis, np.take(oriented[side], index, axis=across), side)
        axis.set_title(name, fontsize=9)
        axis.set_axis_off()
    lines = [Line2D([], [], color=_COLORS[n], linestyle=_STYLES[n], label=n) for n in _COLORS]
    figure.legend(handles=lines, loc="outside lower center", ncols=3, frameon=False)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=100)
    return path


def _patient_axes(
    image: sitk.Image, masks: Mapping[str, np.ndarray]
) -> tuple[tuple[float, float, float], np.ndarray, dict[str, np.ndarray]]:
    """Spacing, scan and masks with axes that run up, to the back and to the left, as nearly as
    the grid has them: no voxel is made up.
    """
    scan = sitk.DICOMOrient(image, "LPS")
    oriented = {}
    for name, mask in masks.items():
        volume = sitk.GetImageFromArray(mask.astype(np.uint8))
        volume.CopyInformation(image)
        oriented[name] = sitk.GetArrayFromImage(sitk.DICOMOrient(volume, "LPS")).astype(bool)
    z, y, x = scan.GetSpacing()[::-1]
    return (z, y, x), sitk.GetArrayFromImage(scan), oriented


def _box(mask: np.ndarray, spacing: tuple[float, float, float]) -> Box:
    """The box around a mask and the margin."""
    box = bounding_box(mask, [round(_MARGIN / mm) for mm in spacing])
    assert box is not None
    return box


def _where(masks: Mapping[str, np.ndarray], across: int) -> int:
    """The slice in which most voxels changed."""
    others = tuple(axis for axis in range(3) if axis != across)
    return int((masks["before"] ^ masks["after"]).sum(axis=others).argmax())


def _outline(axis: Axes, mask: np.ndarray, side: str) -> None:
    if not mask.any():
        return
    # A rim of one pixel closes the outline where the structure reaches the border.
    height, width = mask.shape
    axis.contour(
        np.arange(-1, width + 1),
        np.arange(-1, height + 1),
        np.pad(mask, 1).astype(np.float32),
        levels=[0.5],
        colors=_COLORS[side],
        linestyles=[_STYLES[side]],
        linewidths=1.2,
    )
