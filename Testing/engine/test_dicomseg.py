"""DICOM SEG and the series that is made where there is none, read back and compared."""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from versemi.dicomimages import write_series
from versemi.dicomseg import read_segments, write_dicom_seg
from versemi.errors import InputError, OutputError
from versemi.export import write_segmentation
from versemi.images import read_image, same_grid
from versemi.tasks import TASKS

highdicom = pytest.importorskip("highdicom")
pydicom = pytest.importorskip("pydicom")

LIVER, KIDNEY = TASKS["liver"], TASKS["left_kidney"]


def scan(pixel: Any = np.float32) -> sitk.Image:
    """An oblique scan of (7, 9, 11) voxels (z, y, x), with values that no whole number holds."""
    values = np.random.default_rng(3).normal(40, 300, (7, 9, 11)).astype(pixel)
    image = sitk.GetImageFromArray(values)
    image.SetSpacing([0.75, 1.25, 3.0])
    image.SetOrigin([-12.5, 30.0, 101.25])
    turn = sitk.Euler3DTransform()
    turn.SetRotation(0.1, -0.2, 0.3)
    image.SetDirection(turn.GetMatrix())
    return image


def labels(image: sitk.Image) -> np.ndarray:
    """(z, y, x): liver and left kidney, neither symmetric nor at the edge."""
    values = np.zeros(image.GetSize()[::-1], np.uint8)
    values[1:5, 2:6, 1:4] = LIVER.label
    values[2:4, 3:8, 6:10] = KIDNEY.label
    return values


def on_grid(values: np.ndarray, image: sitk.Image) -> sitk.Image:
    made = sitk.GetImageFromArray(values)
    made.CopyInformation(image)
    return made


def frames(path: Path, series: Sequence[Path], number: int) -> np.ndarray:
    """A segment's voxels in the order of the series' files, (files, rows, columns)."""
    seg = highdicom.seg.segread(path)
    uids = [pydicom.dcmread(file, stop_before_pixels=True).SOPInstanceUID for file in series]
    pixels = seg.get_pixels_by_source_instance(
        uids, segment_numbers=[number], assert_missing_frames_are_empty=True
    )
    return np.asarray(pixels[..., 0] > 0)


@pytest.fixture
def series(tmp_path: Path) -> list[Path]:
    return write_series(scan(), tmp_path / "Serie für Übung", modality="CT", name="Probe 7")


@pytest.fixture
def segmentation(tmp_path: Path) -> Path:
    image = scan()
    path = tmp_path / "two.seg.nrrd"
    return write_segmentation(on_grid(labels(image), image), [LIVER, KIDNEY], path)


@pytest.mark.parametrize(("pixel", "modality"), [(np.float32, "CT"), (np.int16, "CT")])
def test_a_ct_series_gives_back_the_scans_values_and_geometry(
    tmp_path: Path, pixel: Any, modality: str
) -> None:
    image = scan(pixel)
    files = write_series(image, tmp_path / "ct", modality=modality, name="Probe")
    back = read_image(files[0].parent)
    assert back.modality == modality and not back.warnings
    assert len(files) == 7 and same_grid(back.image, image)
    values = sitk.GetArrayFromImage(image).astype(float)
    step = 0 if pixel is np.int16 else np.ptp(values) / 65535
    np.testing.assert_allclose(
        sitk.GetArrayFromImage(back.image), values, atol=step * 0.51, rtol=1e-6
    )


def test_an_mr_series_keeps_whole_numbers_and_stretches_others(tmp_path: Path) -> None:
    image = sitk.Cast(scan(), sitk.sitkInt16)
    back = read_image(write_series(image, tmp_path / "a", modality="MR", name="MR")[0].parent)
    assert back.modality == "MR"
    np.testing.assert_array_equal(sitk.GetArrayFromImage(back.image), sitk.GetArrayFromImage(image))
    back = read_image(write_series(scan(), tmp_path / "b", modality="MR", name="MR")[0].parent)
    pair = [sitk.GetArrayFromImage(i).ravel().astype(float) for i in (back.image, scan())]
    assert np.corrcoef(pair)[0, 1] > 0.999999


def test_a_second_series_does_not_overwrite_the_first(tmp_path: Path) -> None:
    first, second = (
        write_series(scan(), tmp_path / "s", modality="CT", name="P")[0].parent for _ in range(2)
    )
    assert (first.name, second.name) == ("s", "s 2")
    assert len(list(first.iterdir())) == len(list(second.iterdir())) == 7


