"""Puts the panel into the module's widget."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import qt
import slicer

from . import Locations
from .CorrectionLogic import CorrectionLogic
from .CorrectionPanel import CorrectionPanel, makeSlicersEditor
from .Dialogs import Dialogs, SlicerDialogs
from .ExportLogic import ExportLogic
from .ExportPanel import ExportPanel
from .Installer import Installer, SlicerInstaller
from .LibraryLogic import LibraryLogic
from .LibraryPanel import LibraryPanel
from .ModuleLogic import makeCatalog, makeLogic, temporaryFolder
from .Panel import Panel
from .ParameterNode import ParameterNode
from .Requirements import Requirements
from .SegmentationLogic import SegmentationLogic
from .Settings import Settings, SlicerSettings


def _dicomRequirements() -> Requirements:
    return Requirements(Locations.resourcePath("requirements-dicom.txt"))


@dataclass
class Surroundings:
    """What the panel stands in: Slicer's own, unless a test brings another."""

    dialogs: Dialogs = field(default_factory=SlicerDialogs)
    settings: Settings = field(default_factory=SlicerSettings)
    makeEditor: Callable[[], Any] = makeSlicersEditor
    installer: Installer | None = None
    dicomInstaller: Installer | None = None


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
    panel = makePanel(uiWidget, makeLogic(catalog), getParameterNode, Surroundings())
    connectScene(widget, panel)
    return panel


def makePanel(
    uiWidget: Any,
    logic: SegmentationLogic,
    getParameterNode: Callable[[], ParameterNode],
    surroundings: Surroundings,
) -> Panel:
    """The panel with all its sections on the widgets of the loaded .ui file."""
    uiWidget.setMRMLScene(slicer.mrmlScene)
    ui = slicer.util.childWidgetVariables(uiWidget)
    dialogs, settings = surroundings.dialogs, surroundings.settings
    installer = surroundings.installer or SlicerInstaller(dialogs)
    dicomInstaller = surroundings.dicomInstaller or SlicerInstaller(dialogs, _dicomRequirements())
    catalog, link, folder = logic.catalog, logic.link, temporaryFolder()
    correction = CorrectionPanel(ui, CorrectionLogic(), surroundings.makeEditor)
    library = LibraryPanel(ui, LibraryLogic(catalog, link, folder), installer, dialogs, settings)
    export = ExportPanel(
        ui, ExportLogic(catalog, link, folder), installer, dicomInstaller, dialogs, settings
    )
    panel = Panel(
        ui, catalog, logic, installer, dialogs, getParameterNode, (correction, library, export)
    )
    panel.results.chosen.connect(correction.select)
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
