"""The panel in real Qt: what its buttons do, and what it shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import slicer
from desk import Desk


def test_the_first_scan_of_the_scene_is_chosen_when_the_panel_opens(
    add_volume: Any, desk: Desk
) -> None:
    slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "Labels")
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
    """Another timer of the same event loop sees the run's progress; a frozen one would not."""
    from PySide6.QtCore import QTimer

    desk = desk_with_scan
    stand_in.manner = "slow"
    desk.check("liver")
    seen: list[int] = []
    timer = QTimer()
    timer.timeout.connect(lambda: seen.append(desk.ui.progressBar.value()))
    timer.start(10)
    desk.ui.segmentButton.click()
    desk.wait_until(lambda: desk.ui.segmentButton.text() == "Segment")
    timer.stop()
    assert len(set(seen)) > 4


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
    desk.save_and_load(tmp_path / "scene.mrml")

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
