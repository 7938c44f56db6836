"""The module's settings, which live in the scene and are saved with it."""

import enum

from slicer import (
    vtkMRMLMarkupsROINode,
    vtkMRMLScalarVolumeNode,
    vtkMRMLSegmentationNode,
)
from slicer.parameterNodeWrapper import parameterNodeWrapper

from .ExportFormat import ExportFormat


class Modality(enum.Enum):
    """How the intensities are to be read; AUTOMATIC means DICOM's word, else a guess."""

    AUTOMATIC = "automatic"
    CT = "CT"
    MR = "MR"

    def label(self) -> str:
        return "Automatic" if self is Modality.AUTOMATIC else self.value


class Device(enum.Enum):
    """Where the engine computes; the values are the engine's own names."""

    AUTOMATIC = "auto"
    CPU = "cpu"
    CUDA = "cuda"
    MPS = "mps"

    def label(self) -> str:
        return {
            Device.AUTOMATIC: "Automatic",
            Device.CPU: "CPU",
            Device.CUDA: "NVIDIA GPU (CUDA)",
            Device.MPS: "Apple GPU (MPS)",
        }[self]


@parameterNodeWrapper
class ParameterNode:
    """What the user has chosen on the panel.

    inputVolume - the scan.
    prompts - identifiers of the task prompts, in the order of their label values.
    modality - see Modality.
    roi - only voxels in this box are segmented; none means the whole volume.
    outputSegmentation - takes the result; none means that a new node is made.
    device - see Device.
    makeUncertainty - whether an uncertainty volume is made beside the segmentation.
    uncertaintyVolume - takes the uncertainty; none means that a new node is made.
    exportFormat - see ExportFormat.
    """

    inputVolume: vtkMRMLScalarVolumeNode
    prompts: list[str]
    modality: Modality = Modality.AUTOMATIC
    roi: vtkMRMLMarkupsROINode
    outputSegmentation: vtkMRMLSegmentationNode
    device: Device = Device.AUTOMATIC
    makeUncertainty: bool = False
    uncertaintyVolume: vtkMRMLScalarVolumeNode
    exportFormat: ExportFormat = ExportFormat.SEGMENTATION
