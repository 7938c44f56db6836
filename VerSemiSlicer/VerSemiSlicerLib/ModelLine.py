"""The line of the panel that says which model answers, and what is asked where it cannot."""

from collections.abc import Sequence
from typing import Any

from . import Segments
from .Dialogs import Dialogs
from .Errors import UserError
from .ModelInUse import ModelInUse


class ModelLine:
    """Shows the model in use, and keeps it to the user's choice."""

    def __init__(self, ui: Any, model: ModelInUse, dialogs: Dialogs) -> None:
        self.ui = ui
        self._model = model
        self._dialogs = dialogs
        model.changed.connect(self._show)
        self._show()

    def look(self) -> str:
        """Takes the chosen model, without a question; returns why it cannot be used, or ""."""
        try:
            self._model.refresh()
        except UserError as error:
            return str(error)
        return ""

    def ensure(self, prompts: Sequence[str]) -> str:
        """Takes the chosen model, or the shipped one where that cannot be used and the user agrees.

        Returns why there is none, where the user did not agree, else "". UserError where the
        shipped one is of no use either, or the model does not know what is asked for.
        """
        catalog = self._model.catalog
        asked = [catalog.task(prompt) for prompt in catalog.inOrder(prompts)]
        try:
            self._model.refresh()
        except UserError as error:
            problem = str(error)
            shipped = self._model.shipped()
            if shipped is None:
                raise
            question = (
                f"{problem}\n\nSegment with {shipped.title}, which came with the extension, "
                "instead?"
            )
            if not self._dialogs.confirm(question, "VerSemi - model"):
                return problem
            self._model.useInstead(shipped, problem)
        lost = [task.name for task in asked if task.id not in catalog]
        if lost:
            raise UserError(
                f"The model {self._model.model.title}, which is in use now, does not know "
                f"{Segments.listed(lost)}; look through the prompts and segment again."
            )
        return ""

    def _show(self) -> None:
        model, problem = self._model.model, self._model.problem
        instead = ", instead of the chosen one" if problem else ""
        self.ui.modelLabel.setText(model.title + instead)
        reason = f"Provisional: {model.reason}. " if model.isProvisional and model.reason else ""
        self.ui.modelLabel.setToolTip(
            problem
            or f"{reason}The model answers the prompts. It lies in {model.folder}; 'versemi models "
            "use' chooses another one."
        )
