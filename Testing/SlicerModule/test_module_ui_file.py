"""The panel's .ui file: its names, its tool tips, its looks."""

from __future__ import annotations

import ast
import re
import xml.etree.ElementTree as ElementTree

from desk import UI_FILE, Desk

from SlicerRuntime import MODULE_FOLDER, widgets

LIBRARY = MODULE_FOLDER / "VerSemiSlicerLib"


def test_every_name_that_the_library_uses_is_in_the_ui_file() -> None:
    used = set()
    for path in LIBRARY.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) in ("self.ui", "ui"):
                used.add(node.attr)
    root = ElementTree.parse(UI_FILE).getroot()
    named = {widget.get("name") for widget in root.iter("widget")}
    assert len(used) > 15
    assert used <= named


def test_every_parameter_name_in_the_ui_file_is_a_parameter() -> None:
    from VerSemiSlicerLib.ParameterNode import ParameterNode

    root = ElementTree.parse(UI_FILE).getroot()
    names = [
        p.findtext("string")
        for p in root.iter("property")
        if p.get("name") == "SlicerParameterName"
    ]
    assert len(names) == len(set(names)) == 8
    assert set(names) <= set(ParameterNode._kinds)


def test_every_node_selector_is_given_the_scene() -> None:
    root = ElementTree.parse(UI_FILE).getroot()
    selectors = {
        w.get("name") for w in root.iter("widget") if w.get("class") == "qMRMLNodeComboBox"
    }
    connected = {
        c.findtext("receiver")
        for c in root.iter("connection")
        if c.findtext("signal") == "mrmlSceneChanged(vtkMRMLScene*)"
    }
    assert selectors == connected


def test_everything_that_the_user_can_touch_has_a_tool_tip(desk: Desk) -> None:
    from PySide6.QtWidgets import QAbstractButton, QComboBox, QLineEdit

    kinds = (
        QAbstractButton,
        QComboBox,
        QLineEdit,
        widgets.qMRMLNodeComboBox,
        widgets.ctkPathLineEdit,
    )
    touchable = [w for w in vars(desk.ui).values() if isinstance(w, kinds)]
    touchable = [w for w in touchable if not w.objectName().startswith("qt_")]
    assert len(touchable) > 9
    assert [w.objectName() for w in touchable if not w.toolTip()] == []


def test_no_text_of_the_panel_is_clipped_at_the_width_slicer_gives_it(
    desk_with_scan: Desk,
) -> None:
    from PySide6.QtWidgets import QAbstractButton, QLabel

    for prompt in ("left_atrium", "liver", "portal_and_splenic_veins"):
        desk_with_scan.check(prompt)
    desk_with_scan.picture("panel-ready")
    clipped = [
        w.objectName()
        for kind in (QLabel, QAbstractButton)
        for w in desk_with_scan.widget.findChildren(kind)
        if w.isVisible()
        and not (isinstance(w, QLabel) and w.wordWrap())
        and w.width() < w.sizeHint().width()
    ]
    assert clipped == []


def test_the_panel_reads_no_property_as_a_function_or_an_attribute() -> None:
    """What works in PythonQt and in PySide alike: see PromptList."""
    getters = re.compile(
        r"\.(text|checked|enabled|visible|currentIndex|value|toolTip|isChecked|isEnabled)\b(?!\s*\.)"
    )
    for name in (
        "Panel.py",
        "ModelLine.py",
        "ModelNotice.py",
        "PromptList.py",
        "ResultsTable.py",
        "CorrectionPanel.py",
        "FolderSection.py",
        "LibraryPanel.py",
        "ExportPanel.py",
    ):
        for line in (LIBRARY / name).read_text(encoding="utf-8").splitlines():
            found = getters.search(line)
            assert not found or "self.ui." not in line, line
