"""What the model had answered, remembered beside the segments until the correction is kept.

It lies in attributes of the segmentation node, one a prompt, as a packed bit mask on the voxels of
the scan: some ten kilobytes for a liver, saved and loaded with the scene, gone with the node, and
independent of transforms and of what happens to the segments.
"""

import base64
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import slicer
import vtk
from vtk.util import numpy_support

from . import VolumeInput

_ATTRIBUTE = "VerSemiSlicer.Prediction."
_VOLUME_ROLE = "VerSemiSlicer.PredictedVolume"


@dataclass(frozen=True)
class PredictedMask:
    """`mask` (k, j, i) of bool lies in the scan's voxels from `offset` (k, j, i) on."""

    packName: str
    offset: tuple[int, int, int]
    mask: np.ndarray

    def drawInto(self, voxels: np.ndarray, value: int) -> None:
        """Sets its voxels of the array (k, j, i), which covers the whole scan, to `value`."""
        part = tuple(
            slice(first, first + count)
            for first, count in zip(self.offset, self.mask.shape, strict=True)
        )
        voxels[part][self.mask] = value


def remember(
    segmentationNode: "slicer.vtkMRMLSegmentationNode",
    volumeNode: "slicer.vtkMRMLScalarVolumeNode",
    labelMap: "slicer.vtkOrientedImageData",
    labels: Mapping[str, int],
    packName: str,
) -> None:
    """Keeps what the label map, in the volume's own frame, says of the prompts in `labels`.

    Earlier answers to these prompts are forgotten, and all answers for another volume.
    """
    if segmentationNode.GetNodeReference(_VOLUME_ROLE) is not volumeNode:
        for name in _attributeNames(segmentationNode):
            segmentationNode.RemoveAttribute(name)
        segmentationNode.SetNodeReferenceID(_VOLUME_ROLE, volumeNode.GetID())
    voxels, offset = _onVoxelsOf(volumeNode, labelMap)
    for promptId, label in labels.items():
        mask, start = _cropped(voxels == label)
        record = {
            "pack": packName,
            "dimensions": volumeNode.GetImageData().GetDimensions(),
            "mirrored": _isMirrored(volumeNode),
            "offset": [int(a) + int(b) for a, b in zip(offset, start, strict=True)],
            "shape": mask.shape,
            "voxels": base64.b64encode(zlib.compress(np.packbits(mask).tobytes(), 1)).decode(),
        }
        segmentationNode.SetAttribute(_ATTRIBUTE + promptId, json.dumps(record))


def recall(
    segmentationNode: "slicer.vtkMRMLSegmentationNode",
    volumeNode: "slicer.vtkMRMLScalarVolumeNode",
) -> dict[str, PredictedMask]:
    """What the model had answered on this volume, by prompt; empty where that is not known."""
    if segmentationNode.GetNodeReference(_VOLUME_ROLE) is not volumeNode:
        return {}
    found = {}
    for name in _attributeNames(segmentationNode):
        record = json.loads(segmentationNode.GetAttribute(name))
        if tuple(record["dimensions"]) != volumeNode.GetImageData().GetDimensions():
            continue
        shape, offset = tuple(record["shape"]), list(record["offset"])
        packed = np.frombuffer(zlib.decompress(base64.b64decode(record["voxels"])), np.uint8)
        mask = np.unpackbits(packed, count=int(np.prod(shape))).reshape(shape).astype(bool)
        if record["mirrored"] != _isMirrored(volumeNode):
            # A left-handed volume comes back from its file with its slices in the other order.
            offset[0] = record["dimensions"][2] - offset[0] - shape[0]
            mask = mask[::-1]
        promptId = name.removeprefix(_ATTRIBUTE)
        found[promptId] = PredictedMask(record["pack"], tuple(offset), mask)
    return found


def _attributeNames(node: "slicer.vtkMRMLNode") -> list[str]:
    return [name for name in node.GetAttributeNames() if name.startswith(_ATTRIBUTE)]


def _isMirrored(volumeNode: "slicer.vtkMRMLVolumeNode") -> bool:
    return bool(np.linalg.det(VolumeInput.ijkToRas(volumeNode)[:3, :3]) < 0)


def _onVoxelsOf(
    volumeNode: "slicer.vtkMRMLVolumeNode", labelMap: "slicer.vtkOrientedImageData"
) -> tuple[np.ndarray, tuple[int, int, int]]:
    """The label map's voxels (k, j, i) in the volume's order, and where they begin in it.

    It is on the volume's grid, but where the volume is left-handed its axes may run the other way.
    """
    if labelMap.GetNumberOfPoints() == 0:
        return np.zeros((0, 0, 0), np.uint8), (0, 0, 0)
    matrix = vtk.vtkMatrix4x4()
    labelMap.GetImageToWorldMatrix(matrix)
    toVolume = np.linalg.inv(VolumeInput.ijkToRas(volumeNode)) @ slicer.util.arrayFromVTKMatrix(
        matrix
    )
    extent = np.reshape(labelMap.GetExtent(), (3, 2))
    ends = np.rint(toVolume[:3, :3] @ extent + toVolume[:3, 3:]).astype(int)
    counts = extent[:, 1] - extent[:, 0] + 1
    scalars = numpy_support.vtk_to_numpy(labelMap.GetPointData().GetScalars())
    voxels = scalars.reshape(counts[::-1])
    for axis in range(3):
        if ends[axis, 0] > ends[axis, 1]:
            voxels = np.flip(voxels, 2 - axis)
    first = ends.min(axis=1)
    return voxels, (int(first[2]), int(first[1]), int(first[0]))


def _cropped(mask: np.ndarray) -> tuple[np.ndarray, tuple[int, ...]]:
    """The smallest part that holds all of the mask, and where it begins."""
    spans = [
        np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis)))
        for axis in range(3)
    ]
    if any(span.size == 0 for span in spans):
        return np.zeros((0, 0, 0), bool), (0, 0, 0)
    part = tuple(slice(int(span[0]), int(span[-1]) + 1) for span in spans)
    return mask[part], tuple(piece.start for piece in part)
