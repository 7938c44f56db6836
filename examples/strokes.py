"""Made-up corrections: a brush that paints and erases balls in a segment, through MRML.

They do what the sphere brush of Slicer's Segment Editor does. Nobody who knows the anatomy has
placed them: they show the way of a correction, and are not one to learn medicine from.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import slicer

from VerSemiSlicerLib import VolumeInput

BRUSH_MM = 3.5


def mask_of(node: Any, segment_id: str, volume: Any) -> np.ndarray:
    """A segment on the volume's voxels, bool ``(k, j, i)``."""
    shape = slicer.util.arrayFromVolume(volume).shape
    found = slicer.util.arrayFromSegmentBinaryLabelmap(node, segment_id, volume)
    return np.zeros(shape, bool) if found is None else found > 0


def ball(volume: Any, ras: Sequence[float], radius: float = BRUSH_MM) -> np.ndarray:
    """The voxels within `radius` mm of a RAS point, bool ``(k, j, i)``."""
    shape = slicer.util.arrayFromVolume(volume).shape
    points = _ras(volume, np.moveaxis(np.indices(shape)[::-1], 0, -1))
    return np.linalg.norm(points - np.asarray(ras), axis=-1) <= radius


def edge_near(
    node: Any, segment_ids: Sequence[str], volume: Any, ras: Sequence[float]
) -> tuple[str, tuple[float, float, float]]:
    """The segment that has a voxel closest to a point, and where that voxel is, RAS in mm.

    The first segment and the point itself where all are empty.
    """
    wanted = np.asarray(ras, float)
    best, found, shortest = segment_ids[0], wanted, np.inf
    for segment_id in segment_ids:
        points = _ras(volume, np.argwhere(mask_of(node, segment_id, volume))[:, ::-1])
        away = np.linalg.norm(points - wanted, axis=1)
        if len(away) and away.min() < shortest:
            best, found, shortest = segment_id, points[away.argmin()], float(away.min())
    r, a, s = (float(value) for value in found)
    return best, (r, a, s)


def paint(node: Any, segment_id: str, volume: Any, stroke: np.ndarray) -> None:
    """Add voxels to a segment, and take them from all others, as the editor does by default."""
    for index in range(node.GetSegmentation().GetNumberOfSegments()):
        other = node.GetSegmentation().GetNthSegmentID(index)
        there = mask_of(node, other, volume)
        _write(node, other, volume, there | stroke if other == segment_id else there & ~stroke)


def erase(node: Any, segment_id: str, volume: Any, stroke: np.ndarray) -> None:
    """Take voxels from a segment."""
    _write(node, segment_id, volume, mask_of(node, segment_id, volume) & ~stroke)


def _ras(volume: Any, index: np.ndarray) -> np.ndarray:
    """Where voxels ``(..., 3)``, i, j, k, are: RAS in mm."""
    ijk_to_ras = VolumeInput.ijkToRas(volume)
    return np.asarray(index @ ijk_to_ras[:3, :3].T + ijk_to_ras[:3, 3])


def _write(node: Any, segment_id: str, volume: Any, mask: np.ndarray) -> None:
    voxels = mask.astype(np.uint8)
    slicer.util.updateSegmentBinaryLabelmapFromArray(voxels, node, segment_id, volume)
