"""The section Case library: what goes into the folder that the model learns from."""

from typing import Any

from .Dialogs import Dialogs
from .FolderSection import FolderSection
from .Installer import Installer
from .LibraryLogic import KeepRequest, LibraryLogic
from .Settings import Settings


class LibraryPanel(FolderSection):
    """Two buttons and a folder."""

    logic: LibraryLogic
    folderSetting = "LibraryFolder"
    beginSentence = "Writing the volume"
    cancelledSentence = "Cancelled; look into the library before you add the case again."

    def __init__(
        self,
        ui: Any,
        logic: LibraryLogic,
        installer: Installer,
        dialogs: Dialogs,
        settings: Settings,
    ) -> None:
        super().__init__(logic, ui.libraryFolderEdit, ui.libraryLabel, dialogs, settings)
        self.ui = ui
        self._installer = installer
        ui.addCorrectedButton.clicked.connect(self._onAddCorrected)
        ui.addUnlabelledButton.clicked.connect(self._onAddUnlabelled)
        self._show()

    def _onAddCorrected(self, *_: Any) -> None:
        self._ask(self._request(withoutLabels=False))

    def _onAddUnlabelled(self, *_: Any) -> None:
        self._ask(self._request(withoutLabels=True))

    def _ready(self, request: KeepRequest) -> KeepRequest | None:
        if self._installer.ensure():
            return request
        self._say("Nothing was installed; adding a case needs these packages.")
        return None

    def _request(self, withoutLabels: bool) -> KeepRequest:
        choice = self._choice
        return KeepRequest(
            folder=self._folder,
            volumeNode=choice.volumeNode,
            segmentationNode=None if withoutLabels else choice.segmentationNode,
            modality=choice.modality,
            withoutLabels=withoutLabels,
        )

    def _show(self) -> None:
        for button, withoutLabels, what in (
            (
                self.ui.addCorrectedButton,
                False,
                "Put the volume and its reviewed segments into the library. "
                "A scan that is there already gets a new version.",
            ),
            (
                self.ui.addUnlabelledButton,
                True,
                "Put the volume alone into the library: the model learns from it too.",
            ),
        ):
            problem = self.logic.problem(self._request(withoutLabels))
            button.setEnabled(not problem and not self._busy)
            button.setToolTip(problem or what)
