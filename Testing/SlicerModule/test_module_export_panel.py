"""The panel's section Export to files, in real Qt."""

from __future__ import annotations

from pathlib import Path

import pytest
import slicer
from desk import Desk

from VerSemiSlicerLib import Segments


def choose_export(desk: Desk, tmp_path: Path, format: str, segments: str = "All") -> Path:
    folder = tmp_path / "export"
    desk.ui.exportFolderEdit.setCurrentPath(str(folder))
    for box, text in (
        (desk.ui.exportFormatComboBox, format),
        (desk.ui.exportSegmentsComboBox, segments),
    ):
        (index,) = [i for i in range(box.count()) if text in box.itemText(i)]
        box.setCurrentIndex(index)
    return folder


def exported(folder: Path) -> list[str]:
    node = slicer.util.loadSegmentation(str(folder / "Scan segmentation.seg.nrrd"))
    return Segments.segmentIds(node)


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ("All", ["spleen", "liver", "aorta"]),
        ("Visible", ["spleen", "aorta"]),
        ("Reviewed", ["spleen"]),
        ("Liver", ["liver"]),
    ],
)
def test_the_segments_that_are_chosen_are_written(
    desk_with_scan: Desk, tmp_path: Path, choice: str, expected: list[str]
) -> None:
    desk = desk_with_scan
    node = desk.segment("spleen", "liver", "aorta")
    node.GetDisplayNode().SetSegmentVisibility("liver", False)
    desk.ui.reviewedCheckBox.click()
    folder = choose_export(desk, tmp_path, ".seg.nrrd", choice)
    desk.ui.exportButton.click()
    assert desk.ui.exportLabel.text() == "Wrote Scan segmentation.seg.nrrd."
    assert exported(folder) == expected


def test_the_list_of_segments_follows_the_segmentation_and_keeps_what_was_chosen(
    desk_with_scan: Desk,
) -> None:
    desk = desk_with_scan
    box = desk.ui.exportSegmentsComboBox

    def texts() -> list[str]:
        return [box.itemText(index) for index in range(box.count())]

    assert texts() == ["All", "Visible", "Reviewed"]
    node = desk.segment("spleen", "liver")
    assert texts() == ["All", "Visible", "Reviewed", "Spleen", "Liver"]
    box.setCurrentIndex(4)
    node.GetSegmentation().GetSegment("spleen").SetName("Milz")
    assert texts()[3:] == ["Milz", "Liver"] and box.currentText() == "Liver"
    node.GetSegmentation().RemoveSegment("spleen")
    assert texts()[3:] == ["Liver"] and box.currentText() == "Liver"
    node.GetSegmentation().RemoveSegment("liver")
    assert box.currentText() == "All"
    assert not desk.ui.exportButton.isEnabled()


def test_none_of_the_chosen_kind_is_a_sentence(desk_with_scan: Desk, tmp_path: Path) -> None:
    desk = desk_with_scan
    desk.segment("liver")
    folder = choose_export(desk, tmp_path, ".seg.nrrd", "Reviewed")
    desk.ui.exportButton.click()
    assert "None of the segments is among those to export" in desk.dialogs.errors[0]
    assert not folder.exists()


def test_files_are_replaced_only_when_the_user_agrees(desk_with_scan: Desk, tmp_path: Path) -> None:
    desk = desk_with_scan
    desk.segment("liver")
    folder = choose_export(desk, tmp_path, "NIfTI")
    desk.ui.exportButton.click()
    assert desk.dialogs.questions == []
    desk.dialogs.answer = False
    path = folder / "Scan segmentation.nii.gz"
    path.write_bytes(b"mine")
    desk.ui.exportButton.click()
    assert "Scan segmentation.nii.gz" in desk.dialogs.questions[0]
    assert path.read_bytes() == b"mine"
    assert desk.ui.exportLabel.text().startswith("Nothing was written")
    desk.dialogs.answer = True
    desk.ui.exportButton.click()
    assert path.read_bytes() != b"mine"


def test_dicom_without_a_series_offers_to_create_one(desk_with_scan: Desk, tmp_path: Path) -> None:
    desk = desk_with_scan
    desk.segment("liver")
    folder = choose_export(desk, tmp_path, "DICOM")
    desk.dialogs.answer = False
    desk.ui.exportButton.click()
    (question,) = desk.dialogs.questions
    assert "was not loaded from DICOM" in question
    assert "Write a DICOM series of the volume first?" in question
    assert desk.ui.exportLabel.text().startswith("The volume 'Scan' was not loaded from DICOM")
    assert not folder.exists()

    desk.dialogs.answer = True
    desk.ui.exportButton.click()
    desk.wait_until_idle()
    assert desk.ui.exportLabel.text() == "Wrote Scan segmentation.dcm on 0 images."
    assert desk.dialogs.errors == []


def test_dicom_asks_for_its_packages_first(desk_with_scan: Desk, tmp_path: Path) -> None:
    desk = desk_with_scan
    desk.segment("liver")
    choose_export(desk, tmp_path, "DICOM")
    desk.dicom_installer.answer = False
    desk.ui.exportButton.click()
    assert desk.dialogs.questions == []
    assert desk.ui.exportLabel.text() == "Nothing was installed; DICOM needs these packages."


def test_the_format_is_saved_with_the_scene(desk_with_scan: Desk, tmp_path: Path) -> None:
    from VerSemiSlicerLib.ExportFormat import ExportFormat

    choose_export(desk_with_scan, tmp_path, "OBJ")
    assert desk_with_scan.parameters.exportFormat is ExportFormat.OBJ
