"""What the user has chosen on the panel, as its sections are told of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import slicer

from .ExportFormat import ExportFormat
from .SegmentationResult import SegmentationResult


@dataclass(frozen=True)
class Choice:
    """`modality` is "CT", "MR" or None where neither the user nor DICOM has said."""

    volumeNode: "slicer.vtkMRMLScalarVolumeNode | None" = None
    segmentationNode: "slicer.vtkMRMLSegmentationNode | None" = None
    uncertaintyNode: "slicer.vtkMRMLScalarVolumeNode | None" = None
    prompts: Sequence[str] = ()
    modality: str | None = None
    exportFormat: ExportFormat = ExportFormat.SEGMENTATION


class Section(Protocol):
    """A part of the panel below the result; `update` also follows every change of segments."""

    def update(self, choice: Choice) -> None: ...

    def showResult(self, result: SegmentationResult) -> None: ...

    def setBusy(self, busy: bool) -> None: ...

    def enter(self) -> None: ...

    def exit(self) -> None: ...

    def sceneAboutToClose(self) -> None: ...

    def cleanup(self) -> None: ...
