"""A bench for exports: segments to export, a logic of one's own, and where voxels should be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import slicer
from in_process import InProcessWorker

from versemi.tasks import TASKS
from VerSemiSlicerLib import Segments
from VerSemiSlicerLib.ExportLogic import ExportLogic, ExportRequest, ExportResult
from VerSemiSlicerLib.WorkerLink import WorkerLink

RIGHT = np.diag([-2.0, -2.0, 3.0, 1.0])
LEFT = np.diag([2.0, -2.0, 3.0, 1.0])
TURNED = np.array([[0, -1.0, 0, 30], [1, 0, 0, -20], [0, 0, 1, 5], [0, 0, 0, 1]])
SHAPE = (14, 18, 20)
PARTS = {
    "liver": np.s_[2:9, 3:9, 4:12],
    "left_kidney": np.s_[6:12, 10:16, 3:9],
    "Segment_1": np.s_[3:8, 4:10, 13:18],
}


class Bench:
    """The logic with what it exports, and a DICOM database of one's own."""

    def __init__(self, catalog: Any, folder: Path) -> None:
        self.files: dict[str, str] = {}
        self.worker = InProcessWorker()
        self.folder = folder / "Ausgabe für Übung"
        temporary = folder / "temporary"
        temporary.mkdir()
        self.logic = ExportLogic(
            catalog, WorkerLink(self.worker), str(temporary), lambda uid: self.files.get(uid, "")
        )
        self.results: list[ExportResult] = []
        self.failures: list[str] = []
        self.logic.finished.connect(self.results.append)
        self.logic.failed.connect(lambda sentence, detail: self.failures.append(sentence))

    def request(self, volume: Any, node: Any, format: Any, **changes: Any) -> ExportRequest:
        given = {
            "volumeNode": volume,
            "segmentationNode": node,
            "segmentIds": Segments.segmentIds(node),
            "format": format,
            "folder": str(self.folder),
        }
        return ExportRequest(**{**given, **changes})

    def export(self, volume: Any, node: Any, format: Any, **changes: Any) -> ExportResult:
        self.logic.start(self.request(volume, node, format, **changes))
        self.logic.link.waitUntilIdle(timeout=60)
        assert self.failures == []
        return self.results[-1]


def make_segments(
    add_volume: Any, grid: np.ndarray = RIGHT, transformed: bool = True
) -> tuple[Any, Any]:
    """A volume under a transform, and a segmentation with two prompts and somebody's own."""
    values = np.random.default_rng(2).integers(-100, 200, SHAPE).astype(np.int16)
    volume = add_volume(grid, values=values)
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Größe A/B")
    node.CreateDefaultDisplayNodes()
    if transformed:
        parent = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
        parent.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(TURNED))
        for moved in (volume, node):
            moved.SetAndObserveTransformNodeID(parent.GetID())
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    for segment_id, part in PARTS.items():
        task = TASKS.get(segment_id)
        name = task.name if task else "Zyste 1/2"
        color = tuple(v / 255 for v in task.color) if task else (0.2, 0.4, 1.0)
        node.GetSegmentation().AddEmptySegment(segment_id, name, color)
        segment = node.GetSegmentation().GetSegment(segment_id)
        if task:
            segment.SetTag(Segments.PROMPT_TAG, task.id)
            segment.SetTag(segment.GetTerminologyEntryTagName(), task.terminology)
        mask = np.zeros(SHAPE, np.uint8)
        mask[part] = 1
        slicer.util.updateSegmentBinaryLabelmapFromArray(mask, node, segment_id, volume)
    return volume, node


def expected_points(segment_id: str, grid: np.ndarray, transformed: bool = True) -> np.ndarray:
    """Where the segment's voxels are in the world, RAS, sorted."""
    mask = np.zeros(SHAPE, bool)
    mask[PARTS[segment_id]] = True
    index = np.argwhere(mask)[:, ::-1]
    placed = (TURNED if transformed else np.eye(4)) @ grid
    return in_order(index @ placed[:3, :3].T + placed[:3, 3])


def points_of(image: sitk.Image, mask: np.ndarray) -> np.ndarray:
    """Where the voxels of a mask (k, j, i) of an image file are, RAS, sorted."""
    matrix = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    points = np.argwhere(mask)[:, ::-1] @ matrix.T + image.GetOrigin()
    return in_order(points * [-1, -1, 1])


def in_order(points: np.ndarray) -> np.ndarray:
    rounded = np.round(points, 3) + 0.0
    return rounded[np.lexsort(rounded.T)]
