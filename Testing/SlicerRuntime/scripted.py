"""``slicer.ScriptedLoadableModule`` and ``slicer.i18n``, to load the module's own script.

``load_module()`` imports ``VerSemiSlicer.py`` and makes its widget, as the desktop does when the
user opens the module.
"""

from __future__ import annotations

import importlib
import sys
import types
import unittest
from pathlib import Path
from typing import Any

import slicer
from PySide6 import QtWidgets

from SlicerRuntime import widgets


class ScriptedLoadableModule:
    def __init__(self, parent: Any) -> None:
        self.parent = parent
        self.moduleName = self.__class__.__name__


class ScriptedLoadableModuleWidget:
    def __init__(self, parent: Any = None) -> None:
        self.parent = parent
        self.moduleName = self.__class__.__name__.removesuffix("Widget")
        self.layout = parent.layout()
        self.developerMode = False

    def setup(self) -> None:
        pass

    def onReload(self) -> None:
        slicer.util.reloadScriptedModule(self.moduleName)

    def resourcePath(self, name: str) -> str:
        script = sys.modules[self.moduleName].__file__ or ""
        return str(Path(script).parent / "Resources" / name)


class ScriptedLoadableModuleLogic:
    def __init__(self, parent: Any = None) -> None:
        self.moduleName = self.__class__.__name__.removesuffix("Logic")

    def getParameterNode(self) -> Any:
        node = slicer.mrmlScene.GetSingletonNode(self.moduleName, "vtkMRMLScriptedModuleNode")
        if node is None:
            node = slicer.vtkMRMLScriptedModuleNode()
            node.SetSingletonTag(self.moduleName)
            node.SetAttribute("ModuleName", self.moduleName)
            node = slicer.mrmlScene.AddNode(node)
        return node


class ScriptedLoadableModuleTest(unittest.TestCase):
    pass


class ModuleParent(QtWidgets.QWidget):
    """The place where the desktop shows a module."""

    def __init__(self) -> None:
        super().__init__()
        QtWidgets.QVBoxLayout(self)
        self.isEntered = False


def load_module(name: str = "VerSemiSlicer") -> tuple[types.ModuleType, Any]:
    """The module's script, and its widget after setup."""
    widgets.install()
    if "slicer.ScriptedLoadableModule" not in sys.modules:
        base = types.ModuleType("slicer.ScriptedLoadableModule")
        for class_ in (
            ScriptedLoadableModule,
            ScriptedLoadableModuleWidget,
            ScriptedLoadableModuleLogic,
            ScriptedLoadableModuleTest,
        ):
            setattr(base, class_.__name__, class_)
        sys.modules["slicer.ScriptedLoadableModule"] = base
        i18n = types.ModuleType("slicer.i18n")
        i18n.tr = lambda text: text  # type: ignore[attr-defined]
        i18n.translate = lambda context, text: text  # type: ignore[attr-defined]
        sys.modules["slicer.i18n"] = i18n
    module = importlib.import_module(name)
    widget = getattr(module, f"{name}Widget")(ModuleParent())
    widget.setup()
    return module, widget