def test_a_series_that_cannot_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="could not be written"):
        write_series(scan(), tmp_path / "file" / "s", modality="CT", name="P")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_dicom_seg_has_the_voxels_names_colours_and_terminology(
    tmp_path: Path, series: list[Path], segmentation: Path
) -> None:
    shuffled = series.copy()
    random.Random(1).shuffle(shuffled)
    written = write_dicom_seg(segmentation, shuffled, tmp_path / "out é" / "result.dcm")
    assert written.segments == ("Liver", "Left kidney") and written.empty == ()

    expected = labels(scan())
    for number, task in ((1, LIVER), (2, KIDNEY)):
        np.testing.assert_array_equal(frames(written.path, series, number), expected == task.label)
    seg = highdicom.seg.segread(written.path)
    source = pydicom.dcmread(series[0])
    assert seg.StudyInstanceUID == source.StudyInstanceUID
    assert seg.FrameOfReferenceUID == source.FrameOfReferenceUID
    assert seg.PatientID == "Probe 7"
    for number, task in ((1, LIVER), (2, KIDNEY)):
        description = seg.get_segment_description(number)
        kind = description.SegmentedPropertyTypeCodeSequence[0]
        assert description.segment_label == task.name
        assert kind.CodeValue == task.type.value and kind.CodeMeaning == task.type.meaning
        assert description.segmented_property_category.value == task.category.value
        assert description.algorithm_type.value == "MANUAL"
        color = highdicom.color.CIELabColor.from_dicom_value(
            tuple(description.RecommendedDisplayCIELabValue)
        )
        assert np.allclose(color.to_rgb(), task.color, atol=2)
    (side,) = kind.SegmentedPropertyTypeModifierCodeSequence
    assert (side.CodeValue, side.CodeMeaning) == ("7771000", "Left")


def test_the_affine_of_a_dicom_seg_is_the_scans(
    tmp_path: Path, series: list[Path], segmentation: Path
) -> None:
    """In millimetres, so that a reader that knows nothing of the series finds the voxels."""
    written = write_dicom_seg(segmentation, series, tmp_path / "result.dcm")
    volume = highdicom.seg.segread(written.path).get_volume(segment_numbers=[1])
    found = np.argwhere(volume.array[..., 0] > 0)
    points = found @ volume.affine[:3, :3].T + volume.affine[:3, 3]
    image = scan()
    expected = [
        image.TransformIndexToPhysicalPoint([int(n) for n in index[::-1]])
        for index in np.argwhere(labels(image) == LIVER.label)
    ]
    assert len(points) == len(expected)
    np.testing.assert_allclose(
        np.sort(points.round(3), axis=0), np.sort(np.round(expected, 3), axis=0), atol=2e-3
    )


def test_a_segmentation_on_another_grid_is_put_onto_the_images(
    tmp_path: Path, series: list[Path]
) -> None:
    """Cropped, and with its slices in the other direction."""
    image = scan()
    cut = sitk.Flip(on_grid(labels(image), image)[1:11, 1:9, 1:6], [False, False, True], False)
    path = write_segmentation(cut, [LIVER], tmp_path / "cut.seg.nrrd")
    written = write_dicom_seg(path, series, tmp_path / "result.dcm")
    np.testing.assert_array_equal(frames(written.path, series, 1), labels(image) == LIVER.label)


def overlapping(folder: Path) -> tuple[Path, list[np.ndarray]]:
    """Two layers, as Slicer writes segments that overlap, one of them reviewed."""
    image = scan()
    masks = [np.zeros(image.GetSize()[::-1], np.uint8) for _ in range(2)]
    masks[0][1:5, 2:6, 1:6] = 1
    masks[1][2:4, 3:8, 4:9] = 1
    made = sitk.Compose(*(on_grid(mask, image) for mask in masks))
    made.SetMetaData("Segment0_ID", "a")
    made.SetMetaData("Segment1_ID", "b")
    status = "Segmentation.Status"
    tags = [
        f"VerSemiSlicer.Prompt:liver|{status}:inprogress|",
        f"VerSemiSlicer.Prompt:spleen|{status}:completed|",
    ]
    for index, name in enumerate("AB"):
        fields = {"Name": name, "Layer": str(index), "LabelValue": "1", "Tags": tags[index]}
        for key, value in fields.items():
            made.SetMetaData(f"Segment{index}_{key}", value)
    path = folder / "overlap.seg.nrrd"
    sitk.WriteImage(made, str(path))
    return path, masks


def test_overlapping_segments_keep_all_their_voxels(tmp_path: Path, series: list[Path]) -> None:
    path, masks = overlapping(tmp_path)
    written = write_dicom_seg(path, series, tmp_path / "result.dcm")
    for number, mask in enumerate(masks, start=1):
        np.testing.assert_array_equal(frames(written.path, series, number), mask > 0)


