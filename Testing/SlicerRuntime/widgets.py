"""Slicer's widgets on PySide6: real Qt under the panel, placeholders for what only Slicer has.

``install()`` makes ``import qt`` work and lets ``slicer.util.loadUI`` read the module's .ui file.
Placeholders look and behave as far as the panel uses them: sections collapse, node selectors list
the scene's nodes.
"""

from __future__ import annotations

import sys
import types
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from typing import Any

import slicer
from PySide6 import QtCore, QtGui, QtUiTools, QtWidgets

from SlicerRuntime.segment_editor import qMRMLSegmentEditorWidget


def install() -> QtWidgets.QApplication:
    """Provide ``qt`` and the loader of .ui files; returns the (offscreen) application."""
    application = QtWidgets.QApplication.instance() or QtWidgets.QApplication([])
    if "qt" not in sys.modules:
        qt = types.ModuleType("qt")
        for library in (QtCore, QtGui, QtWidgets):
            for name in dir(library):
                if name.startswith("Q"):
                    setattr(qt, name, getattr(library, name))
        sys.modules["qt"] = qt
        slicer.util.loadUI = load_ui
        slicer.util.childWidgetVariables = child_widget_variables
        slicer.qMRMLSegmentEditorWidget = qMRMLSegmentEditorWidget
    return application  # type: ignore[return-value]


class qMRMLWidget(QtWidgets.QWidget):
    """Hands the scene on to the widgets that the .ui file connects."""

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self.receivers: list[str] = []

    def setMRMLScene(self, scene: Any) -> None:
        for name in self.receivers:
            self.findChild(QtWidgets.QWidget, name).setMRMLScene(scene)  # type: ignore[attr-defined]


class qMRMLNodeComboBox(QtWidgets.QWidget):
    """A list of the scene's nodes of some types, with "none" where that is allowed."""

    currentNodeChanged = QtCore.Signal(object)
    nodeAddedByUser = QtCore.Signal(object)

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._scene: Any = None
        self._node: Any = None
        self._box = QtWidgets.QComboBox(self)
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._box)

    def setMRMLScene(self, scene: Any) -> None:
        self._scene = scene
        self._show()

    def currentNode(self) -> Any:
        return self._node

    def setCurrentNode(self, node: Any) -> None:
        changed = node is not self._node
        self._node = node
        self._show()
        if changed:
            self.currentNodeChanged.emit(node)

    def addNode(self) -> Any:
        """As "Create new" in the selector's menu."""
        node = self._scene.AddNewNodeByClass(
            self.property("nodeTypes")[0], self.property("baseName") or ""
        )
        self.nodeAddedByUser.emit(node)
        self.setCurrentNode(node)
        return node

    def _show(self) -> None:
        none = self.property("noneDisplay") or "None"
        self._box.clear()
        self._box.addItem(self._node.GetName() if self._node is not None else none)


class ctkCollapsibleButton(QtWidgets.QWidget):
    """A section with a title bar; its layout shows below the bar unless it is collapsed."""

    BAR = 24
    contentsCollapsed = QtCore.Signal(bool)

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self.setContentsMargins(2, self.BAR + 2, 2, 2)

    def setCollapsed(self, collapsed: bool) -> None:
        self.setProperty("collapsed", collapsed)

    def event(self, event: QtCore.QEvent) -> bool:
        if (
            event.type() == QtCore.QEvent.Type.DynamicPropertyChange
            and event.propertyName() == b"collapsed"  # type: ignore[attr-defined]
        ):
            collapsed = bool(self.property("collapsed"))
            self.setMinimumHeight(self.BAR if collapsed else 0)
            self.setMaximumHeight(self.BAR if collapsed else 16777215)
            self.contentsCollapsed.emit(collapsed)
        return super().event(event)

    def paintEvent(self, event: QtGui.QPaintEvent) -> None:
        painter = QtGui.QPainter(self)
        bar = QtCore.QRect(0, 0, self.width(), self.BAR - 2)
        painter.fillRect(bar, self.palette().color(QtGui.QPalette.ColorRole.Midlight))
        mark = "\N{BLACK RIGHT-POINTING SMALL TRIANGLE}"
        if not self.property("collapsed"):
            mark = "\N{BLACK DOWN-POINTING SMALL TRIANGLE}"
        text = f"{mark} {self.property('text')}"
        painter.drawText(bar.adjusted(6, 0, 0, 0), QtCore.Qt.AlignmentFlag.AlignVCenter, text)


