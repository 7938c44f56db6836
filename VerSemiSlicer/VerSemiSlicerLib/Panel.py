"""The module's panel: connects the widgets of VerSemiSlicer.ui with parameter node and logic.

Only setters, methods and signal arguments are used on widgets (see PromptList), apart from those
that Slicer's own parameter node connects by their SlicerParameterName property.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import qt
import slicer
import vtk
from slicer.util import VTKObservationMixin

from . import RoiConversion
from .BusyCursor import busyCursor
from .Choice import Choice, Section
from .Dialogs import Dialogs
from .Errors import UserError
from .Installer import Installer
from .Modality import ModalityFinder
from .ModelInUse import ModelInUse
from .ModelLine import ModelLine
from .ParameterNode import Modality, ParameterNode
from .PromptList import PromptList
from .ResultsTable import ResultsTable
from .SegmentationResult import SegmentationRequest, SegmentationResult
from .Signal import Signal
from .WorkerLink import WorkerLink

POLL_MILLISECONDS = 50
_SEGMENT_EVENTS = (
    slicer.vtkSegmentation.SegmentAdded,
    slicer.vtkSegmentation.SegmentRemoved,
    slicer.vtkSegmentation.SegmentModified,
)


class Logic(Protocol):
    """What the panel needs of the logic; SegmentationLogic has it."""

    link: WorkerLink
    progressed: Signal
    finished: Signal
    failed: Signal
    cancelled: Signal

    @property
    def isRunning(self) -> bool: ...

    def problem(self, request: SegmentationRequest) -> str: ...

    def start(self, request: SegmentationRequest) -> None: ...

    def cancel(self) -> None: ...

    def close(self) -> None: ...


class Panel(VTKObservationMixin):
    """Owns no widgets and no nodes: `ui` has the widgets, `getParameterNode` the settings.

    `sections` are the parts below the result, which are told what is chosen.
    """

    def __init__(
        self,
        ui: Any,
        model: ModelInUse,
        logic: Logic,
        installer: Installer,
        dialogs: Dialogs,
        getParameterNode: Callable[[], ParameterNode],
        sections: Sequence[Section] = (),
    ) -> None:
        VTKObservationMixin.__init__(self)
        self.ui = ui
        self.logic = logic
        self._catalog = model.catalog
        self._installer = installer
        self._dialogs = dialogs
        self._getParameterNode = getParameterNode
        self.sections = tuple(sections)
        # What parameterNodeWrapper adds to the class, no type checker sees.
        self._parameterNode: Any = None
        self._guiTag: int | None = None
        self._observed: dict[str, Any] = {}
        self._shownModality: str | None = None
        self._modalities = ModalityFinder()

        self.modelLine = ModelLine(ui, model, dialogs)
        self.promptList = PromptList(ui.promptTree, self._catalog)
        self.results = ResultsTable(ui.resultsTable)
        self._timer = qt.QTimer()
        self._timer.setInterval(POLL_MILLISECONDS)
        self._timer.timeout.connect(logic.link.poll)

        self.promptList.changed.connect(self._onPromptsChanged)
        ui.promptSearchBox.textChanged.connect(self.promptList.setFilter)
        ui.checkShownButton.clicked.connect(self._onCheckShown)
        ui.uncheckAllButton.clicked.connect(self._onUncheckAll)
        ui.roiSelector.nodeAddedByUser.connect(self._onRoiAdded)
        ui.segmentButton.clicked.connect(self._onSegmentButton)
        model.changed.connect(self._onModelChanged)
        logic.link.busyChanged.connect(self._onBusyChanged)
        logic.progressed.connect(self._onProgress)
        logic.finished.connect(self._onFinished)
        logic.failed.connect(self._onFailed)
        logic.cancelled.connect(self._onCancelled)

        self._setStatus("")
        self._showRunning(False)
        self._showResults(None)

    # -- life of the panel ---------------------------------------------------------------------

    def enter(self) -> None:
        """The panel comes into view: settings are taken from the scene."""
        for section in self.sections:
            section.enter()
        self.useParameterNode(self._getParameterNode())
        if self._parameterNode.inputVolume is None and not self.logic.isRunning:
            self._parameterNode.inputVolume = _firstScan()
        # Segment asks what to do about a problem; to look at the panel needs no window.
        problem = "" if self.logic.link.isBusy else self.modelLine.look()
        if problem:
            self._setStatus(problem)

    def exit(self) -> None:
        """Another module comes into view; a run goes on behind it."""
        self.useParameterNode(None)
        for section in self.sections:
            section.exit()

    def sceneAboutToClose(self) -> None:
        """The nodes go: a run on them has lost its purpose, and so has what the worker keeps."""
        self.useParameterNode(None)
        self.logic.close()
        for section in self.sections:
            section.sceneAboutToClose()
        self._setStatus("")
        self._showResults(None)

    def cleanup(self) -> None:
        """Slicer closes, or the module is reloaded."""
        self.useParameterNode(None)
        self._timer.stop()
        self.logic.close()
        for section in self.sections:
            section.cleanup()
        self.removeObservers()

    def useParameterNode(self, parameterNode: Any) -> None:
        if self._parameterNode is not None:
            self._parameterNode.disconnectGui(self._guiTag)
            self.removeObserver(
                self._parameterNode.parameterNode, vtk.vtkCommand.ModifiedEvent, self._update
            )
            self._observe("volume", None, ())
            self._observe("segmentation", None, ())
        self._parameterNode = parameterNode
        if parameterNode is not None:
            self._guiTag = parameterNode.connectGui(self.ui)
            self.addObserver(
                parameterNode.parameterNode, vtk.vtkCommand.ModifiedEvent, self._update
            )
            self._update()

    # -- what the user does --------------------------------------------------------------------

    def _onPromptsChanged(self, promptIds: list[str]) -> None:
        if self._parameterNode is not None:
            self._parameterNode.prompts = promptIds

    def _onCheckShown(self, *_: Any) -> None:
        self.promptList.checkShown()

    def _onUncheckAll(self, *_: Any) -> None:
        self.promptList.uncheckAll()

    def _onRoiAdded(self, roiNode: Any) -> None:
        """A box in the middle of the volume can be dragged into place; an empty one cannot."""
        volumeNode = self._parameterNode.inputVolume if self._parameterNode else None
        if volumeNode is not None and volumeNode.GetImageData() is not None:
            roiNode.CreateDefaultDisplayNodes()
            RoiConversion.fitRoiToVolume(roiNode, volumeNode)
            display = roiNode.GetDisplayNode()
            # A filled box would hide the 3D view.
            display.SetFillVisibility(False)

    def _onSegmentButton(self, *_: Any) -> None:
        if self.logic.isRunning:
            self._setStatus("Cancelling\N{HORIZONTAL ELLIPSIS}")
            self.ui.segmentButton.setEnabled(False)
            self.logic.cancel()
            return
        if self._parameterNode is None:
            return
        try:
            declined = self.modelLine.ensure(self._parameterNode.prompts)
            if declined:
                self._setStatus(declined)
                return
            request = self._request()
            problem = self.logic.problem(request)
            if problem:
                raise UserError(problem)
            if not self._installer.ensure():
                self._setStatus("Nothing was installed; segmenting needs these packages.")
                return
            self._showResults(None)
            self._showRunning(True)
            with busyCursor():
                self.logic.start(request)
        except UserError as error:
            self._showRunning(False)
            self._setStatus(str(error))
            self._dialogs.error(str(error))
        except Exception:
            self._showRunning(False)
            raise

    # -- what the logic says -------------------------------------------------------------------

    def _onBusyChanged(self, busy: bool) -> None:
        """The worker is at work, for this part of the panel or another."""
        if busy:
            self._timer.start()
        else:
            self._timer.stop()
        for section in self.sections:
            section.setBusy(busy)
        self._update()

    def _onModelChanged(self) -> None:
        # The worker that is kept warm has the earlier model.
        self.logic.close()
        self.promptList.refill()
        self.promptList.preferModality(self._shownModality or "")
        self._update()

    def _onProgress(self, fraction: float, sentence: str) -> None:
        self.ui.progressBar.setValue(round(100 * fraction))
        self._setStatus(sentence)

    def _onFinished(self, result: SegmentationResult) -> None:
        self._showRunning(False)
        if self._parameterNode is not None:
            self._parameterNode.outputSegmentation = result.segmentationNode
            if result.uncertaintyNode is not None:
                self._parameterNode.uncertaintyVolume = result.uncertaintyNode
        self._showResults(result)
        for section in self.sections:
            section.showResult(result)
        seconds = sum(result.timings.values())
        took = f" in {seconds:.1f} s" if seconds else ""
        where = f" on {result.device}" if result.device else ""
        sentences = [f"Done{took}{where}."]
        replaced = [row.name for row in result.rows if row.replaced]
        if replaced:
            sentences.append(f"Replaced the earlier segment of {', '.join(replaced)}.")
        self._setStatus("\n".join([*sentences, *result.warnings]))

    def _onFailed(self, sentence: str, detail: str) -> None:
        self._showRunning(False)
        self._setStatus(sentence)
        self._dialogs.error(sentence, detail)

    def _onCancelled(self) -> None:
        self._showRunning(False)
        self._setStatus("Cancelled; the scene is as it was.")

    # -- what the panel shows ------------------------------------------------------------------

    def _update(self, _caller: Any = None, _event: Any = None) -> None:
        """Brings what depends on the settings in line with them."""
        node = self._parameterNode
        if node is None:
            return
        self._observe(
            "volume",
            node.inputVolume,
            # Other voxels may make another modality, and no voxels make a problem.
            (vtk.vtkCommand.ModifiedEvent, slicer.vtkMRMLVolumeNode.ImageDataModifiedEvent),
        )
        self._observe(
            "segmentation", node.outputSegmentation, _SEGMENT_EVENTS, self._updateSections
        )
        self.promptList.setChecked(node.prompts)
        self.ui.uncertaintySelector.setEnabled(node.makeUncertainty)
        modality = self._showModality()
        if modality != self._shownModality:
            # Only then: what the user folds and unfolds is the user's.
            self._shownModality = modality
            self.promptList.preferModality(modality)
        chosen = self._catalog.inOrder(node.prompts)
        self.ui.promptCountLabel.setText(f"{len(chosen)} of {len(self._catalog.tasks)} chosen")
        warning = self._catalog.mismatch(chosen, modality)
        self.ui.mismatchLabel.setText(warning)
        self.ui.mismatchLabel.setVisible(bool(warning))
        if not self.logic.isRunning:
            problem = self.logic.problem(self._request())
            if self.logic.link.isBusy:
                problem = "Wait until the case is added, or the segments are written."
            self.ui.segmentButton.setEnabled(not problem)
            self.ui.segmentButton.setToolTip(problem or "Segment the chosen structures.")
        self._updateSections()

    def _updateSections(self, _caller: Any = None, _event: Any = None) -> None:
        if self._parameterNode is None:
            return
        request = self._request()
        choice = Choice(
            request.volumeNode,
            request.segmentationNode,
            request.uncertaintyNode,
            request.prompts,
            request.modality,
            self._parameterNode.exportFormat,
        )
        for section in self.sections:
            section.update(choice)

    def _showModality(self) -> str:
        """Shows where the modality is from, and returns it; "" where there is no volume."""
        node = self._parameterNode
        if node.modality is not Modality.AUTOMATIC:
            self.ui.modalityLabel.setText("as chosen")
            return str(node.modality.value)
        finding = self._modalities.find(node.inputVolume) if node.inputVolume else None
        self.ui.modalityLabel.setText(f"{finding.modality} ({finding.source})" if finding else "")
        return finding.modality if finding else ""

    def _request(self) -> SegmentationRequest:
        node = self._parameterNode
        modality: str | None = node.modality.value
        if node.modality is Modality.AUTOMATIC:
            finding = self._modalities.find(node.inputVolume) if node.inputVolume else None
            # The engine reads intensities as CT or as MR, and guesses where it is told neither.
            known = finding is not None and finding.modality in ("CT", "MR")
            modality = finding.modality if finding is not None and known else None
        return SegmentationRequest(
            volumeNode=node.inputVolume,
            prompts=tuple(self._catalog.inOrder(node.prompts)),
            roiNode=node.roi,
            modality=modality,
            segmentationNode=node.outputSegmentation,
            wantsUncertainty=node.makeUncertainty,
            uncertaintyNode=node.uncertaintyVolume,
            device=node.device.value,
        )

    def _observe(
        self, what: str, node: Any, events: Sequence[Any], slot: Callable[..., None] | None = None
    ) -> None:
        """Follows changes of the node that is chosen as volume or as segmentation."""
        earlier, undo = self._observed.get(what, (None, ()))
        if node is earlier:
            return
        slot = slot or self._update
        watched = [(node, event, slot) for event in events] if node is not None else []
        self._observed[what] = (node, watched)
        for observation in undo:
            self.removeObserver(*observation)
        for observation in watched:
            self.addObserver(*observation)

    def _showRunning(self, running: bool) -> None:
        self.ui.segmentButton.setText("Cancel" if running else "Segment")
        self.ui.segmentButton.setEnabled(True)
        self.ui.progressBar.setVisible(running)
        self.ui.progressBar.setValue(0)
        for section in (
            self.ui.inputsButton,
            self.ui.promptsButton,
            self.ui.outputButton,
            self.ui.advancedButton,
        ):
            section.setEnabled(not running)
        if running:
            self.ui.segmentButton.setToolTip("Stop; the scene stays as it is.")
        else:
            self._update()

    def _showResults(self, result: SegmentationResult | None) -> None:
        self.results.show(result.rows if result else [])
        self.ui.resultsButton.setVisible(result is not None)
        self.ui.show3DButton.setSegmentationNode(result.segmentationNode if result else None)

    def _setStatus(self, sentence: str) -> None:
        self.ui.statusLabel.setText(sentence)
        self.ui.statusLabel.setVisible(bool(sentence))


def _firstScan() -> Any:
    """The scene's first scalar volume that is no label map, which is one too by its class."""
    for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode"):
        if node.GetClassName() == "vtkMRMLScalarVolumeNode":
            return node
    return None
