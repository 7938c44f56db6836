"""Exporting to DICOM: on the images that the volume came from, or on a series made for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import slicer
from export_bench import PARTS, RIGHT, SHAPE, Bench, expected_points, in_order

from versemi.dicomimages import write_series
from versemi.tasks import TASKS
from VerSemiSlicerLib import Segments
from VerSemiSlicerLib.Errors import UserError
from VerSemiSlicerLib.ExportFormat import ExportFormat


def as_dicom(volume: Any, grid: np.ndarray, folder: Path) -> dict[str, str]:
    """The DICOM series that the volume was loaded from: file by SOP Instance UID."""
    pydicom = pytest.importorskip("pydicom")
    pytest.importorskip("highdicom")
    image = sitk.GetImageFromArray(slicer.util.arrayFromVolume(volume))
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ grid
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    files = write_series(image, folder, modality="CT", name="Anna")
    uids = {str(pydicom.dcmread(file).SOPInstanceUID): str(file) for file in files}
    volume.SetAttribute("DICOM.instanceUIDs", " ".join(uids))
    return uids


def seg_points(path: str) -> tuple[Any, list[np.ndarray]]:
    """The DICOM SEG, and where each segment's voxels are, RAS, sorted."""
    import highdicom

    seg = highdicom.seg.segread(path)
    found = []
    for number in range(1, seg.number_of_segments + 1):
        volume = seg.get_volume(segment_numbers=[number])
        index = np.argwhere(volume.array[..., 0] > 0)
        points = index @ volume.affine[:3, :3].T + volume.affine[:3, 3]
        found.append(in_order(points * [-1, -1, 1]))
    return seg, found


@pytest.mark.parametrize("transformed", [False, True])
def test_a_dicom_segmentation_lies_on_the_images_that_the_volume_was_loaded_from(
    bench: Bench, segments: Any, tmp_path: Path, transformed: bool
) -> None:
    """Also where the volume has been moved in the scene: its images have not."""
    volume, node = segments(RIGHT, transformed)
    bench.files = as_dicom(volume, RIGHT, tmp_path / "series")
    Segments.setReviewed(node.GetSegmentation().GetSegment("liver"), True)
    assert bench.logic.missingSeries(bench.request(volume, node, ExportFormat.DICOM)) == ""

    result = bench.export(volume, node, ExportFormat.DICOM)

    assert result.files == (str(bench.folder / "Größe A_B.dcm"),)
    seg, found = seg_points(result.files[0])
    for number, (segment_id, points) in enumerate(zip(PARTS, found, strict=True), start=1):
        description = seg.get_segment_description(number)
        segment = node.GetSegmentation().GetSegment(segment_id)
        assert description.segment_label == segment.GetName()
        task = TASKS.get(segment_id)
        expected = task.type.value if task else "85756007"
        assert description.segmented_property_type.value == expected
        np.testing.assert_allclose(points, expected_points(segment_id, RIGHT, False), atol=3e-3)
    kinds = [seg.get_segment_description(n).algorithm_type.value for n in (1, 2, 3)]
    assert kinds == ["SEMIAUTOMATIC", "AUTOMATIC", "MANUAL"]
    references = {
        str(item.ReferencedSOPInstanceUID)
        for item in seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence
    }
    assert references == set(bench.files)


def test_without_a_series_one_is_made_where_the_volume_lies_in_the_world(
    bench: Bench, segments: Any
) -> None:
    pydicom = pytest.importorskip("pydicom")
    pytest.importorskip("highdicom")
    volume, node = segments()
    request = bench.request(volume, node, ExportFormat.DICOM)
    assert bench.logic.missingSeries(request) == (
        "The volume 'Scan' was not loaded from DICOM, so the DICOM images are missing that a "
        "DICOM segmentation refers to."
    )
    with pytest.raises(UserError, match="was not loaded from DICOM"):
        bench.logic.start(request)

    result = bench.export(volume, node, ExportFormat.DICOM, makeSeries=True, modality="CT")

    *images, output = result.files
    assert len(images) == SHAPE[0]
    assert pydicom.dcmread(images[0]).Modality == "CT"
    _, found = seg_points(output)
    for segment_id, points in zip(PARTS, found, strict=True):
        np.testing.assert_allclose(points, expected_points(segment_id, RIGHT), atol=3e-3)


def test_images_that_have_left_the_database_are_counted(
    bench: Bench, segments: Any, tmp_path: Path
) -> None:
    volume, node = segments()
    bench.files = as_dicom(volume, RIGHT, tmp_path / "series")
    for uid in list(bench.files)[:3]:
        del bench.files[uid]
    sentence = bench.logic.missingSeries(bench.request(volume, node, ExportFormat.DICOM))
    assert sentence.startswith("Of the 14 DICOM images that the volume 'Scan' was loaded from, 3 ")


def test_what_the_engine_refuses_is_told_and_temporary_files_are_gone(
    bench: Bench, segments: Any, tmp_path: Path
) -> None:
    volume, node = segments()
    bench.files = as_dicom(volume, RIGHT, tmp_path / "series")
    Path(next(iter(bench.files.values()))).write_bytes(b"no longer DICOM")
    bench.logic.start(bench.request(volume, node, ExportFormat.DICOM))
    bench.logic.link.waitUntilIdle(timeout=60)
    (sentence,) = bench.failures
    assert "0001.dcm of the DICOM series could not be read" in sentence
    assert list((tmp_path / "temporary").iterdir()) == []
