"""The section Export: which segments, in which form, into which folder."""

from dataclasses import replace
from typing import Any

from . import Segments
from .Choice import Choice
from .Dialogs import Dialogs
from .ExportFormat import ExportFormat
from .ExportLogic import ExportLogic, ExportRequest
from .FolderSection import FolderSection
from .Installer import Installer
from .Settings import Settings

_GROUPS = ("All", "Visible", "Reviewed")


class ExportPanel(FolderSection):
    """`installer` has what the worker needs, `dicomInstaller` what it needs for DICOM besides."""

    logic: ExportLogic
    folderSetting = "ExportFolder"
    beginSentence = "Writing the segments"
    cancelledSentence = "Cancelled; nothing was written."

    def __init__(
        self,
        ui: Any,
        logic: ExportLogic,
        installer: Installer,
        dicomInstaller: Installer,
        dialogs: Dialogs,
        settings: Settings,
    ) -> None:
        super().__init__(logic, ui.exportFolderEdit, ui.exportLabel, dialogs, settings)
        self.ui = ui
        self._installers = (installer, dicomInstaller)
        # What the list of segments shows below the groups: (identifier, name).
        self._listed: list[tuple[str, str]] = []
        ui.exportButton.clicked.connect(self._onExport)
        self._fill([])
        self._show()

    def update(self, choice: Choice) -> None:
        node = choice.segmentationNode
        listed = [(s, Segments.nameOf(node, s)) for s in Segments.segmentIds(node)]
        if listed != self._listed:
            self._fill(listed)
        super().update(choice)

    # -- what the user does --------------------------------------------------------------------

    def _onExport(self, *_: Any) -> None:
        self._ask(self._request(self._chosenSegments()))

    def _ready(self, request: ExportRequest) -> ExportRequest | None:
        if not self._agreed(request) or not self._installed(request):
            return None
        missing = self.logic.missingSeries(request)
        if not missing:
            return request
        question = (
            f"{missing}\n\nWrite a DICOM series of the volume first? It goes into a folder "
            "of its own beside the DICOM segmentation, with the volume's name as the "
            "patient's and nothing else about the patient."
        )
        if self._dialogs.confirm(question, "VerSemi - create a DICOM series"):
            return replace(request, makeSeries=True)
        self._say(missing)
        return None

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

    # -- what the section shows ----------------------------------------------------------------

    def _request(self, segmentIds: list[str]) -> ExportRequest:
        choice = self._choice
        return ExportRequest(
            volumeNode=choice.volumeNode,
            segmentationNode=choice.segmentationNode,
            segmentIds=segmentIds,
            format=choice.exportFormat,
            folder=self._folder,
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
