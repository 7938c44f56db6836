"""What the sections have in common that fill a folder: the case library, and exported files."""

from typing import Any, Protocol

from .BusyCursor import busyCursor
from .Choice import Choice
from .Dialogs import Dialogs
from .Errors import UserError
from .SegmentationResult import SegmentationResult
from .Settings import Settings
from .Signal import Signal


class FolderLogic(Protocol):
    """What does the work; the result that `finished` gives has a `message`."""

    progressed: Signal
    finished: Signal
    failed: Signal
    cancelled: Signal

    def problem(self, request: Any) -> str: ...

    def start(self, request: Any) -> None: ...


class FolderSection:
    """A folder, which is the same in all scenes, and a line that says what became of the last try.

    A subclass names the `folderSetting`, and what is said at the beginning of a try and after a
    cancelled one. It calls `_show` when its own widgets are connected.
    """

    folderSetting = ""
    beginSentence = ""
    cancelledSentence = ""

    def __init__(
        self,
        logic: FolderLogic,
        folderEdit: Any,
        label: Any,
        dialogs: Dialogs,
        settings: Settings,
    ) -> None:
        self.logic = logic
        self._label = label
        self._dialogs = dialogs
        self._settings = settings
        self._choice = Choice()
        self._busy = False
        self._folder = settings.text(self.folderSetting)

        folderEdit.setCurrentPath(self._folder)
        folderEdit.currentPathChanged.connect(self._onFolder)
        logic.progressed.connect(self._onProgress)
        logic.finished.connect(self._onFinished)
        logic.failed.connect(self._onFailed)
        logic.cancelled.connect(self._onCancelled)
        self._say("")

    def _ready(self, request: Any) -> Any:
        """The request as it is to be met, or None where the user wants it no longer.

        UserError where it cannot be met.
        """
        raise NotImplementedError

    def _show(self) -> None:
        """Brings the buttons in line with what is chosen, and with `_busy`."""
        raise NotImplementedError

    # -- as a section of the panel -------------------------------------------------------------

    def enter(self) -> None:
        """Nothing to take up."""

    def exit(self) -> None:
        """What was begun goes on."""

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
        self._show()

    # -- what the user does, and what the logic says -------------------------------------------

    def _onFolder(self, folder: str) -> None:
        self._folder = str(folder).strip()
        self._settings.setText(self.folderSetting, self._folder)
        self._show()

    def _ask(self, request: Any) -> None:
        """Has the logic meet the request; why it cannot is told."""
        try:
            problem = self.logic.problem(request)
            if problem:
                raise UserError(problem)
            request = self._ready(request)
            if request is None:
                return
            self._say(self.beginSentence)
            with busyCursor():
                self.logic.start(request)
        except UserError as error:
            self._onFailed(str(error), "")

    def _onProgress(self, fraction: float, sentence: str) -> None:
        self._say(sentence)

    def _onFinished(self, result: Any) -> None:
        self._say(result.message)

    def _onFailed(self, sentence: str, detail: str) -> None:
        self._say(sentence)
        self._dialogs.error(sentence, detail)

    def _onCancelled(self) -> None:
        self._say(self.cancelledSentence)

    def _say(self, sentence: str) -> None:
        self._label.setText(sentence)
        self._label.setVisible(bool(sentence))
