"""Puts the panel into the module's widget."""

from collections.abc import Callable
from typing import Any

import qt
import slicer

from . import Locations
from .Dialogs import SlicerDialogs
from .Installer import SlicerInstaller
from .ModuleLogic import makeCatalog, makeLogic
from .Panel import Panel
from .ParameterNode import ParameterNode


def setupPanel(widget: Any, getParameterNode: Callable[[], ParameterNode]) -> Panel | None:
    """Loads the .ui file into the module's `widget` and makes its panel.

    Where engine or model pack are missing or broken, a sentence takes the panel's place.
    """
    try:
        catalog = makeCatalog()
    except Exception as error:
        label = qt.QLabel(str(error))
        label.setWordWrap(True)
        widget.layout.addWidget(label)
        return None
    uiWidget = slicer.util.loadUI(str(Locations.resourcePath("UI", "VerSemiSlicer.ui")))
    widget.layout.addWidget(uiWidget)
    uiWidget.setMRMLScene(slicer.mrmlScene)
    dialogs = SlicerDialogs()
    panel = Panel(
        slicer.util.childWidgetVariables(uiWidget),
        catalog,
        makeLogic(catalog),
        SlicerInstaller(dialogs),
        dialogs,
        getParameterNode,
    )
    connectScene(widget, panel)
    return panel


def connectScene(widget: Any, panel: Panel) -> None:
    """Tells the panel when the scene closes; `widget` keeps the observations."""

    def onEndClose(*_: Any) -> None:
        if widget.parent.isEntered:
            panel.enter()

    scene = slicer.mrmlScene
    widget.addObserver(scene, scene.StartCloseEvent, lambda *_: panel.sceneAboutToClose())
    widget.addObserver(scene, scene.EndCloseEvent, onEndClose)
    # When the module is reloaded it is in view without being entered again.
    if widget.parent.isEntered:
        panel.enter()
