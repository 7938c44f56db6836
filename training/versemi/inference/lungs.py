"""Where the lungs are in a CT scan: what is looked for in them alone need not be sought elsewhere.

No network is asked: lungs are air with a body around them.
"""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk

from versemi.geometry import Box, Grid, bounding_box
from versemi.inference.localise import components

# A scan that is narrower may show the inside of a chest only, where air has no body around it.
_NARROWEST_MM = 200.0
# Of the outline of the axial planes, the share that is air where a whole body is shown.
_AIR_AROUND = 0.5
# Bowel gas and airways are smaller.
_SMALLEST_ML = 150.0
#: A grid of this spacing tells lungs from everything else.
LUNGS_SEEN_AT_MM = 6.0


def lung_region(array: np.ndarray, grid: Grid, air: float, margin: float) -> Box | None:
    """The box around the lungs.

    In every axial plane, air that the body closes in; of that, the connected parts that are large.

    Args:
        array: a prepared CT scan, float32 ``(z, y, x)``, cut to what is not air.
        grid: its voxels, about :data:`LUNGS_SEEN_AT_MM` apart.
        air: what is darker is air.
        margin: mm around the lungs.

    Returns:
        A box of `grid`; None if the scan shows no lungs, or too little of a body to tell.
    """
    spacing = np.array(grid.spacing[::-1])
    if (np.array(array.shape) * spacing)[1:].min() < _NARROWEST_MM:
        return None
    dark = array <= air
    outline = np.concatenate([dark[:, [0, -1]].ravel(), dark[:, :, [0, -1]].ravel()])
    if outline.mean() < _AIR_AROUND:
        return None
    inside = np.stack([_closed_in(plane) for plane in dark])
    labels = components(inside)
    ml = np.bincount(labels.ravel()) * float(np.prod(spacing)) / 1000
    ml[0] = 0
    return bounding_box((ml >= _SMALLEST_ML)[labels], [int(np.ceil(margin / s)) for s in spacing])


def _closed_in(air: np.ndarray) -> np.ndarray:
    """The air of one plane that does not reach its edge, bool ``(y, x)``."""
    body = sitk.GetImageFromArray((~air).astype(np.uint8))
    return (sitk.GetArrayViewFromImage(sitk.BinaryFillhole(body)) > 0) & air
