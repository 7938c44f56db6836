"""The panel in real Qt: its .ui file, its names, and what its buttons do."""

from __future__ import annotations

import ast
import os
import re
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer
from SlicerRuntime import MODULE_FOLDER, widgets

LIBRARY = MODULE_FOLDER / "VerSemiSlicerLib"
UI_FILE = MODULE_FOLDER / "Resources" / "UI" / "VerSemiSlicer.ui"


@pytest.fixture(scope="module")
def qt_application() -> Any:
    return widgets.install()


class Dialogs:
    """Answers as told and remembers what was said."""

    def __init__(self) -> None:
        self.errors: list[str] = []

    def confirm(self, text: str, title: str) -> bool:
        return True

    def error(self, text: str, detail: str = "") -> None:
        self.errors.append(text)


class Installer:
    def __init__(self) -> None:
        self.answer = True

    def ensure(self) -> bool:
        return self.answer


class Desk:
    """The panel with all that it stands on."""

    def __init__(self, catalog: Any, logic: Any, application: Any) -> None:
        from VerSemiSlicerLib.Panel import Panel
        from VerSemiSlicerLib.ParameterNode import ParameterNode

        self._application = application
        self.widget = slicer.util.loadUI(str(UI_FILE))
        self.widget.setMRMLScene(slicer.mrmlScene)
        self.ui = slicer.util.childWidgetVariables(self.widget)
        self.dialogs = Dialogs()
        self.installer = Installer()
        self.panel = Panel(
            self.ui,
            catalog,
            logic,
            self.installer,
            self.dialogs,
            lambda: ParameterNode(self.node()),
        )
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

    def wait_until(self, condition: Callable[[], bool], seconds: float = 10.0) -> None:
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


@pytest.fixture
def desk(qt_application: Any, catalog: Any, logic: Any) -> Iterator[Desk]:
    made = Desk(catalog, logic, qt_application)
    yield made
    made.panel.cleanup()
    made.widget.deleteLater()


@pytest.fixture
def desk_with_scan(add_volume: Any, desk: Desk) -> Desk:
    desk.parameters.inputVolume = add_volume()
    return desk


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
    assert len(names) == len(set(names)) == 7
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

    kinds = (QAbstractButton, QComboBox, QLineEdit, widgets.qMRMLNodeComboBox)
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


def test_the_first_volume_of_the_scene_is_chosen_when_the_panel_opens(
    add_volume: Any, desk: Desk
) -> None:
    volume = add_volume()
    desk.panel.exit()
    desk.panel.enter()
    assert desk.parameters.inputVolume is volume
    assert desk.ui.inputSelector.currentNode() is volume


def test_searching_shows_matching_prompts_and_keeps_what_is_checked(
    desk_with_scan: Desk,
) -> None:
    desk = desk_with_scan
    desk.check("liver")
    desk.ui.promptSearchBox.setText("kidney right")
    shown = {p for p, item in desk.panel.promptList._items.items() if not item.isHidden()}
    assert shown == {"right_kidney"}
    desk.ui.checkShownButton.click()
    assert desk.parameters.prompts == ["liver", "right_kidney"]
    desk.ui.promptSearchBox.setText("")
    assert not any(item.isHidden() for item in desk.panel.promptList._items.values())
    desk.ui.uncheckAllButton.click()
    assert desk.parameters.prompts == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("brain", {"hippocampus_anterior", "hippocampus_posterior"}),
        ("mr heart", {"left_atrium"}),
        ("10200004", {"liver"}),
        ("no such thing", set()),
    ],
)
def test_the_search_finds_by_region_modality_and_code(
    text: str, expected: set[str], catalog: Any
) -> None:
    assert {task.id for task in catalog.tasks if catalog.matches(task, text)} == expected


def test_segment_is_disabled_with_a_sentence_until_the_choice_is_complete(
    desk_with_scan: Desk,
) -> None:
    desk = desk_with_scan
    assert not desk.ui.segmentButton.isEnabled()
    assert desk.ui.segmentButton.toolTip() == "Choose at least one task prompt."
    desk.check("liver")
    assert desk.ui.segmentButton.isEnabled()
    desk.parameters.inputVolume = None
    assert not desk.ui.segmentButton.isEnabled()
    assert desk.ui.segmentButton.toolTip() == "Choose an input volume."


