"""What there is to decide while a result is corrected, without Qt.

Slicer's Segment Editor does the drawing. Here is which segment it begins with, what the views show
of the uncertainty, where to look next, and what has been reviewed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import slicer
import vtk

from . import Segments
from .DoubtfulPlaces import DoubtfulPlace, findDoubtfulPlaces

EDITOR_TAG = "VerSemiSlicer"
"""Singleton tag of the module's own editor node: the Segment Editor module keeps its own tool."""

_OPACITY = 0.5


@dataclass(frozen=True)
class Visit:
    """A doubtful place that the views now show: `number` of `count`, at `ras` in the world."""

    place: DoubtfulPlace
    ras: tuple[float, float, float]
    number: int
    count: int

    @property
    def sentence(self) -> str:
        where = ", ".join(
            f"{axis} {value:.0f}" for axis, value in zip("RAS", self.ras, strict=True)
        )
        volume = f"{self.place.volumeMl:.1f}" if self.place.volumeMl >= 0.05 else "< 0.1"
        return f"Doubtful place {self.number} of {self.count}: {volume} ml around {where} mm."


class CorrectionLogic:
    """Owns no nodes but the editor's settings, and remembers what the views showed before."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """The scene closes, and with it all that was remembered of it."""
        # By composite node: the foreground volume that the overlay has covered, and its opacity.
        self._covered: dict[str, tuple[str | None, float]] = {}
        self._overlayId = ""
        self._places: list[DoubtfulPlace] = []
        self._placesOf: tuple[str, int] | None = None
        self._visited = 0

    # -- the Segment Editor --------------------------------------------------------------------

    @staticmethod
    def editorNode() -> "slicer.vtkMRMLSegmentEditorNode":
        """The editor's settings, which are made where the scene has none."""
        scene = slicer.mrmlScene
        node = scene.GetSingletonNode(EDITOR_TAG, "vtkMRMLSegmentEditorNode")
        if node is None:
            node = slicer.vtkMRMLSegmentEditorNode()
            node.SetSingletonTag(EDITOR_TAG)
            node = scene.AddNode(node)
        return node

    @staticmethod
    def segmentToEdit(
        segmentationNode: "slicer.vtkMRMLSegmentationNode | None",
        promptIds: Sequence[str],
        current: str = "",
    ) -> str:
        """The segment to select: that of the first chosen prompt that has one.

        `current` stays where it belongs to a chosen prompt, or where none of these has a segment.
        "" where there is nothing to edit.
        """
        there = Segments.segmentIds(segmentationNode)
        if not there or segmentationNode is None:
            return ""
        own = [Segments.ownSegment(segmentationNode, promptId) for promptId in promptIds]
        chosen = [segmentId for segmentId in own if segmentId]
        if current in there and (current in chosen or not chosen):
            return current
        return chosen[0] if chosen else there[0]

    # -- the uncertainty -----------------------------------------------------------------------

    def showUncertainty(self, uncertaintyNode: "slicer.vtkMRMLScalarVolumeNode") -> None:
        """Lays the map over the scan in all slice views, until `hideUncertainty`."""
        for composite in _compositeNodes():
            if not self._isOver(composite):
                covered = (composite.GetForegroundVolumeID(), composite.GetForegroundOpacity())
                self._covered[composite.GetID()] = covered
            composite.SetForegroundVolumeID(uncertaintyNode.GetID())
            composite.SetForegroundOpacity(_OPACITY)
        self._overlayId = uncertaintyNode.GetID()

    def hideUncertainty(self) -> None:
        """Brings back what the views showed before; where they show something new, that stays."""
        for composite in _compositeNodes():
            if self._isOver(composite):
                volumeId, opacity = self._covered.get(composite.GetID(), (None, 0.0))
                there = volumeId is not None and slicer.mrmlScene.GetNodeByID(volumeId) is not None
                composite.SetForegroundVolumeID(volumeId if there else None)
                composite.SetForegroundOpacity(opacity)
        self._covered, self._overlayId = {}, ""

    def isUncertaintyShown(self) -> bool:
        return any(self._isOver(composite) for composite in _compositeNodes())

    def _isOver(self, composite: "slicer.vtkMRMLSliceCompositeNode") -> bool:
        return bool(self._overlayId) and composite.GetForegroundVolumeID() == self._overlayId

    # -- doubtful places -----------------------------------------------------------------------

    def nextPlace(self, uncertaintyNode: "slicer.vtkMRMLScalarVolumeNode") -> Visit | None:
        """Moves all slice views to the worst place that has not been visited.

        None where none is left; then the next call begins with the worst again.
        """
        self._findPlaces(uncertaintyNode)
        if self._visited == len(self._places):
            self._visited = 0
            return None
        place = self._places[self._visited]
        self._visited += 1
        ras = _toWorld(uncertaintyNode, place.ijk)
        node = slicer.vtkMRMLSliceNode
        node.JumpAllSlices(slicer.mrmlScene, *ras, node.CenteredJumpSlice)
        return Visit(place, ras, self._visited, len(self._places))

    def noneLeft(self) -> str:
        """The sentence where `nextPlace` has found none."""
        if not self._places:
            return "There is no doubtful place: the model was sure wherever it looked."
        count = len(self._places)
        visited = f"All {count} doubtful places have" if count > 1 else "The doubtful place has"
        return f"{visited} been visited; press again to begin anew with the worst."

    def _findPlaces(self, uncertaintyNode: "slicer.vtkMRMLScalarVolumeNode") -> None:
        image = uncertaintyNode.GetImageData()
        if image is None:
            self._places, self._placesOf, self._visited = [], None, 0
            return
        changed = max(image.GetMTime(), image.GetPointData().GetScalars().GetMTime())
        if self._placesOf != (uncertaintyNode.GetID(), changed):
            values = slicer.util.arrayFromVolume(uncertaintyNode)
            self._places = findDoubtfulPlaces(values, uncertaintyNode.GetSpacing())
            self._placesOf, self._visited = (uncertaintyNode.GetID(), changed), 0


def _compositeNodes() -> "list[slicer.vtkMRMLSliceCompositeNode]":
    return list(slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"))


def _toWorld(
    volumeNode: "slicer.vtkMRMLVolumeNode", ijk: tuple[int, int, int]
) -> tuple[float, float, float]:
    matrix = vtk.vtkMatrix4x4()
    volumeNode.GetIJKToRASMatrix(matrix)
    local = slicer.util.arrayFromVTKMatrix(matrix) @ np.append(ijk, 1.0)
    world = [0.0, 0.0, 0.0]
    volumeNode.TransformPointToWorld(local[:3].tolist(), world)
    return world[0], world[1], world[2]
