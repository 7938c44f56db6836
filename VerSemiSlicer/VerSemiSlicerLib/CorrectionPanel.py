"""The section Correct: Slicer's Segment Editor, with uncertainty and what was reviewed."""

from collections.abc import Callable
from typing import Any

import slicer
import vtk
from slicer.util import VTKObservationMixin

from . import Segments
from .BusyCursor import busyCursor
from .Choice import Choice
from .CorrectionLogic import CorrectionLogic
from .SegmentationResult import SegmentationResult

_UNDO_STATES = 10


def makeSlicersEditor() -> Any:
    """Slicer's own widget."""
    return slicer.qMRMLSegmentEditorWidget()


class CorrectionPanel(VTKObservationMixin):
    """Owns the editor, which listens to keys and views only while its section is in view."""

    def __init__(self, ui: Any, logic: CorrectionLogic, makeEditor: Callable[[], Any]) -> None:
        VTKObservationMixin.__init__(self)
        self.ui = ui
        self.logic = logic
        self._choice = Choice()
        self._chosenFor: tuple[Any, ...] = ()
        self._isEntered = False
        self._isActive = False
        self._editorNode: Any = None

        self.editor = makeEditor()
        self.editor.setMaximumNumberOfUndoStates(_UNDO_STATES)
        # Volume and segmentation are those of the panel, and are chosen there.
        self.editor.setSegmentationNodeSelectorVisible(False)
        self.editor.setSourceVolumeNodeSelectorVisible(False)
        # What the views show is the user's choice, and that of the buttons here.
        self.editor.setAutoShowSourceVolumeNode(False)
        # The settings before the scene: what the editor then chooses by itself is kept in them.
        self._useEditorNode(logic.editorNode())
        self.editor.setMRMLScene(slicer.mrmlScene)
        ui.editorFrame.layout().addWidget(self.editor)

        ui.correctionSection.contentsCollapsed.connect(self._onCollapsed)
        ui.showUncertaintyButton.clicked.connect(self._onShowUncertainty)
        ui.nextPlaceButton.clicked.connect(self._onNextPlace)
        ui.reviewedCheckBox.clicked.connect(self._onReviewed)
        self._say("")
        self._show()

    # -- life of the section -------------------------------------------------------------------

    def enter(self) -> None:
        self._isEntered = True
        self._useEditorNode(self.logic.editorNode())
        # Effects of other modules may have been registered since.
        self.editor.updateEffectList()
        self._activate()

    def exit(self) -> None:
        self._isEntered = False
        self._activate()

    def sceneAboutToClose(self) -> None:
        self.exit()
        self.editor.setSegmentationNode(None)
        self._useEditorNode(None)
        self.logic.forget()
        self._choice, self._chosenFor = Choice(), ()
        self._say("")
        self._show()

    def cleanup(self) -> None:
        self.exit()
        self._useEditorNode(None)
        self.removeObservers()

    def setBusy(self, busy: bool) -> None:
        """Drawing goes on meanwhile; the result replaces the segments of its prompts only."""

    def update(self, choice: Choice) -> None:
        if choice.uncertaintyNode is not self._choice.uncertaintyNode:
            self._say("")
        self._choice = choice
        if self._editorNode is None:
            return
        if self.editor.segmentationNode() is not choice.segmentationNode:
            self.editor.setSegmentationNode(choice.segmentationNode)
        if choice.segmentationNode is not None:
            if self.editor.sourceVolumeNode() is not choice.volumeNode:
                self.editor.setSourceVolumeNode(choice.volumeNode)
            chosenFor = (choice.segmentationNode, *choice.prompts)
            # Only when something else was chosen: afterwards the user's own selection stays.
            if chosenFor != self._chosenFor or not self._segment():
                self._chosenFor = chosenFor
                self._selectPrompt()
        self._show()

    def showResult(self, result: SegmentationResult) -> None:
        self._selectPrompt()
        if result.uncertaintyNode is not None:
            self.logic.showUncertainty(result.uncertaintyNode)
            self._say("")
        self._show()

    def select(self, segmentId: str) -> None:
        """Selects a segment in the editor."""
        if Segments.segmentOf(self._choice.segmentationNode, segmentId) is not None:
            self.editor.setCurrentSegmentID(segmentId)

    # -- what the user does --------------------------------------------------------------------

    def _onCollapsed(self, *_: Any) -> None:
        self._activate()

    def _onShowUncertainty(self, *_: Any) -> None:
        if self.logic.isUncertaintyShown():
            self.logic.hideUncertainty()
        elif self._choice.uncertaintyNode is not None:
            self.logic.showUncertainty(self._choice.uncertaintyNode)
        self._show()

    def _onNextPlace(self, *_: Any) -> None:
        if self._choice.uncertaintyNode is None:
            return
        with busyCursor():
            visit = self.logic.nextPlace(self._choice.uncertaintyNode)
        self._say(visit.sentence if visit is not None else self.logic.noneLeft())

    def _onReviewed(self, reviewed: bool) -> None:
        segment = self._segment()
        if segment is not None:
            Segments.setReviewed(segment, bool(reviewed))

    # -- what the section shows ----------------------------------------------------------------

    def _show(self, *_: Any) -> None:
        """Brings the buttons in line with segment and uncertainty."""
        segment = self._segment()
        self.ui.reviewedCheckBox.setEnabled(segment is not None)
        self.ui.reviewedCheckBox.setChecked(segment is not None and Segments.isReviewed(segment))
        name = f"Reviewed: {segment.GetName()}" if segment is not None else "Reviewed"
        self.ui.reviewedCheckBox.setText(name)
        there = self._choice.uncertaintyNode is not None
        why = "" if there else " Tick Uncertainty under Output and segment again to have one."
        shown = there and self.logic.isUncertaintyShown()
        self.ui.showUncertaintyButton.setChecked(shown)
        for button, what in (
            (self.ui.showUncertaintyButton, "Lay the uncertainty over the scan, or take it away."),
            (self.ui.nextPlaceButton, "Move the slice views to the worst place not yet visited."),
        ):
            button.setEnabled(there)
            button.setToolTip(what + why)

    def _say(self, sentence: str) -> None:
        self.ui.placeLabel.setText(sentence)
        self.ui.placeLabel.setVisible(bool(sentence))

    def _segment(self) -> Any:
        """The segment that is selected in the editor, or None."""
        if self._editorNode is None:
            return None
        selected = self._editorNode.GetSelectedSegmentID() or ""
        return Segments.segmentOf(self._choice.segmentationNode, selected)

    def _selectPrompt(self) -> None:
        if self._editorNode is None:
            return
        current = self._editorNode.GetSelectedSegmentID() or ""
        wanted = self.logic.segmentToEdit(
            self._choice.segmentationNode, self._choice.prompts, current
        )
        if wanted and wanted != current:
            self.editor.setCurrentSegmentID(wanted)

    def _useEditorNode(self, node: Any) -> None:
        if node is self._editorNode:
            return
        event = vtk.vtkCommand.ModifiedEvent
        if self._editorNode is not None:
            self.removeObserver(self._editorNode, event, self._show)
        self._editorNode = node
        if node is not None:
            self.editor.setMRMLSegmentEditorNode(node)
            self.addObserver(node, event, self._show)

    def _activate(self) -> None:
        """The editor's keys and its hold on the views, while the section can be seen."""
        active = self._isEntered and not self.ui.correctionSection.property("collapsed")
        if active == self._isActive:
            return
        self._isActive = active
        if active:
            self.editor.setupViewObservations()
            self.editor.installKeyboardShortcuts()
            self.editor.updateWidgetFromMRML()
        else:
            self.editor.setActiveEffect(None)
            self.editor.uninstallKeyboardShortcuts()
            self.editor.removeViewObservations()
