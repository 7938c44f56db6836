"""Keeping a scan, with or without its correction, in a library folder, without Qt.

The folder itself is the engine's: what goes in is written beside it as image files in the world's
frame, and the worker does the rest.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import slicer

from . import Prediction, Segments, VolumeGrid, VolumeInput
from .Errors import UserError
from .PromptCatalog import PromptCatalog
from .WorkerClient import WorkerClient
from .WorkerLink import WorkerLink


@dataclass(frozen=True)
class KeepRequest:
    """What to put into the library at `folder`: the scan alone where `segmentationNode` is None.

    `modality` is "CT", "MR" or None for the engine's own guess.
    """

    folder: str
    volumeNode: "slicer.vtkMRMLScalarVolumeNode | None"
    segmentationNode: "slicer.vtkMRMLSegmentationNode | None" = None
    modality: str | None = None
    withoutLabels: bool = False


@dataclass(frozen=True)
class KeepResult:
    """The case that the library now has, with what there is to say about it."""

    case: str
    version: int
    message: str


@dataclass(frozen=True)
class Reviewed:
    """The segments that a correction consists of, by prompt, and what stays out of it."""

    segments: dict[str, str]
    notes: tuple[str, ...]


class LibraryLogic(WorkerClient):
    """Adds one case at a time; `finished` has a KeepResult."""

    def __init__(
        self, catalog: PromptCatalog, link: WorkerLink, temporaryFolder: str | None = None
    ) -> None:
        super().__init__(link, temporaryFolder)
        self._catalog = catalog
        self._notes: tuple[str, ...] = ()

    def start(self, request: KeepRequest) -> None:
        """Begins to add; UserError says why it cannot, with nothing begun."""
        reviewed = self._check(request)
        assert request.volumeNode is not None
        grid = VolumeGrid.worldGrid(request.volumeNode)
        labels = self._labels(request, reviewed)
        folder = self._newFolder()
        self._notes = reviewed.notes
        try:
            image = VolumeInput.writeVolume(request.volumeNode, folder, grid.ijkToRas)
            message: dict[str, Any] = {
                "command": "keep",
                "library": request.folder,
                "image": str(image),
                "labels": None,
                "prompts": list(reviewed.segments),
                "predicted": None,
                "parent": None,
                "modality": request.modality,
                "name": request.volumeNode.GetName(),
                "source": _sourceOf(request.volumeNode),
            }
            if labels is not None:
                message["labels"] = self._write(labels, grid, "labels.nrrd")
                predicted, parent = self._predicted(request, reviewed, labels)
                if predicted is not None:
                    message["predicted"] = self._write(predicted, grid, "predicted.nrrd")
                    message["parent"] = parent
            self.link.start(message, self)
        except BaseException:
            self._clear()
            raise

    # -- what is kept --------------------------------------------------------------------------

    def _check(self, request: KeepRequest) -> Reviewed:
        if not request.folder:
            raise UserError("Choose a library folder.")
        VolumeInput.checkVolume(request.volumeNode)
        assert request.volumeNode is not None
        VolumeGrid.worldGrid(request.volumeNode)
        if request.withoutLabels:
            return Reviewed({}, ())
        if request.segmentationNode is None:
            raise UserError("Choose a segmentation, or segment the volume first.")
        Segments.checkIsOfVoxels(request.segmentationNode)
        return self.reviewed(request.segmentationNode)

    def reviewed(self, segmentationNode: "slicer.vtkMRMLSegmentationNode") -> Reviewed:
        """The reviewed segments; UserError where there is none to keep, or two for one prompt."""
        segments: dict[str, str] = {}
        strange, unreviewed = [], []
        for segmentId in Segments.segmentIds(segmentationNode):
            segment = segmentationNode.GetSegmentation().GetSegment(segmentId)
            task = Segments.promptOf(segment, self._catalog)
            if not Segments.isReviewed(segment):
                unreviewed.append(segment.GetName())
            elif task is None:
                strange.append(segment.GetName())
            elif task.id in segments:
                names = [Segments.nameOf(segmentationNode, segments[task.id]), segment.GetName()]
                raise UserError(
                    f"The segments {Segments.listed(names)} both stand for the prompt "
                    f"'{task.name}'; take the mark Reviewed away from one of them."
                )
            else:
                segments[task.id] = segmentId
        if not segments:
            if strange:
                raise UserError(
                    f"{Segments.listed(strange)} belongs to no task prompt of the model pack; "
                    "segment a prompt, or give the segment a prompt's terminology."
                )
            raise UserError(
                "No segment is marked as reviewed; correct a segment and tick Reviewed."
            )
        notes = []
        if unreviewed:
            notes.append(f"Not kept, for not reviewed: {Segments.listed(unreviewed)}.")
        if strange:
            notes.append(f"Not kept, for no task prompt: {Segments.listed(strange)}.")
        ordered = {task: segments[task] for task in self._catalog.inOrder(list(segments))}
        return Reviewed(ordered, tuple(notes))

    def _labels(self, request: KeepRequest, reviewed: Reviewed) -> np.ndarray | None:
        """The label map (k, j, i); UserError where it is empty, or its segments overlap."""
        if not reviewed.segments:
            return None
        node, volumeNode = request.segmentationNode, request.volumeNode
        values = {
            segmentId: self._catalog.task(prompt).label
            for prompt, segmentId in reviewed.segments.items()
        }
        labels, counts = VolumeGrid.labelMapOf(node, values, volumeNode)
        predicted = Prediction.recall(node, volumeNode)
        # Where the model had found something, "nothing is there" is a correction like any other.
        if not any(counts.values()) and not any(
            predicted[prompt].mask.any() for prompt in reviewed.segments if prompt in predicted
        ):
            names = Segments.listed([Segments.nameOf(node, s) for s in values])
            raise UserError(
                f"The correction is empty: {names} has 0 voxels on the volume "
                f"'{volumeNode.GetName()}', and the model had found none; draw the structure, or "
                "take the mark Reviewed away."
            )
        return labels

    def _predicted(
        self, request: KeepRequest, reviewed: Reviewed, labels: np.ndarray
    ) -> tuple[np.ndarray | None, str | None]:
        """What the model had answered to the reviewed prompts, (k, j, i), and which model."""
        known = Prediction.recall(request.segmentationNode, request.volumeNode)
        masks = {prompt: known[prompt] for prompt in reviewed.segments if prompt in known}
        if not masks:
            return None, None
        predicted = np.zeros_like(labels)
        for prompt, mask in masks.items():
            mask.drawInto(predicted, self._catalog.task(prompt).label)
        return predicted, ", ".join(dict.fromkeys(mask.packName for mask in masks.values()))

    def _write(self, voxels: np.ndarray, grid: VolumeGrid.VolumeGrid, name: str) -> str:
        assert self._folder is not None
        VolumeGrid.writeLabelMap(voxels, grid, self._folder / name)
        return str(self._folder / name)

    def _take(self, event: Mapping[str, Any]) -> KeepResult:
        message = " ".join([str(event["message"]), *self._notes])
        return KeepResult(str(event["case"]), int(event["version"]), message)


def _sourceOf(volumeNode: "slicer.vtkMRMLVolumeNode") -> str:
    """Where the scan came from: its DICOM series, else its file; "" where neither is known."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    item = hierarchy.GetItemByDataNode(volumeNode) if hierarchy is not None else 0
    uid = hierarchy.GetItemUID(item, "DICOM") if item else ""
    if uid:
        return f"DICOM series {uid}"
    storage = volumeNode.GetStorageNode()
    path = storage.GetFileName() if storage is not None else None
    return Path(path).name if path else ""
