"""From a volume node to the image file that the worker reads."""

from pathlib import Path

import numpy as np
import slicer
import vtk

from .Errors import UserError
from .FileStage import safeName

NO_ROOM = "check that the disk has room, or choose another temporary folder in Slicer's settings."


def checkVolume(volumeNode: "slicer.vtkMRMLScalarVolumeNode | None") -> None:
    """Raises UserError where the node cannot be segmented, whatever is in its voxels."""
    if volumeNode is None:
        raise UserError("Choose an input volume.")
    name = volumeNode.GetName()
    if volumeNode.IsA("vtkMRMLLabelMapVolumeNode"):
        raise UserError(f"'{name}' is a label map, not a scan; choose the scan it belongs to.")
    image = volumeNode.GetImageData()
    if image is None or image.GetNumberOfPoints() == 0 or image.GetPointData().GetScalars() is None:
        raise UserError(f"The volume '{name}' has no image data; load it again.")
    components = image.GetNumberOfScalarComponents()
    if components != 1:
        raise UserError(
            f"The volume '{name}' has {components} values per voxel, as colour and vector images "
            "have; choose a volume with one value per voxel."
        )
    dimensions = image.GetDimensions()
    if min(dimensions) < 2:
        size = " x ".join(str(n) for n in dimensions)
        raise UserError(
            f"The volume '{name}' is a single slice ({size} voxels); choose a 3D volume."
        )
    checkAxes(ijkToRas(volumeNode), f"The volume '{name}'")


def checkAxes(matrix: np.ndarray, what: str) -> None:
    """Raises UserError where no image file could hold the IJK to RAS matrix (4, 4)."""
    axes = matrix[:3, :3]
    lengths = np.linalg.norm(axes, axis=0)
    if not np.all(np.isfinite(axes)) or np.any(lengths <= 0):
        raise UserError(f"{what} has a spacing of zero; correct it in Volumes.")
    directions = axes / lengths
    if np.abs(directions.T @ directions - np.eye(3)).max() > 1e-3:
        raise UserError(
            f"{what} has axes that are not at right angles; "
            "resample it with the module Resample Scalar Volume first."
        )


def ijkToRas(volumeNode: "slicer.vtkMRMLVolumeNode") -> np.ndarray:
    """The volume's own IJK to RAS matrix, (4, 4), without its parent transform."""
    matrix = vtk.vtkMatrix4x4()
    volumeNode.GetIJKToRASMatrix(matrix)
    return slicer.util.arrayFromVTKMatrix(matrix)


def writeVolume(
    volumeNode: "slicer.vtkMRMLScalarVolumeNode", folder: Path, matrix: np.ndarray | None = None
) -> Path:
    """Writes the volume as NRRD in its own frame: its parent transform stays out of the file.

    Returns the file, which is called as the volume is, for the engine's sentences name it.
    `matrix` takes the place of its IJK to RAS matrix. Uncompressed: the file lives for seconds,
    and compressing a large CT takes longer than segmenting it.
    """
    written = volumeNode
    if matrix is not None:
        # A node in no scene over the same voxels: nothing is copied, and the scene not touched.
        written = slicer.vtkMRMLScalarVolumeNode()
        written.SetAndObserveImageData(volumeNode.GetImageData())
        written.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(matrix))
    # Apart from what else is in the folder, whatever the volume is called.
    path = folder / "volume" / f"{safeName((volumeNode.GetName() or '')[:40], 'volume')}.nrrd"
    path.parent.mkdir(exist_ok=True)
    storage = slicer.vtkMRMLVolumeArchetypeStorageNode()
    storage.SetFileName(str(path))
    storage.SetUseCompression(0)
    if not storage.WriteData(written) or not path.is_file():
        raise UserError(
            f"The volume '{volumeNode.GetName()}' could not be written to {folder}; {NO_ROOM}"
        )
    return path


def readVolume(path: Path, nodeClass: str) -> "slicer.vtkMRMLScalarVolumeNode":
    """Reads an image file of the worker into a node that is in no scene."""
    node = getattr(slicer, nodeClass)()
    storage = slicer.vtkMRMLVolumeArchetypeStorageNode()
    storage.SetFileName(str(path))
    storage.SetCenterImage(0)
    if not path.is_file() or not storage.ReadData(node) or node.GetImageData() is None:
        raise UserError(f"The result {path.name} could not be read; segment again.")
    return node
