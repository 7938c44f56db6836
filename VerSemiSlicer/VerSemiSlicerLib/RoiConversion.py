"""From Slicer's ROI to the box that the engine takes, in the frame of the image file."""

from collections.abc import Callable
from typing import Any

import numpy as np
import slicer
import vtk

from .Errors import UserError

_CORNERS = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) / 2.0
# Faces of a box bend under a warp, so corners alone would cut off what bulges out.
_GRID = np.stack(np.meshgrid(*[np.linspace(-0.5, 0.5, 5)] * 3), axis=-1).reshape(-1, 3)


def roiToJson(
    roiNode: "slicer.vtkMRMLMarkupsROINode", volumeNode: "slicer.vtkMRMLVolumeNode"
) -> dict[str, Any]:
    """The ROI as the worker's message has it: centre, unit axes and edge lengths in mm.

    All is in the RAS frame of the volume as it is written to file. ROI and volume may each lie
    under transforms of their own; where these bend or shear the box, the smallest box of the same
    orientation around it is taken.
    """
    name = roiNode.GetName()
    if roiNode.GetInsideOut():
        raise UserError(f"The ROI '{name}' is inside out; turn that off in Markups.")
    size = np.array(roiNode.GetSize())
    if roiNode.GetNumberOfControlPoints() == 0 or not np.all(np.isfinite(size)) or size.min() <= 0:
        raise UserError(f"The ROI '{name}' is empty; place it in the views, or choose none.")

    objectToNode = slicer.util.arrayFromVTKMatrix(roiNode.GetObjectToNodeMatrix())
    toVolume = _transformBetween(roiNode, volumeNode)

    def toLocal(points: np.ndarray) -> np.ndarray:
        """(N, 3) points in units of the box's edges, to the volume's frame."""
        inNode = (points * size) @ objectToNode[:3, :3].T + objectToNode[:3, 3]
        return np.array([toVolume(point) for point in inNode])

    corners = toLocal(_CORNERS)
    # Half the mean difference between opposite faces is where each edge points.
    edges = np.stack([2 * (_CORNERS[:, i] @ corners) / len(_CORNERS) for i in range(3)], axis=1)
    if abs(np.linalg.det(edges)) < 1e-12:
        raise UserError(f"The ROI '{name}' is flat in the volume's frame; correct its transform.")
    left, _, right = np.linalg.svd(edges / np.linalg.norm(edges, axis=0))
    axes = left @ right
    extents = toLocal(_GRID) @ axes
    low, high = extents.min(axis=0), extents.max(axis=0)
    return {
        "center": (axes @ ((low + high) / 2)).tolist(),
        "axes": axes.T.tolist(),
        "size": (high - low).tolist(),
    }


def _transformBetween(
    sourceNode: "slicer.vtkMRMLTransformableNode", targetNode: "slicer.vtkMRMLTransformableNode"
) -> Callable[[Any], Any]:
    transform = vtk.vtkGeneralTransform()
    slicer.vtkMRMLTransformNode.GetTransformBetweenNodes(
        sourceNode.GetParentTransformNode(), targetNode.GetParentTransformNode(), transform
    )
    return transform.TransformPoint


def fitRoiToVolume(
    roiNode: "slicer.vtkMRMLMarkupsROINode", volumeNode: "slicer.vtkMRMLVolumeNode"
) -> None:
    """Places the ROI around the middle half of the volume, along the volume's own axes."""
    dimensions = np.array(volumeNode.GetImageData().GetDimensions())
    matrix = vtk.vtkMatrix4x4()
    volumeNode.GetIJKToRASMatrix(matrix)
    ijkToRas = slicer.util.arrayFromVTKMatrix(matrix)
    axes = ijkToRas[:3, :3]
    spacing = np.linalg.norm(axes, axis=0)
    box = np.eye(4)
    box[:3, :3] = axes / spacing
    if np.linalg.det(box[:3, :3]) < 0:
        # A box is the same box with an axis turned round, and a rotation has no reflection.
        box[:3, 2] *= -1
    box[:3, 3] = (ijkToRas @ np.append((dimensions - 1) / 2.0, 1.0))[:3]
    roiNode.SetAndObserveTransformNodeID(volumeNode.GetTransformNodeID())
    roiNode.SetSize(*(dimensions * spacing / 2.0))
    roiNode.SetAndObserveObjectToNodeMatrix(slicer.util.vtkMatrixFromArray(box))
