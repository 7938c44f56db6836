"""Slicer's Segment Editor widget, as far as a module that embeds it can tell the difference.

It keeps segmentation, source volume and selected segment in a real vtkMRMLSegmentEditorNode, as
the real one does, and remembers which keys and views it holds. It draws nothing.
"""

from __future__ import annotations

from typing import Any

import slicer
from PySide6 import QtCore, QtWidgets

_EFFECTS = ("None", "Threshold", "Paint", "Draw", "Erase", "Level tracing", "Grow from seeds")
_EFFECTS += ("Fill between slices", "Margin", "Hollow", "Smoothing", "Scissors", "Islands")
_EFFECTS += ("Logical operators", "Mask volume", "Undo", "Redo")


class qMRMLSegmentEditorWidget(QtWidgets.QWidget):
    """Wants its settings before its scene, and says so where the real one only misbehaves."""

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self.node: Any = None
        self.scene: Any = None
        self.undo_states = 0
        self.shortcuts = False
        self.view_observations = False
        self.effect: Any = None
        self.effect_lists = 0
        self.hidden: set[str] = set()
        self._table = QtWidgets.QListWidget()
        self._table.setFixedHeight(110)
        layout = QtWidgets.QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        row = QtWidgets.QHBoxLayout()
        for text in ("Add", "Remove", "Show 3D"):
            row.addWidget(QtWidgets.QPushButton(text))
        layout.addLayout(row)
        layout.addWidget(self._table)
        effects = QtWidgets.QGridLayout()
        for index, name in enumerate(_EFFECTS):
            button = QtWidgets.QToolButton()
            button.setText(name)
            button.setSizePolicy(
                QtWidgets.QSizePolicy.Policy.Expanding, QtWidgets.QSizePolicy.Policy.Fixed
            )
            effects.addWidget(button, index // 3, index % 3)
        layout.addLayout(effects)

    def setMRMLSegmentEditorNode(self, node: Any) -> None:
        self.node = node
        self.updateWidgetFromMRML()

    def mrmlSegmentEditorNode(self) -> Any:
        return self.node

    def setMRMLScene(self, scene: Any) -> None:
        assert self.node is not None, "The editor's node has to be set before its scene."
        self.scene = scene

    def setSegmentationNode(self, node: Any) -> None:
        """A segmentation that is new to it gets its first segment selected."""
        if node is self.node.GetSegmentationNode():
            return
        self.node.SetAndObserveSegmentationNode(node)
        count = node.GetSegmentation().GetNumberOfSegments() if node is not None else 0
        first = node.GetSegmentation().GetNthSegmentID(0) if count else None
        self.node.SetSelectedSegmentID(first)
        self.updateWidgetFromMRML()

    def segmentationNode(self) -> Any:
        return self.node.GetSegmentationNode() if self.node is not None else None

    def setSourceVolumeNode(self, node: Any) -> None:
        assert self.segmentationNode() is not None, "The volume is set after the segmentation."
        self.node.SetAndObserveSourceVolumeNode(node)

    def sourceVolumeNode(self) -> Any:
        return self.node.GetSourceVolumeNode() if self.node is not None else None

    def setCurrentSegmentID(self, segment_id: str) -> None:
        self.node.SetSelectedSegmentID(segment_id)
        self.updateWidgetFromMRML()

    def currentSegmentID(self) -> str:
        return self.node.GetSelectedSegmentID() or ""

    def setMaximumNumberOfUndoStates(self, count: int) -> None:
        self.undo_states = count

    def setSegmentationNodeSelectorVisible(self, visible: bool) -> None:
        self._hide("segmentation", visible)

    def setSourceVolumeNodeSelectorVisible(self, visible: bool) -> None:
        self._hide("source volume", visible)

    def setAutoShowSourceVolumeNode(self, show: bool) -> None:
        self._hide("automatic display", show)

    def setupViewObservations(self) -> None:
        self.view_observations = True

    def removeViewObservations(self) -> None:
        self.view_observations = False

    def installKeyboardShortcuts(self) -> None:
        self.shortcuts = True

    def uninstallKeyboardShortcuts(self) -> None:
        self.shortcuts = False

    def setActiveEffect(self, effect: Any) -> None:
        self.effect = effect

    def updateEffectList(self) -> None:
        self.effect_lists += 1

    def updateWidgetFromMRML(self) -> None:
        self._table.clear()
        node = self.segmentationNode()
        for index in range(node.GetSegmentation().GetNumberOfSegments() if node else 0):
            segment = node.GetSegmentation().GetNthSegment(index)
            status = slicer.vtkSlicerSegmentationsModuleLogic.GetSegmentStatus(segment)
            text = slicer.vtkSlicerSegmentationsModuleLogic
            human = text.GetSegmentStatusAsHumanReadableString(status)
            item = QtWidgets.QListWidgetItem(f"{segment.GetName()}  ({human})")
            self._table.addItem(item)
            if node.GetSegmentation().GetNthSegmentID(index) == self.currentSegmentID():
                self._table.setCurrentItem(item)

    def _hide(self, what: str, visible: bool) -> None:
        if visible:
            self.hidden.discard(what)
        else:
            self.hidden.add(what)

    def sizeHint(self) -> QtCore.QSize:
        return QtCore.QSize(300, 330)
