"""The panel on a desk: in real Qt, over a logic, with everything about it within reach."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import slicer

from SlicerRuntime import MODULE_FOLDER

UI_FILE = MODULE_FOLDER / "Resources" / "UI" / "VerSemiSlicer.ui"


class Dialogs:
    """Answers as told and remembers what was said."""

    def __init__(self) -> None:
        self.answer = True
        self.questions: list[str] = []
        self.errors: list[str] = []

    def confirm(self, text: str, title: str) -> bool:
        self.questions.append(text)
        return self.answer

    def error(self, text: str, detail: str = "") -> None:
        self.errors.append(text)


class Installer:
    def __init__(self) -> None:
        self.answer = True

    def ensure(self) -> bool:
        return self.answer


class Settings:
    """Slicer's settings file, in memory."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}

    def text(self, key: str) -> str:
        return self.texts.get(key, "")

    def setText(self, key: str, value: str) -> None:
        self.texts[key] = value


class Desk:
    """The panel with all that it stands on."""

    def __init__(self, model: Any, logic: Any, application: Any) -> None:
        from VerSemiSlicerLib.PanelSetup import Surroundings, makePanel
        from VerSemiSlicerLib.ParameterNode import ParameterNode

        self._application = application
        self.widget = slicer.util.loadUI(str(UI_FILE))
        self.ui = slicer.util.childWidgetVariables(self.widget)
        self.dialogs = Dialogs()
        self.settings = Settings()
        self.installer = Installer()
        self.dicom_installer = Installer()
        self.panel = makePanel(
            self.widget,
            model,
            logic,
            lambda: ParameterNode(self.node()),
            Surroundings(
                dialogs=self.dialogs,
                settings=self.settings,
                installer=self.installer,
                dicomInstaller=self.dicom_installer,
            ),
        )
        self.correction, self.library, self.export = self.panel.sections
        self.editor = self.correction.editor
        self.widget.resize(440, 900)
        self.widget.show()
        self.panel.enter()

    @staticmethod
    def node() -> Any:
        found = slicer.mrmlScene.GetSingletonNode("VerSemiSlicer", "vtkMRMLScriptedModuleNode")
        if found is None:
            found = slicer.vtkMRMLScriptedModuleNode()
            found.SetSingletonTag("VerSemiSlicer")
            found = slicer.mrmlScene.AddNode(found)
        return found

    @property
    def parameters(self) -> Any:
        from VerSemiSlicerLib.ParameterNode import ParameterNode

        return ParameterNode(self.node())

    def segment(self, *prompts: str, uncertainty: bool = False) -> Any:
        """Segments the scan by a click, to the end; returns the segmentation."""
        for prompt in prompts:
            self.check(prompt)
        self.ui.uncertaintyCheckBox.setChecked(uncertainty)
        self.ui.segmentButton.click()
        self.wait_until_idle()
        return self.parameters.outputSegmentation

    def save_and_load(self, path: Path) -> None:
        """The scene is saved, closed and loaded, with the panel in view."""
        slicer.mrmlScene.SetURL(str(path))
        assert slicer.mrmlScene.Commit(str(path))
        self.panel.sceneAboutToClose()
        slicer.mrmlScene.Clear(0)
        slicer.mrmlScene.SetURL(str(path))
        assert slicer.mrmlScene.Import()
        self.panel.enter()

    def wait_until_idle(self) -> None:
        self.wait_until(lambda: not self.panel.logic.link.isBusy)

    def unfold(self, *sections: str) -> None:
        for name in sections:
            getattr(self.ui, name).setCollapsed(False)

    def wait_until(self, condition: Callable[[], bool], seconds: float = 60.0) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, self.ui.statusLabel.text()
            self._application.processEvents()
            time.sleep(0.005)

    def picture(self, name: str) -> None:
        """Writes the panel as it looks now, where VERSEMI_PANEL_PICTURES says to."""
        folder = os.environ.get("VERSEMI_PANEL_PICTURES")
        if folder:
            self._application.processEvents()
            self.widget.grab().save(str(Path(folder) / f"{name}.png"))

    def item(self, prompt: str) -> Any:
        return self.panel.promptList._items[prompt]

    def check(self, prompt: str, checked: bool = True) -> None:
        from PySide6.QtCore import Qt

        state = Qt.CheckState.Checked if checked else Qt.CheckState.Unchecked
        self.item(prompt).setCheckState(0, state)
