"""Puts the panel into the module's widget."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

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
from .ModelInUse import ModelInUse
from .ModelNotice import ModelNotice
from .ModuleLogic import makeLogic, temporaryFolder
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


def setupPanel(widget: Any, getParameterNode: Callable[[], ParameterNode]) -> ModelNotice | None:
    """Puts the panel into the module's `widget`, whose `usePanel` is told of it.

    Where the engine or the chosen model are missing or broken, a notice takes the panel's place
    until the user has found a way out; it is returned, to be kept.
    """
    model = ModelInUse()

    def show() -> None:
        uiWidget = slicer.util.loadUI(str(Locations.resourcePath("UI", "VerSemiSlicer.ui")))
        widget.layout.addWidget(uiWidget)
        panel = makePanel(uiWidget, model, makeLogic(model), getParameterNode, Surroundings())
        widget.usePanel(panel)
        connectScene(widget, panel)

    try:
        model.refresh()
    except Exception as error:
        notice = ModelNotice(model, str(error), show)
        widget.layout.addWidget(notice.widget)
        return notice
    show()
    return None


def makePanel(
    uiWidget: Any,
    model: ModelInUse,
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
    catalog, link, folder = model.catalog, logic.link, temporaryFolder()
    correction = CorrectionPanel(ui, CorrectionLogic(), surroundings.makeEditor)
    library = LibraryPanel(ui, LibraryLogic(catalog, link, folder), installer, dialogs, settings)
    export = ExportPanel(
        ui, ExportLogic(catalog, link, folder), installer, dicomInstaller, dialogs, settings
    )
    panel = Panel(
        ui, model, logic, installer, dialogs, getParameterNode, (correction, library, export)
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
