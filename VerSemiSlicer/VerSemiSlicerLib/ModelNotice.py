"""What stands in the panel's place while the chosen model cannot be used."""

from collections.abc import Callable
from typing import Any

import qt

from .ModelInUse import ModelInUse


class ModelNotice:
    """The sentence, and the ways out: look again, or take the model that came with the extension.

    `solved` is called once `model` has one, and the notice goes.
    """

    def __init__(self, model: ModelInUse, sentence: str, solved: Callable[[], None]) -> None:
        self._model = model
        self._sentence = sentence
        self._solved = solved
        self._shipped = model.shipped()

        self.widget = qt.QWidget()
        layout = qt.QVBoxLayout(self.widget)
        self.label = qt.QLabel(sentence)
        self.label.setWordWrap(True)
        layout.addWidget(self.label)
        if self._shipped is not None:
            self.shippedButton = self._addButton(
                layout,
                f"Use {self._shipped.title}",
                "The model that came with the extension answers until Slicer is closed, or until "
                "another model is chosen.",
                self._onShipped,
            )
        self.againButton = self._addButton(
            layout,
            "Try again",
            "Look again for the chosen model, after you have put it right.",
            self._onAgain,
        )

    @staticmethod
    def _addButton(layout: Any, text: str, toolTip: str, slot: Callable[..., None]) -> Any:
        button = qt.QPushButton(text)
        button.setToolTip(toolTip)
        button.clicked.connect(slot)
        layout.addWidget(button)
        return button

    def _onShipped(self, *_: Any) -> None:
        assert self._shipped is not None
        self._model.useInstead(self._shipped, self._sentence)
        self._leave()

    def _onAgain(self, *_: Any) -> None:
        try:
            self._model.refresh()
        except Exception as error:
            self._sentence = str(error)
            self.label.setText(self._sentence)
        else:
            self._leave()

    def _leave(self) -> None:
        self.widget.hide()
        self.widget.deleteLater()
        self._solved()