def test_one_click_segments_and_lists_the_result(desk_with_scan: Desk) -> None:
    desk = desk_with_scan
    desk.check("liver")
    desk.check("spleen")
    desk.ui.uncertaintyCheckBox.setChecked(True)
    desk.ui.segmentButton.click()
    assert desk.ui.segmentButton.text() == "Cancel"
    assert desk.ui.progressBar.isVisible()

    desk.wait_until(lambda: desk.ui.segmentButton.text() == "Segment")

    table = desk.ui.resultsTable
    texts = [[table.item(row, column).text() for column in (0, 1)] for row in range(2)]
    assert texts == [["Spleen", "0.5"], ["Liver", "0.1"]]
    assert desk.ui.resultsButton.isVisible()
    node = desk.parameters.outputSegmentation
    assert node.GetSegmentation().GetNumberOfSegments() == 2
    assert desk.ui.show3DButton.node is node
    assert desk.parameters.uncertaintyVolume.GetName() == "Scan uncertainty"
    assert desk.ui.statusLabel.text().startswith("Done in")
    desk.picture("panel-done")


def test_a_second_click_says_which_segment_it_replaced(desk_with_scan: Desk) -> None:
    desk = desk_with_scan
    desk.check("liver")
    for _ in range(2):
        desk.ui.segmentButton.click()
        desk.wait_until(lambda: desk.ui.segmentButton.text() == "Segment")
    assert "Replaced the earlier segment of Liver." in desk.ui.statusLabel.text()
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 1


def test_the_button_cancels_while_a_run_goes_on(desk_with_scan: Desk, stand_in: Any) -> None:
    desk = desk_with_scan
    stand_in.manner = "slow"
    desk.check("liver")
    desk.ui.segmentButton.click()
    desk.wait_until(lambda: desk.ui.progressBar.value() > 5)
    desk.picture("panel-running")
    assert not desk.ui.inputsButton.isEnabled()

    desk.ui.segmentButton.click()
    desk.wait_until(lambda: desk.ui.segmentButton.text() == "Segment")

    assert desk.ui.statusLabel.text() == "Cancelled; the scene is as it was."
    assert desk.parameters.outputSegmentation is None
    assert desk.ui.inputsButton.isEnabled()
    assert not desk.ui.progressBar.isVisible()


def test_the_window_stays_alive_during_a_run(desk_with_scan: Desk, stand_in: Any) -> None:
    from PySide6.QtCore import QTimer

    desk = desk_with_scan
    stand_in.manner = "slow"
    desk.check("liver")
    ticks: list[float] = []
    timer = QTimer()
    timer.timeout.connect(lambda: ticks.append(time.monotonic()))
    timer.start(10)
    desk.ui.segmentButton.click()
    desk.wait_until(lambda: desk.ui.segmentButton.text() == "Segment")
    timer.stop()
    assert len(ticks) > 50
    assert np.diff(ticks).max() < 0.5


def test_a_failed_run_is_told_once_and_the_panel_is_ready_again(
    desk_with_scan: Desk, stand_in: Any
) -> None:
    desk = desk_with_scan
    stand_in.manner = "fail"
    desk.check("liver")
    desk.ui.segmentButton.click()
    desk.wait_until(lambda: desk.ui.segmentButton.text() == "Segment")
    assert desk.dialogs.errors == ["The image is of one constant value."]
    assert desk.ui.statusLabel.text() == "The image is of one constant value."
    assert desk.ui.segmentButton.isEnabled()


def test_declining_the_installation_starts_nothing(desk_with_scan: Desk, stand_in: Any) -> None:
    desk = desk_with_scan
    desk.installer.answer = False
    desk.check("liver")
    desk.ui.segmentButton.click()
    assert desk.ui.segmentButton.text() == "Segment"
    assert "Nothing was installed" in desk.ui.statusLabel.text()
    assert stand_in.workers == []


def test_the_modality_is_guessed_and_a_mismatch_warns_without_refusing(
    desk_with_scan: Desk,
) -> None:
    desk = desk_with_scan
    assert desk.ui.modalityLabel.text() == "CT (guessed from values)"
    desk.check("liver")
    assert not desk.ui.mismatchLabel.isVisible()
    desk.check("left_atrium")
    assert desk.ui.mismatchLabel.text() == (
        "The volume is taken for CT, but Left atrium learnt from MR: "
        "the result will probably be wrong."
    )
    assert desk.ui.mismatchLabel.isVisible()
    assert desk.ui.segmentButton.isEnabled()
    desk.picture("panel-mismatch")


