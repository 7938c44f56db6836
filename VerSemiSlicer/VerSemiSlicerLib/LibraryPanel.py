"""The section Case library: what goes into the folder that the model learns from."""

from typing import Any

from .BusyCursor import busyCursor
from .Choice import Choice
from .Dialogs import Dialogs
from .Errors import UserError
from .Installer import Installer
from .LibraryLogic import KeepRequest, KeepResult, LibraryLogic
from .SegmentationResult import SegmentationResult
from .Settings import Settings

FOLDER_SETTING = "LibraryFolder"


class LibraryPanel:
    """Two buttons and a folder, which is the same in all scenes."""

    def __init__(
        self,
        ui: Any,
        logic: LibraryLogic,
        installer: Installer,
        dialogs: Dialogs,
        settings: Settings,
    ) -> None:
        self.ui = ui
        self.logic = logic
        self._installer = installer
        self._dialogs = dialogs
        self._settings = settings
        self._choice = Choice()
        self._busy = False
        self._folder = settings.text(FOLDER_SETTING)

        ui.libraryFolderEdit.setCurrentPath(self._folder)
        ui.libraryFolderEdit.currentPathChanged.connect(self._onFolder)
        ui.addCorrectedButton.clicked.connect(self._onAddCorrected)
        ui.addUnlabelledButton.clicked.connect(self._onAddUnlabelled)
        logic.progressed.connect(self._onProgress)
        logic.finished.connect(self._onFinished)
        logic.failed.connect(self._onFailed)
        logic.cancelled.connect(self._onCancelled)
        self._say("")
        self._show()

    def enter(self) -> None:
        """Nothing to take up."""

    def exit(self) -> None:
        """What is being added goes on."""

    def sceneAboutToClose(self) -> None:
        self._choice = Choice()
        self._say("")
        self._show()

    def cleanup(self) -> None:
        """Nothing to give back."""

    def showResult(self, result: SegmentationResult) -> None:
        self._say("")

    def setBusy(self, busy: bool) -> None:
        self._busy = busy
        self._show()

    def update(self, choice: Choice) -> None:
        self._choice = choice
        self._show()

    # -- what the user does --------------------------------------------------------------------

    def _onFolder(self, folder: str) -> None:
        self._folder = str(folder).strip()
        self._settings.setText(FOLDER_SETTING, self._folder)
        self._show()

    def _onAddCorrected(self, *_: Any) -> None:
        self._add(self._request(withoutLabels=False))

    def _onAddUnlabelled(self, *_: Any) -> None:
        self._add(self._request(withoutLabels=True))

    def _add(self, request: KeepRequest) -> None:
        try:
            problem = self.logic.problem(request)
            if problem:
                raise UserError(problem)
            if not self._installer.ensure():
                self._say("Nothing was installed; adding a case needs these packages.")
                return
            self._say("Writing the volume")
            with busyCursor():
                self.logic.start(request)
        except UserError as error:
            self._onFailed(str(error), "")

    # -- what the logic says -------------------------------------------------------------------

    def _onProgress(self, fraction: float, sentence: str) -> None:
        self._say(sentence)

    def _onFinished(self, result: KeepResult) -> None:
        self._say(result.message)

    def _onFailed(self, sentence: str, detail: str) -> None:
        self._say(sentence)
        self._dialogs.error(sentence, detail)

    def _onCancelled(self) -> None:
        self._say("Cancelled; look into the library before you add the case again.")

    # -- what the section shows ----------------------------------------------------------------

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

    def _say(self, sentence: str) -> None:
        self.ui.libraryLabel.setText(sentence)
        self.ui.libraryLabel.setVisible(bool(sentence))
