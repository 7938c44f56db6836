"""The voxels of a volume in the world, and what segments and files have to do with them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import slicer
import vtk
from vtk.util import numpy_support

from . import VolumeInput
from .Errors import UserError
from .Segments import listed, nameOf


@dataclass(frozen=True)
class VolumeGrid:
    """`dimensions` (i, j, k), and where they are: `ijkToRas`, (4, 4)."""

    dimensions: tuple[int, int, int]
    ijkToRas: np.ndarray

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of an array on the grid, (k, j, i)."""
        return self.dimensions[::-1]

    def image(self, voxels: np.ndarray | None = None) -> "slicer.vtkOrientedImageData":
        """The voxels (k, j, i) as an image on the grid; with None only the grid."""
        image = slicer.vtkOrientedImageData()
        image.SetDimensions(*self.dimensions)
        image.SetImageToWorldMatrix(slicer.util.vtkMatrixFromArray(self.ijkToRas))
        if voxels is not None:
            scalars = numpy_support.numpy_to_vtk(voxels.ravel(), deep=True)
            scalars.SetName("ImageScalars")
            image.GetPointData().SetScalars(scalars)
        return image

    def node(self, voxels: np.ndarray) -> "slicer.vtkMRMLLabelMapVolumeNode":
        """The voxels (k, j, i) as a label map that is in no scene."""
        made = slicer.vtkMRMLLabelMapVolumeNode()
        made.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(self.ijkToRas))
        plain = vtk.vtkImageData()
        plain.SetDimensions(*self.dimensions)
        plain.GetPointData().SetScalars(self.image(voxels).GetPointData().GetScalars())
        made.SetAndObserveImageData(plain)
        return made


def ownGrid(volumeNode: "slicer.vtkMRMLVolumeNode") -> VolumeGrid:
    """The grid in the volume's own frame, without its parent transform."""
    return VolumeGrid(volumeNode.GetImageData().GetDimensions(), VolumeInput.ijkToRas(volumeNode))


def worldGrid(volumeNode: "slicer.vtkMRMLVolumeNode") -> VolumeGrid:
    """The grid in the world, as if the parent transform were hardened.

    UserError where no file could hold it: the transform bends the volume, or shears it.
    """
    name, transformNode = volumeNode.GetName(), volumeNode.GetParentTransformNode()
    own = ownGrid(volumeNode)
    if transformNode is None:
        return own
    if not transformNode.IsTransformToWorldLinear():
        raise UserError(
            f"The volume '{name}' lies under the transform '{transformNode.GetName()}', which is "
            "not linear, and an image file cannot hold it; harden the transform first "
            "(right-click on it in Data), or take the volume out of it."
        )
    matrix = vtk.vtkMatrix4x4()
    transformNode.GetMatrixTransformToWorld(matrix)
    placed = slicer.util.arrayFromVTKMatrix(matrix) @ own.ijkToRas
    VolumeInput.checkAxes(placed, f"The volume '{name}' under '{transformNode.GetName()}'")
    return VolumeGrid(own.dimensions, placed)


def maskOf(
    segmentationNode: "slicer.vtkMRMLSegmentationNode",
    segmentId: str,
    volumeNode: "slicer.vtkMRMLVolumeNode",
) -> np.ndarray:
    """The segment's voxels on the volume's grid, (k, j, i) of bool.

    Wherever the two lie: each may be under a transform of its own.
    """
    grid = ownGrid(volumeNode)
    image = slicer.vtkOrientedImageData()
    segmentationNode.GetBinaryLabelmapRepresentation(segmentId, image)
    if image.GetNumberOfPoints() == 0 or image.GetPointData().GetScalars() is None:
        return np.zeros(grid.shape, bool)
    source = segmentationNode.GetParentTransformNode()
    target = volumeNode.GetParentTransformNode()
    transforms = slicer.vtkMRMLTransformNode
    transform: vtk.vtkAbstractTransform | None = None
    if source is not target:
        transform = vtk.vtkGeneralTransform()
        transforms.GetTransformBetweenNodes(source, target, transform)
        if transforms.IsGeneralTransformLinear(transform):
            # Moved as a whole, and not voxel by voxel, which takes much longer.
            matrix, imageToWorld = vtk.vtkMatrix4x4(), vtk.vtkMatrix4x4()
            transforms.GetMatrixTransformBetweenNodes(source, target, matrix)
            image.GetImageToWorldMatrix(imageToWorld)
            vtk.vtkMatrix4x4.Multiply4x4(matrix, imageToWorld, imageToWorld)
            image.SetImageToWorldMatrix(imageToWorld)
            transform = None
    resampled = slicer.vtkOrientedImageData()
    slicer.vtkOrientedImageDataResample.ResampleOrientedImageToReferenceOrientedImage(
        image, grid.image(), resampled, False, False, transform
    )
    scalars = numpy_support.vtk_to_numpy(resampled.GetPointData().GetScalars())
    return np.asarray(scalars.reshape(grid.shape) > 0)


def labelMapOf(
    segmentationNode: "slicer.vtkMRMLSegmentationNode",
    values: dict[str, int],
    volumeNode: "slicer.vtkMRMLVolumeNode",
) -> tuple[np.ndarray, dict[str, int]]:
    """One label map (k, j, i) of segments, each with its value, and how many voxels each has.

    UserError where segments overlap: a voxel of a label map has one value.
    """
    kind = np.uint8 if max(values.values(), default=0) < 256 else np.uint16
    labels = np.zeros(ownGrid(volumeNode).shape, kind)
    counts, clashes = {}, {}
    for segmentId, value in values.items():
        mask = maskOf(segmentationNode, segmentId, volumeNode)
        counts[segmentId] = int(mask.sum())
        taken = np.bincount(labels[mask], minlength=max(values.values()) + 1)
        for other, otherValue in values.items():
            if taken[otherValue]:
                clashes[other, segmentId] = int(taken[otherValue])
        labels[mask] = value
    if clashes:
        pairs = [
            f"{listed([nameOf(segmentationNode, one) for one in pair])} in {shared:,} voxel"
            + ("s" if shared > 1 else "")
            for pair, shared in clashes.items()
        ]
        raise UserError(
            f"Segments overlap: {'; '.join(pairs)}. A voxel can belong to one of them only; "
            "subtract one from the other in the Segment Editor (Logical operators)."
        )
    return labels, counts


def layersOf(masks: Sequence[np.ndarray], values: Sequence[int]) -> tuple[list[np.ndarray], list]:
    """Masks as few label maps as can be, and which of them each mask is in."""
    layers: list[np.ndarray] = []
    places = []
    kind = np.uint8 if max(values, default=0) < 256 else np.uint16
    for mask, value in zip(masks, values, strict=True):
        place = next((i for i, layer in enumerate(layers) if not layer[mask].any()), len(layers))
        if place == len(layers):
            layers.append(np.zeros(mask.shape, kind))
        layers[place][mask] = value
        places.append(place)
    return layers, places


def writeLabelMap(voxels: np.ndarray, grid: VolumeGrid, path: Path) -> None:
    """Writes a label map (k, j, i) in the format that the suffix names; UserError if it cannot."""
    storage = slicer.vtkMRMLVolumeArchetypeStorageNode()
    storage.SetFileName(str(path))
    if not storage.WriteData(grid.node(voxels)) or not path.is_file():
        raise UserError(f"{path.name} could not be written in {path.parent}; {VolumeInput.NO_ROOM}")