def test_the_user_can_change_the_modality(desk_with_scan: Desk) -> None:
    from VerSemiSlicerLib.ParameterNode import Modality

    desk = desk_with_scan
    desk.check("liver")
    desk.ui.modalityComboBox.setCurrentIndex(2)
    assert desk.parameters.modality is Modality.MR
    assert "taken for MR, but Liver learnt from CT" in desk.ui.mismatchLabel.text()


def test_other_voxels_make_another_guess(desk_with_scan: Desk) -> None:
    volume = desk_with_scan.parameters.inputVolume
    slicer.util.arrayFromVolume(volume)[:] += 1000
    slicer.util.arrayFromVolumeModified(volume)
    assert desk_with_scan.ui.modalityLabel.text().startswith("MR")


def test_prompts_of_other_modalities_are_folded_away(desk_with_scan: Desk) -> None:
    groups = {
        modality: item.isExpanded() for item, modality, _ in desk_with_scan.panel.promptList._groups
    }
    assert groups == {"CT": True, "MR": False}


def test_a_new_roi_is_placed_on_the_volume_and_chosen(desk_with_scan: Desk) -> None:
    roi = desk_with_scan.ui.roiSelector.addNode()
    assert desk_with_scan.parameters.roi is roi
    assert tuple(roi.GetSize()) == (10.0, 9.0, 7.0)


def test_closing_the_scene_ends_the_run_and_empties_the_panel(
    desk_with_scan: Desk, stand_in: Any
) -> None:
    desk = desk_with_scan
    stand_in.manner = "slow"
    desk.check("liver")
    desk.ui.segmentButton.click()
    desk.wait_until(lambda: desk.ui.progressBar.value() > 0)
    desk.panel.sceneAboutToClose()
    slicer.mrmlScene.Clear(0)
    desk.panel.enter()
    assert not stand_in.workers[0].isRunning()
    assert desk.ui.segmentButton.text() == "Segment"
    assert desk.parameters.prompts == []
    assert not desk.ui.resultsButton.isVisible()


def test_a_run_goes_on_behind_another_module(desk_with_scan: Desk) -> None:
    desk = desk_with_scan
    desk.check("liver")
    desk.ui.segmentButton.click()
    desk.panel.exit()
    desk.wait_until(lambda: not desk.panel.logic.isRunning)
    desk.panel.enter()
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 1
    assert desk.ui.segmentButton.text() == "Segment"
    assert desk.ui.segmentButton.isEnabled()


def test_the_settings_survive_saving_and_loading_the_scene(
    desk_with_scan: Desk, tmp_path: Path
) -> None:
    from VerSemiSlicerLib.ParameterNode import Device, Modality

    desk = desk_with_scan
    desk.check("liver")
    desk.check("aorta")
    desk.ui.roiSelector.addNode()
    desk.ui.uncertaintyCheckBox.setChecked(True)
    desk.ui.modalityComboBox.setCurrentIndex(1)
    desk.ui.deviceComboBox.setCurrentIndex(2)
    desk.ui.segmentButton.click()
    desk.wait_until(lambda: desk.ui.segmentButton.text() == "Segment")
    path = tmp_path / "scene.mrml"
    slicer.mrmlScene.SetURL(str(path))
    assert slicer.mrmlScene.Commit(str(path))
    desk.panel.sceneAboutToClose()
    slicer.mrmlScene.Clear(0)

    slicer.mrmlScene.SetURL(str(path))
    assert slicer.mrmlScene.Import()
    desk.panel.enter()

    settings = desk.parameters
    assert settings.prompts == ["liver", "aorta"]
    assert settings.modality is Modality.CT
    assert settings.device is Device.CUDA
    assert settings.makeUncertainty is True
    assert settings.inputVolume.GetName() == "Scan"
    assert settings.roi.GetName() == "VerSemi ROI"
    assert settings.outputSegmentation.GetName() == "Scan segmentation"
    assert settings.uncertaintyVolume.GetName() == "Scan uncertainty"
    assert desk.ui.deviceComboBox.currentText() == "NVIDIA GPU (CUDA)"
    assert desk.panel.promptList.checked() == ["liver", "aorta"]


def test_the_panel_reads_no_property_as_a_function_or_an_attribute() -> None:
    """What works in PythonQt and in PySide alike: see PromptList."""
    getters = re.compile(
        r"\.(text|checked|enabled|visible|currentIndex|value|toolTip|isChecked|isEnabled)\b(?!\s*\.)"
    )
    for name in ("Panel.py", "PromptList.py", "ResultsTable.py"):
        for line in (LIBRARY / name).read_text(encoding="utf-8").splitlines():
            found = getters.search(line)
            assert not found or "self.ui." not in line, line
