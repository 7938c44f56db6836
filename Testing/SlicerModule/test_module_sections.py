"""The panel's sections Correct and Case library in real Qt, and how all of them look."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer
from desk import Desk

from VerSemiSlicerLib import Segments


@pytest.fixture
def views(scene: Any) -> list[Any]:
    made = []
    for name in ("Red", "Green"):
        composite, node = slicer.vtkMRMLSliceCompositeNode(), slicer.vtkMRMLSliceNode()
        for each in (composite, node):
            each.SetLayoutName(name)
            made.append(scene.AddNode(each))
    return made


# -- Correct -----------------------------------------------------------------------------------


def test_the_editor_gets_volume_and_segmentation_of_the_result_and_the_prompts_segment(
    desk_with_scan: Desk,
) -> None:
    desk = desk_with_scan
    node = desk.segment("spleen", "liver")
    assert desk.editor.segmentationNode() is node
    assert desk.editor.sourceVolumeNode() is desk.parameters.inputVolume
    assert desk.editor.currentSegmentID() == "spleen"
    assert desk.editor.node.GetSingletonTag() == "VerSemiSlicer"
    assert desk.editor.undo_states == 10
    assert desk.editor.hidden == {"segmentation", "source volume", "automatic display"}

    desk.check("spleen", False)
    assert desk.editor.currentSegmentID() == "liver"
    desk.ui.resultsTable.cellClicked.emit(0, 0)
    assert desk.editor.currentSegmentID() == "spleen"
    # What the user has selected stays until other prompts are chosen.
    desk.parameters.makeUncertainty = True
    assert desk.editor.currentSegmentID() == "spleen"


def test_the_editor_holds_keys_and_views_only_while_its_section_is_in_view(
    desk_with_scan: Desk,
) -> None:
    desk = desk_with_scan
    desk.segment("liver")

    def held() -> tuple[bool, bool]:
        return desk.editor.shortcuts, desk.editor.view_observations

    assert held() == (False, False)
    desk.unfold("correctionSection")
    assert held() == (True, True)
    desk.editor.setActiveEffect("Paint")
    desk.panel.exit()
    assert held() == (False, False)
    assert desk.editor.effect is None
    desk.panel.enter()
    assert held() == (True, True)
    desk.ui.correctionSection.setCollapsed(True)
    assert held() == (False, False)


def test_a_closed_scene_leaves_the_editor_empty_and_the_next_one_finds_it_ready(
    desk_with_scan: Desk, add_volume: Any
) -> None:
    desk = desk_with_scan
    desk.segment("liver")
    desk.unfold("correctionSection")
    desk.panel.sceneAboutToClose()
    assert not desk.editor.shortcuts and desk.editor.segmentationNode() is None
    slicer.mrmlScene.Clear(0)
    desk.panel.enter()
    assert slicer.mrmlScene.IsNodePresent(desk.editor.node)
    desk.parameters.inputVolume = add_volume()
    node = desk.segment("spleen")
    assert desk.editor.segmentationNode() is node
    assert desk.editor.shortcuts


def test_a_segment_is_marked_reviewed_and_back(desk_with_scan: Desk) -> None:
    desk = desk_with_scan
    box = desk.ui.reviewedCheckBox
    assert not box.isEnabled()
    node = desk.segment("spleen", "liver")
    spleen, liver = (node.GetSegmentation().GetSegment(s) for s in ("spleen", "liver"))
    assert box.isEnabled() and not box.isChecked()
    assert box.text() == "Reviewed: Spleen"
    box.click()
    assert Segments.isReviewed(spleen) and not Segments.isReviewed(liver)
    desk.editor.setCurrentSegmentID("liver")
    assert not box.isChecked() and box.text() == "Reviewed: Liver"
    # Slicer's own table of segments can set the same mark.
    Segments.setReviewed(liver, True)
    assert box.isChecked()
    box.click()
    assert not Segments.isReviewed(liver)


def test_show_uncertainty_and_next_place_wait_for_a_map(desk_with_scan: Desk) -> None:
    desk = desk_with_scan
    desk.segment("liver")
    for button in (desk.ui.showUncertaintyButton, desk.ui.nextPlaceButton):
        assert not button.isEnabled()
        assert "Tick Uncertainty under Output" in button.toolTip()


def test_the_uncertainty_is_shown_after_the_run_and_taken_away_by_the_button(
    desk_with_scan: Desk, views: list[Any]
) -> None:
    desk = desk_with_scan
    composites = views[::2]
    desk.segment("liver", uncertainty=True)
    doubt = desk.parameters.uncertaintyVolume
    button = desk.ui.showUncertaintyButton
    assert button.isChecked()
    assert {c.GetForegroundVolumeID() for c in composites} == {doubt.GetID()}
    button.click()
    assert not button.isChecked()
    assert {c.GetForegroundVolumeID() for c in composites} == {None}
    button.click()
    assert button.isChecked()
    assert {c.GetForegroundVolumeID() for c in composites} == {doubt.GetID()}


def test_next_doubtful_place_moves_the_views_and_says_when_none_is_left(
    desk_with_scan: Desk, views: list[Any]
) -> None:
    desk = desk_with_scan
    desk.segment("liver", uncertainty=True)
    slices = views[1::2]
    before = slicer.util.arrayFromVTKMatrix(slices[0].GetSliceToRAS())
    desk.unfold("correctionSection")
    assert not desk.ui.placeLabel.isVisible()
    # The stand-in is in doubt exactly where it found something, by 0.5.
    desk.ui.nextPlaceButton.click()
    assert desk.ui.placeLabel.isVisible()
    assert desk.ui.placeLabel.text().startswith("Doubtful place 1 of 1: 0.5 ml around R ")
    assert not np.allclose(slicer.util.arrayFromVTKMatrix(slices[0].GetSliceToRAS()), before)
    desk.picture("panel-correct")
    desk.ui.nextPlaceButton.click()
    assert desk.ui.placeLabel.text().startswith("The doubtful place has been visited")


# -- Case library ------------------------------------------------------------------------------


def test_a_corrected_case_goes_into_the_folder_that_is_chosen(
    desk_with_scan: Desk, tmp_path: Path
) -> None:
    desk = desk_with_scan
    desk.unfold("librarySection")
    button = desk.ui.addCorrectedButton
    assert not button.isEnabled() and button.toolTip() == "Choose a library folder."
    folder = tmp_path / "library"
    desk.ui.libraryFolderEdit.setCurrentPath(str(folder))
    assert desk.settings.texts["LibraryFolder"] == str(folder)
    desk.segment("liver", "spleen")
    assert not button.isEnabled()
    assert button.toolTip().startswith("No segment is marked as reviewed")
    desk.ui.reviewedCheckBox.click()
    assert button.isEnabled()

    button.click()
    assert not button.isEnabled() and not desk.ui.segmentButton.isEnabled()
    assert desk.ui.segmentButton.text() == "Segment"
    desk.wait_until_idle()

    assert desk.ui.libraryLabel.text() == (
        "'Scan' is in the library as case Scan, with spleen. Not kept, for not reviewed: Liver."
    )
    assert {p.name for p in folder.iterdir()} == {"image.nrrd", "labels.nrrd", "predicted.nrrd"}
    assert button.isEnabled() and desk.ui.segmentButton.isEnabled()
    assert desk.dialogs.errors == []


def test_an_unlabelled_scan_needs_no_segmentation(desk_with_scan: Desk, tmp_path: Path) -> None:
    desk = desk_with_scan
    desk.ui.libraryFolderEdit.setCurrentPath(str(tmp_path / "library"))
    assert not desk.ui.addCorrectedButton.isEnabled()
    desk.ui.addUnlabelledButton.click()
    desk.wait_until_idle()
    assert [p.name for p in (tmp_path / "library").iterdir()] == ["image.nrrd"]
    assert "with no label" in desk.ui.libraryLabel.text()


def test_a_library_that_fails_is_told_once(
    desk_with_scan: Desk, tmp_path: Path, stand_in: Any
) -> None:
    desk = desk_with_scan
    stand_in.manner = "fail"
    desk.ui.libraryFolderEdit.setCurrentPath(str(tmp_path / "library"))
    desk.ui.addUnlabelledButton.click()
    desk.wait_until_idle()
    assert desk.dialogs.errors == ["The library is on a full disk."]
    assert desk.ui.libraryLabel.text() == "The library is on a full disk."
    assert desk.ui.addUnlabelledButton.isEnabled()


def test_declining_the_installation_adds_nothing(
    desk_with_scan: Desk, tmp_path: Path, stand_in: Any
) -> None:
    desk = desk_with_scan
    desk.installer.answer = False
    desk.ui.libraryFolderEdit.setCurrentPath(str(tmp_path / "library"))
    desk.ui.addUnlabelledButton.click()
    assert "Nothing was installed" in desk.ui.libraryLabel.text()
    assert stand_in.workers == []


def test_the_folders_are_the_same_in_the_next_scene(desk_with_scan: Desk, tmp_path: Path) -> None:
    from PySide6.QtWidgets import QLineEdit

    desk = desk_with_scan
    desk.ui.libraryFolderEdit.setCurrentPath(str(tmp_path))
    desk.panel.sceneAboutToClose()
    slicer.mrmlScene.Clear(0)
    desk.panel.enter()
    assert desk.editor.sourceVolumeNode() is None
    assert desk.ui.libraryFolderEdit.findChild(QLineEdit).text() == str(tmp_path)
    assert desk.library._folder == str(tmp_path)


# -- all of them ------------------------------------------------------------------------------


def test_all_sections_fit_the_width_that_slicer_gives_the_panel(
    desk_with_scan: Desk, tmp_path: Path
) -> None:
    from PySide6.QtWidgets import QAbstractButton, QComboBox, QLabel

    desk = desk_with_scan
    desk.segment("liver", "portal_and_splenic_veins", uncertainty=True)
    desk.ui.resultsTable.cellClicked.emit(1, 0)
    desk.ui.reviewedCheckBox.click()
    desk.ui.nextPlaceButton.click()
    desk.ui.libraryFolderEdit.setCurrentPath("/home/user/VerSemi library")
    desk.ui.exportFolderEdit.setCurrentPath("/home/user/Documents/export")
    desk.ui.addCorrectedButton.setEnabled(True)
    for name in ("inputsButton", "promptsButton", "outputButton"):
        getattr(desk.ui, name).setCollapsed(True)
    desk.unfold("correctionSection", "librarySection", "exportSection")
    desk.picture("panel-sections")
    clipped = [
        w.objectName()
        for kind in (QLabel, QAbstractButton, QComboBox)
        for w in desk.widget.findChildren(kind)
        if w.isVisible()
        and w.objectName()
        and not (isinstance(w, QLabel) and w.wordWrap())
        and w.width() < w.minimumSizeHint().width()
    ]
    assert clipped == []
