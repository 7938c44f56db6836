"""The section Export: which segments, in which form, into which folder."""

from typing import Any

from . import Segments
from .BusyCursor import busyCursor
from .Choice import Choice
from .Dialogs import Dialogs
from .Errors import UserError
from .ExportFormat import ExportFormat
from .ExportLogic import ExportLogic, ExportRequest, ExportResult
from .Installer import Installer
from .SegmentationResult import SegmentationResult
from .Settings import Settings

FOLDER_SETTING = "ExportFolder"
_GROUPS = ("All", "Visible", "Reviewed")


class ExportPanel:
    """`installer` has what the worker needs, `dicomInstaller` what it needs for DICOM besides."""

    def __init__(
        self,
        ui: Any,
        logic: ExportLogic,
        installer: Installer,
        dicomInstaller: Installer,
        dialogs: Dialogs,
        settings: Settings,
    ) -> None:
        self.ui = ui
        self.logic = logic
        self._installers = (installer, dicomInstaller)
        self._dialogs = dialogs
        self._settings = settings
        self._choice = Choice()
        self._busy = False
        self._folder = settings.text(FOLDER_SETTING)
        # What the list of segments shows below the groups: (identifier, name).
        self._listed: list[tuple[str, str]] = []

        ui.exportFolderEdit.setCurrentPath(self._folder)
        ui.exportFolderEdit.currentPathChanged.connect(self._onFolder)
        ui.exportButton.clicked.connect(self._onExport)
        logic.progressed.connect(self._onProgress)
        logic.finished.connect(self._onFinished)
        logic.failed.connect(self._onFailed)
        logic.cancelled.connect(self._onCancelled)
        self._fill([])
        self._say("")
        self._show()

    def enter(self) -> None:
        """Nothing to take up."""

    def exit(self) -> None:
        """What is being exported goes on."""

    def sceneAboutToClose(self) -> None:
        self.update(Choice())
        self._say("")

    def cleanup(self) -> None:
        """Nothing to give back."""

    def showResult(self, result: SegmentationResult) -> None:
        self._say("")

    def setBusy(self, busy: bool) -> None:
        self._busy = busy
        self._show()

    def update(self, choice: Choice) -> None:
        self._choice = choice
        node = choice.segmentationNode
        listed = [(s, Segments.nameOf(node, s)) for s in Segments.segmentIds(node)]
        if listed != self._listed:
            self._fill(listed)
        self._show()

    # -- what the user does --------------------------------------------------------------------

    def _onFolder(self, folder: str) -> None:
        self._folder = str(folder).strip()
        self._settings.setText(FOLDER_SETTING, self._folder)
        self._show()

    def _onExport(self, *_: Any) -> None:
        try:
            request = self._request(self._chosenSegments())
            problem = self.logic.problem(request)
            if problem:
                raise UserError(problem)
            if not self._agreed(request) or not self._installed(request):
                return
            missing = self.logic.missingSeries(request)
            if missing:
                question = (
                    f"{missing}\n\nWrite a DICOM series of the volume first? It goes into a folder "
                    "of its own beside the DICOM segmentation, with the volume's name as the "
                    "patient's and nothing else about the patient."
                )
                if not self._dialogs.confirm(question, "VerSemi - create a DICOM series"):
                    self._say(missing)
                    return
                request = self._request(request.segmentIds, makeSeries=True)
            self._say("Writing the segments")
            with busyCursor():
                self.logic.start(request)
        except UserError as error:
            self._onFailed(str(error), "")

    def _agreed(self, request: ExportRequest) -> bool:
        """Whether files may be replaced, which only the user can say."""
        existing = self.logic.existing(request)
        if not existing:
            return True
        text = f"Replace {Segments.listed(existing)} in {request.folder}?"
        if self._dialogs.confirm(text, "VerSemi - replace files"):
            return True
        self._say("Nothing was written; choose another folder, or rename the segmentation.")
        return False

    def _installed(self, request: ExportRequest) -> bool:
        if request.format is not ExportFormat.DICOM:
            return True
        if all(installer.ensure() for installer in self._installers):
            return True
        self._say("Nothing was installed; DICOM needs these packages.")
        return False

    # -- what the logic says -------------------------------------------------------------------

    def _onProgress(self, fraction: float, sentence: str) -> None:
        self._say(sentence)

    def _onFinished(self, result: ExportResult) -> None:
        self._say(result.message)

    def _onFailed(self, sentence: str, detail: str) -> None:
        self._say(sentence)
        self._dialogs.error(sentence, detail)

    def _onCancelled(self) -> None:
        self._say("Cancelled; nothing was written.")

    # -- what the section shows ----------------------------------------------------------------

    def _request(self, segmentIds: Any, makeSeries: bool = False) -> ExportRequest:
        choice = self._choice
        return ExportRequest(
            volumeNode=choice.volumeNode,
            segmentationNode=choice.segmentationNode,
            segmentIds=segmentIds,
            format=choice.exportFormat,
            folder=self._folder,
            makeSeries=makeSeries,
            modality=choice.modality,
        )

    def _chosenSegments(self) -> list[str]:
        index = int(self.ui.exportSegmentsComboBox.property("currentIndex"))
        ids = [segmentId for segmentId, _ in self._listed]
        node = self._choice.segmentationNode
        if index >= len(_GROUPS):
            return [ids[index - len(_GROUPS)]]
        if _GROUPS[index] == "Visible":
            return [s for s in ids if node.GetDisplayNode().GetSegmentVisibility(s)]
        if _GROUPS[index] == "Reviewed":
            return [s for s in ids if Segments.isReviewed(Segments.segmentOf(node, s))]
        return ids

    def _fill(self, listed: list[tuple[str, str]]) -> None:
        """Lists groups and segments; what was chosen stays chosen where it is still there."""
        box = self.ui.exportSegmentsComboBox
        index = int(box.property("currentIndex"))
        if index >= len(_GROUPS):
            earlier = self._listed[index - len(_GROUPS)][0]
            ids = [segmentId for segmentId, _ in listed]
            index = ids.index(earlier) + len(_GROUPS) if earlier in ids else 0
        self._listed = listed
        box.clear()
        for text in (*_GROUPS, *(name for _, name in listed)):
            box.addItem(text)
        box.setCurrentIndex(max(index, 0))

    def _show(self) -> None:
        problem = self.logic.problem(self._request([s for s, _ in self._listed]))
        self.ui.exportButton.setEnabled(not problem and not self._busy)
        self.ui.exportButton.setToolTip(problem or "Write the segments into the folder.")

    def _say(self, sentence: str) -> None:
        self.ui.exportLabel.setText(sentence)
        self.ui.exportLabel.setVisible(bool(sentence))