class ctkSearchBox(QtWidgets.QLineEdit):
    pass


class ctkPathLineEdit(QtWidgets.QWidget):
    """A path to type or to browse for."""

    currentPathChanged = QtCore.Signal(str)

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._edit = QtWidgets.QLineEdit()
        browse = QtWidgets.QToolButton()
        browse.setText("...")
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._edit)
        layout.addWidget(browse)
        self._edit.textChanged.connect(self.currentPathChanged)

    def setCurrentPath(self, path: str) -> None:
        self._edit.setText(path)


class qMRMLSegmentationShow3DButton(QtWidgets.QPushButton):
    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self.node: Any = None

    def setSegmentationNode(self, node: Any) -> None:
        self.node = node
        self.setEnabled(node is not None)


PLACEHOLDERS = (
    qMRMLWidget,
    qMRMLNodeComboBox,
    ctkCollapsibleButton,
    ctkPathLineEdit,
    ctkSearchBox,
    qMRMLSegmentationShow3DButton,
)


def load_ui(path: str) -> QtWidgets.QWidget:
    """As slicer.util.loadUI. Connections of scenes are made here: they carry MRML's own types."""
    loader = QtUiTools.QUiLoader()
    for placeholder in PLACEHOLDERS:
        loader.registerCustomWidget(placeholder)
    widget = loader.load(path)
    if widget is None:
        raise RuntimeError(f"Could not load UI file: {path}")
    for connection in ElementTree.parse(path).getroot().iter("connection"):
        assert connection.findtext("sender") == widget.objectName()
        widget.receivers.append(connection.findtext("receiver"))  # type: ignore[attr-defined]
    return widget


def child_widget_variables(widget: QtWidgets.QWidget) -> Any:
    """As slicer.util.childWidgetVariables."""
    ui = types.SimpleNamespace()
    for child in widget.findChildren(QtWidgets.QWidget):
        if child.objectName():
            setattr(ui, child.objectName(), child)
    return ui


class Binding:
    """Reads and writes a widget's value, and tells of changes."""

    def __init__(self, read: Callable[[], Any], write: Callable[[Any], None], signal: Any) -> None:
        self.read = read
        self.write = write
        self._signal = signal

    def connect(self, slot: Callable[..., None]) -> Callable[[], None]:
        """Connect, and return what ends the connection.

        The slot is muted rather than disconnected: every ``disconnect`` of PySide 6.12 releases a
        reference to True that it does not own, until Python 3.11 aborts on its way out.
        """
        muted = False

        def call(*arguments: Any) -> None:
            if not muted:
                slot(*arguments)

        def mute() -> None:
            nonlocal muted
            muted = True

        self._signal.connect(call)
        return mute


def binding(widget: Any, type_: Any) -> Binding:
    """What slicer.parameterNodeWrapper's GUI connectors do for the kinds that the panel has."""
    if type(widget) is qMRMLNodeComboBox:
        return Binding(widget.currentNode, widget.setCurrentNode, widget.currentNodeChanged)
    if type(widget) is QtWidgets.QCheckBox and type_ is bool:
        return Binding(widget.isChecked, widget.setChecked, widget.toggled)
    if type(widget) is QtWidgets.QComboBox:
        members = list(type_)
        widget.clear()
        widget.addItems([type_.label(member) for member in members])
        return Binding(
            lambda: members[widget.currentIndex()],
            lambda value: widget.setCurrentIndex(members.index(value)),
            widget.currentIndexChanged,
        )
    raise RuntimeError(f"No connector for {type_} and {type(widget)}.")
