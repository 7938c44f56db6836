"""What all parts of the module that ask the worker have in common."""

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .Errors import UserError
from .Signal import Signal
from .WorkerLink import WorkerLink


class WorkerClient:
    """Asks one thing at a time, with files in a temporary folder that is gone afterwards.

    Signals: `progressed(fraction, sentence)`, `finished(result)`, `failed(sentence, detail)`,
    `cancelled()`. A subclass checks its requests in `_check` and makes its result in `_take`.
    """

    def __init__(self, link: WorkerLink, temporaryFolder: str | None = None) -> None:
        self.link = link
        self.progressed = Signal()
        self.finished = Signal()
        self.failed = Signal()
        self.cancelled = Signal()
        self._temporaryFolder = temporaryFolder
        self._folder: Path | None = None

    def problem(self, request: Any) -> str:
        """Why the request cannot be met, as far as can be said at a glance; "" where it can."""
        try:
            self._check(request)
        except UserError as error:
            return str(error)
        return ""

    def _check(self, request: Any) -> Any:
        """What the subclass needs to know of a request; UserError where it cannot be met."""
        raise NotImplementedError

    def _take(self, event: Mapping[str, Any]) -> Any:
        """The result in the worker's event; UserError where it cannot be used."""
        raise NotImplementedError

    def _newFolder(self) -> Path:
        self._folder = Path(tempfile.mkdtemp(prefix="VerSemi-", dir=self._temporaryFolder))
        return self._folder

    def _clear(self) -> None:
        """Nothing runs any more; called before the signals, whose slots may start the next."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
        self._folder = None

    # -- as the link's listener ----------------------------------------------------------------

    def onProgress(self, fraction: float, sentence: str) -> None:
        self.progressed.emit(fraction, sentence)

    def onResult(self, event: Mapping[str, Any]) -> None:
        try:
            result = self._take(event)
        except UserError as error:
            self.onFailed(str(error), "")
            return
        except BaseException:
            self._clear()
            raise
        self._clear()
        self.finished.emit(result)

    def onFailed(self, sentence: str, detail: str) -> None:
        self._clear()
        self.failed.emit(sentence, detail)

    def onCancelled(self) -> None:
        self._clear()
        self.cancelled.emit()