def test_who_drew_a_segment_is_told_by_its_tags(tmp_path: Path, series: list[Path]) -> None:
    path, _ = overlapping(tmp_path)
    seg = highdicom.seg.segread(write_dicom_seg(path, series, tmp_path / "r.dcm").path)
    first, second = (seg.get_segment_description(number) for number in (1, 2))
    assert first.algorithm_type.value == "AUTOMATIC"
    assert second.algorithm_type.value == "SEMIAUTOMATIC"
    assert first.algorithm_identification.name == "VerSemi"
    # Without terminology a segment is some tissue, which is what Slicer says too.
    assert first.segmented_property_type.value == "85756007"


def test_empty_segments_are_left_out_and_named(tmp_path: Path, series: list[Path]) -> None:
    image = scan()
    path = write_segmentation(
        on_grid(labels(image), image), [TASKS["spleen"], LIVER, KIDNEY], tmp_path / "s.seg.nrrd"
    )
    written = write_dicom_seg(path, series, tmp_path / "result.dcm")
    assert written.segments == ("Liver", "Left kidney") and written.empty == ("Spleen",)
    np.testing.assert_array_equal(frames(written.path, series, 2), labels(image) == KIDNEY.label)


def test_an_enhanced_series_of_one_file_serves_as_well(
    tmp_path: Path, series: list[Path], segmentation: Path
) -> None:
    slices = [pydicom.dcmread(file) for file in series]
    for dataset in slices:
        dataset.PatientPosition = "HFS"
        dataset.StudyDate, dataset.StudyTime = "20260101", "120000"
    enhanced = highdicom.legacy.LegacyConvertedEnhancedCTImage(
        slices, highdicom.UID(), 2, highdicom.UID(), 1
    )
    file = tmp_path / "enhanced.dcm"
    enhanced.save_as(file)
    written = write_dicom_seg(segmentation, [file], tmp_path / "result.dcm")
    seg = highdicom.seg.segread(written.path)
    found = seg.get_volume(segment_numbers=[1]).array > 0
    assert found.sum() == (labels(scan()) == LIVER.label).sum()


def test_segments_of_a_file_of_slicer_are_read_with_their_terminology(segmentation: Path) -> None:
    layers, segments = read_segments(segmentation)
    assert len(layers) == 1
    assert [segment.value for segment in segments] == [LIVER.label, KIDNEY.label]
    assert segments[1].modifier == KIDNEY.modifier and segments[1].region is None
    assert segments[0].color == LIVER.color


def test_what_cannot_be_exported_is_told_in_a_sentence(
    tmp_path: Path, series: list[Path], segmentation: Path
) -> None:
    def refuse(words: str, *, files: Any = series, seg: Any = segmentation) -> None:
        with pytest.raises(InputError, match=words):
            write_dicom_seg(seg, files, tmp_path / "none.dcm")
        assert not (tmp_path / "none.dcm").exists()

    image = scan()
    nothing = on_grid(np.zeros_like(labels(image)), image)
    empty = write_segmentation(nothing, [LIVER], tmp_path / "empty.seg.nrrd")
    refuse("nothing to export: Liver has 0 voxels", seg=empty)
    far = on_grid(labels(image), image)
    far.SetOrigin([500.0, 0.0, 0.0])
    away = write_segmentation(far, [LIVER], tmp_path / "away.seg.nrrd")
    refuse("No voxel of Liver lies in the images", seg=away)
    refuse("There is no segmentation file", seg=tmp_path / "nowhere.seg.nrrd")
    sitk.WriteImage(nothing, str(tmp_path / "plain.seg.nrrd"))
    refuse("holds no segments", seg=tmp_path / "plain.seg.nrrd")
    refuse("give the files of their series", files=[])
    refuse("it is no DICOM file", files=[*series, segmentation])
    refuse("gone.dcm of the DICOM series could not be read", files=[tmp_path / "gone.dcm"])
    other = write_series(image, tmp_path / "other", modality="CT", name="Other")
    refuse("are of 2 series", files=[*series, other[0]])


@pytest.mark.parametrize(
    ("keyword", "words"),
    [
        ("FrameOfReferenceUID", "have no FrameOfReferenceUID"),
        ("ImagePositionPatient", "does not say where it lies"),
        ("PixelSpacing", "does not say where it lies"),
        ("StudyInstanceUID", "cannot carry a segmentation"),
    ],
)
def test_a_series_that_lacks_what_a_seg_refers_to_is_told_in_a_sentence(
    tmp_path: Path, series: list[Path], segmentation: Path, keyword: str, words: str
) -> None:
    for file in series:
        dataset = pydicom.dcmread(file)
        del dataset[keyword]
        dataset.save_as(file)
    with pytest.raises(InputError, match=words):
        write_dicom_seg(segmentation, series, tmp_path / "none.dcm")


def test_a_missing_package_is_named_with_how_to_install_it(
    tmp_path: Path, series: list[Path], segmentation: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "highdicom"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "highdicom", None)
    with pytest.raises(InputError, match=r"highdicom, which is missing; install it with pip"):
        write_dicom_seg(segmentation, series, tmp_path / "none.dcm")
