"""What a run asks for and what it brings back."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import slicer


@dataclass(frozen=True)
class SegmentationRequest:
    """One press of Segment.

    `modality` is "CT", "MR" or None for the engine's own guess. `segmentationNode` and
    `uncertaintyNode` take the results; None means that new nodes are made.
    """

    volumeNode: "slicer.vtkMRMLScalarVolumeNode | None"
    prompts: Sequence[str]
    roiNode: "slicer.vtkMRMLMarkupsROINode | None" = None
    modality: str | None = None
    segmentationNode: "slicer.vtkMRMLSegmentationNode | None" = None
    wantsUncertainty: bool = False
    uncertaintyNode: "slicer.vtkMRMLScalarVolumeNode | None" = None
    device: str = "auto"


@dataclass(frozen=True)
class SegmentRow:
    """One segment of the result; `volumeMl` as the engine counted it on the volume's grid."""

    segmentId: str
    name: str
    color: tuple[int, int, int]
    volumeMl: float
    replaced: bool


@dataclass(frozen=True)
class SegmentationResult:
    """What is now in the scene."""

    segmentationNode: "slicer.vtkMRMLSegmentationNode"
    uncertaintyNode: "slicer.vtkMRMLScalarVolumeNode | None"
    rows: Sequence[SegmentRow]
    warnings: Sequence[str] = ()
    timings: dict[str, float] = field(default_factory=dict)
    device: str = ""
