"""Whether a volume is CT or MR: DICOM says so, or its values suggest it."""

from dataclasses import dataclass

import numpy as np
import slicer

from . import Locations

_SAMPLES_PER_AXIS = 64


@dataclass(frozen=True)
class ModalityFinding:
    """`modality` as DICOM writes it ("CT", "MR", "PT", ...), and in words where it is from."""

    modality: str
    source: str


class ModalityFinder:
    """Finds the modality of volumes; a guess is kept until the voxels change."""

    def __init__(self) -> None:
        self._guesses: dict[str, tuple[int, str]] = {}

    def find(self, volumeNode: "slicer.vtkMRMLScalarVolumeNode") -> ModalityFinding | None:
        """The modality, or None for a node without voxels."""
        image = volumeNode.GetImageData()
        if image is None or image.GetPointData().GetScalars() is None:
            return None
        modality = _modalityFromDicom(volumeNode)
        if modality:
            return ModalityFinding(modality, "from DICOM")
        # Voxels that are changed in place change the array's time, and not the image's.
        changed = max(image.GetMTime(), image.GetPointData().GetScalars().GetMTime())
        known = self._guesses.get(volumeNode.GetID())
        if known is None or known[0] != changed:
            known = (changed, guessFromValues(_sample(volumeNode)))
            self._guesses[volumeNode.GetID()] = known
        return ModalityFinding(known[1], "guessed from values")


def _modalityFromDicom(volumeNode: "slicer.vtkMRMLScalarVolumeNode") -> str:
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(volumeNode.GetScene())
    if hierarchy is None:
        return ""
    attribute = slicer.vtkMRMLSubjectHierarchyConstants.GetDICOMSeriesModalityAttributeName()
    item = hierarchy.GetItemByDataNode(volumeNode)
    return hierarchy.GetItemAttribute(item, attribute) if item else ""


def _sample(volumeNode: "slicer.vtkMRMLScalarVolumeNode") -> np.ndarray:
    values = slicer.util.arrayFromVolume(volumeNode)
    steps = [max(1, n // _SAMPLES_PER_AXIS) for n in values.shape]
    return values[:: steps[0], :: steps[1], :: steps[2]]


def guessFromValues(values: np.ndarray) -> str:
    """The engine's own guess, "CT" or "MR", so that panel and command line say the same.

    SimpleITK, which it is made with, is part of Slicer; nothing else comes with the import.
    """
    Locations.makeEngineImportable()
    import SimpleITK as sitk

    from versemi.images import guess_modality

    return guess_modality(sitk.GetImageFromArray(np.ascontiguousarray(values)))
