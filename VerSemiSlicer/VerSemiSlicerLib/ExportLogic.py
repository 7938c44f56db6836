"""Exporting segments, without Qt: through Slicer's own writers, DICOM through the worker."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import slicer

from . import DicomSource, SegmentFiles, Segments, VolumeGrid, VolumeInput
from .Errors import UserError
from .ExportFormat import ExportFormat
from .FileStage import stagedIn
from .PromptCatalog import PromptCatalog
from .WorkerClient import WorkerClient
from .WorkerLink import WorkerLink


@dataclass(frozen=True)
class ExportRequest:
    """What to export, and where to.

    `volumeNode` gives the grid. `makeSeries` writes a DICOM series of the volume first, which the
    DICOM segmentation then refers to; `modality` ("CT", "MR" or None) is what it says it is.
    """

    volumeNode: "slicer.vtkMRMLScalarVolumeNode | None"
    segmentationNode: "slicer.vtkMRMLSegmentationNode | None"
    segmentIds: Sequence[str]
    format: ExportFormat
    folder: str
    makeSeries: bool = False
    modality: str | None = None


@dataclass(frozen=True)
class ExportResult:
    """The files that there are now, and what to say about them."""

    files: tuple[str, ...]
    message: str


class ExportLogic(WorkerClient):
    """Writes one set of segments at a time; `finished` has an ExportResult."""

    def __init__(
        self,
        catalog: PromptCatalog,
        link: WorkerLink,
        temporaryFolder: str | None = None,
        fileForInstance: DicomSource.FileForInstance = DicomSource.fileInDatabase,
    ) -> None:
        super().__init__(link, temporaryFolder)
        self._catalog = catalog
        self._fileForInstance = fileForInstance

    # -- what can be said beforehand -----------------------------------------------------------

    def missingSeries(self, request: ExportRequest) -> str:
        """What is missing of the DICOM images that a DICOM segmentation refers to, or ""."""
        if request.format is not ExportFormat.DICOM or request.makeSeries:
            return ""
        try:
            DicomSource.filesOf(request.volumeNode, self._fileForInstance)
        except DicomSource.MissingSeries as error:
            return str(error)
        return ""

    def existing(self, request: ExportRequest) -> list[str]:
        """The names of files that would be replaced."""
        names = SegmentFiles.fileNames(self._check(request), request.format)
        return [name for name in names if (Path(request.folder) / name).exists()]

    # -- doing it ------------------------------------------------------------------------------

    def start(self, request: ExportRequest) -> None:
        """Exports; UserError says why it cannot, with nothing begun.

        DICOM takes the worker, and `finished` follows from its link; for all others it has been
        emitted when this returns.
        """
        chosen = self._check(request)
        if request.format is ExportFormat.DICOM:
            self._startDicom(request, chosen)
            return
        grid = VolumeGrid.worldGrid(chosen.volumeNode)
        folder = Path(request.folder)
        with stagedIn(folder) as stage:
            empty = SegmentFiles.write(chosen, request.format, grid, stage)
            names = sorted(path.name for path in stage.iterdir())
        message = f"Wrote {Segments.listed(names)}."
        if empty:
            message += f" Left out, for they are empty: {Segments.listed(empty)}."
        self.finished.emit(ExportResult(tuple(str(folder / name) for name in names), message))

    def _startDicom(self, request: ExportRequest, chosen: SegmentFiles.Chosen) -> None:
        volumeNode = chosen.volumeNode
        series = None
        grid = VolumeGrid.worldGrid(volumeNode)
        if not request.makeSeries:
            # The images stay where their scanner put them, and so does what refers to them.
            series = DicomSource.filesOf(volumeNode, self._fileForInstance)
            grid = VolumeGrid.ownGrid(volumeNode)
        folder = self._newFolder()
        try:
            SegmentFiles.write(chosen, ExportFormat.SEGMENTATION, grid, folder)
            (segmentation,) = folder.iterdir()
            image = None
            if series is None:
                image = VolumeInput.writeVolume(volumeNode, folder, grid.ijkToRas)
            (name,) = SegmentFiles.fileNames(chosen, ExportFormat.DICOM)
            message = {
                "command": "export",
                "segmentation": str(segmentation),
                "series": series,
                "image": str(image) if image else None,
                "modality": request.modality,
                "name": volumeNode.GetName(),
                "output": str(Path(request.folder) / name),
            }
            self.link.start(message, self)
        except BaseException:
            self._clear()
            raise

    def _check(self, request: ExportRequest) -> SegmentFiles.Chosen:
        node = request.segmentationNode
        if node is None or not Segments.segmentIds(node):
            raise UserError("Choose a segmentation, or segment the volume first.")
        VolumeInput.checkVolume(request.volumeNode)
        assert request.volumeNode is not None
        Segments.checkIsOfVoxels(node)
        if not request.segmentIds:
            raise UserError("None of the segments is among those to export; choose others.")
        if not request.folder:
            raise UserError("Choose a destination folder.")
        if request.format is not ExportFormat.DICOM or request.makeSeries:
            VolumeGrid.worldGrid(request.volumeNode)
        values = self._values(node, request.segmentIds)
        return SegmentFiles.Chosen(node, request.volumeNode, values)

    def _values(
        self, node: "slicer.vtkMRMLSegmentationNode", segmentIds: Sequence[str]
    ) -> dict[str, int]:
        """Each segment's value: its prompt's, as in every label map; others get one of no prompt's.

        In the order of the segmentation, whichever are chosen.
        """
        values: dict[str, int] = {}
        taken = {task.label for task in self._catalog.tasks}
        following = max(taken, default=0) + 1
        for segmentId in Segments.segmentIds(node):
            task = Segments.promptOf(node.GetSegmentation().GetSegment(segmentId), self._catalog)
            if task is not None and task.label not in values.values():
                values[segmentId] = task.label
            else:
                values[segmentId] = following
                following += 1
        return {segmentId: values[segmentId] for segmentId in values if segmentId in segmentIds}

    def _take(self, event: Mapping[str, Any]) -> ExportResult:
        files = tuple(str(path) for path in event["files"])
        return ExportResult(files, str(event["message"]))
