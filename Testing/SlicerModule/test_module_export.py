"""Exporting: every format read back and compared, in the world."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import slicer
import vtk
from export_bench import (
    LEFT,
    PARTS,
    RIGHT,
    SHAPE,
    TURNED,
    Bench,
    expected_points,
    points_of,
)

from versemi.tasks import TASKS
from VerSemiSlicerLib import Segments
from VerSemiSlicerLib.Errors import UserError
from VerSemiSlicerLib.ExportFormat import ExportFormat


def table(path: Path) -> dict[str, dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return {row["Name"]: row for row in csv.DictReader(file)}


@pytest.mark.parametrize("grid", [RIGHT, LEFT], ids=["right-handed", "left-handed"])
def test_a_seg_nrrd_comes_back_into_slicer_as_it_was_with_its_transform_hardened(
    bench: Bench, segments: Any, grid: np.ndarray
) -> None:
    volume, node = segments(grid)
    Segments.setReviewed(node.GetSegmentation().GetSegment("liver"), True)
    result = bench.export(volume, node, ExportFormat.SEGMENTATION)
    assert result.message == "Wrote Größe A_B.seg.nrrd."
    (file,) = result.files

    loaded = slicer.util.loadSegmentation(file)
    placed = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Placed")
    slicer.util.updateVolumeFromArray(placed, slicer.util.arrayFromVolume(volume))
    placed.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(TURNED @ grid))
    assert Segments.segmentIds(loaded) == list(PARTS)
    for segment_id, part in PARTS.items():
        mask = np.zeros(SHAPE, bool)
        mask[part] = True
        array = slicer.util.arrayFromSegmentBinaryLabelmap(loaded, segment_id, placed)
        np.testing.assert_array_equal(array > 0, mask)
        before = node.GetSegmentation().GetSegment(segment_id)
        after = loaded.GetSegmentation().GetSegment(segment_id)
        assert after.GetName() == before.GetName()
        assert after.GetColor() == pytest.approx(before.GetColor(), abs=1e-4)
        assert Segments.terminologyOf(after) == Segments.terminologyOf(before)
        assert Segments.isReviewed(after) == (segment_id == "liver")
    # The file itself has the whole grid of the volume.
    image = sitk.ReadImage(file)
    assert image.GetSize() == SHAPE[::-1]
    assert image.GetMetaData("Segmentation_ReferenceImageExtentOffset") == "0 0 0"
    assert node.GetParentTransformNode() is not None


@pytest.mark.parametrize("grid", [RIGHT, LEFT], ids=["right-handed", "left-handed"])
def test_a_nifti_label_map_has_the_prompts_values_and_a_table_that_says_so(
    bench: Bench, segments: Any, grid: np.ndarray
) -> None:
    volume, node = segments(grid)
    result = bench.export(volume, node, ExportFormat.NIFTI)
    label_table, label_map = map(Path, result.files)
    image = sitk.ReadImage(str(label_map))
    array = sitk.GetArrayFromImage(image)
    assert image.GetSize() == SHAPE[::-1]

    rows = table(label_table)
    assert set(rows) == {"Liver", "Left kidney", "Zyste 1/2"}
    for segment_id in PARTS:
        segment = node.GetSegmentation().GetSegment(segment_id)
        row = rows[segment.GetName()]
        task = TASKS.get(segment_id)
        value = int(row["LabelValue"])
        assert value == (task.label if task else 18)
        np.testing.assert_allclose(
            points_of(image, array == value), expected_points(segment_id, grid), atol=2e-3
        )
        colors = [int(row[f"Color_{c}"]) for c in "RGB"]
        assert np.allclose(colors, np.multiply(segment.GetColor(), 255), atol=1)
        if task:
            assert row["Type_CodeValue"] == task.type.value
            side = task.modifier.value if task.modifier else ""
            assert row["TypeModifier_CodeValue"] == side
    assert set(np.unique(array)) == {0, 5, 7, 18}


def test_the_label_table_is_the_one_that_the_engine_writes(
    bench: Bench, segments: Any, tmp_path: Path
) -> None:
    from versemi.export import write_label_map

    volume, node = segments()
    ours = bench.export(
        volume, node, ExportFormat.NIFTI, segmentIds=["liver", "left_kidney"]
    ).files[0]
    blank = sitk.Image([4, 4, 4], sitk.sitkUInt8)
    _, theirs = write_label_map(
        blank, [TASKS["liver"], TASKS["left_kidney"]], tmp_path / "engine.nii.gz"
    )
    theirs_rows = table(theirs)
    for name, row in table(Path(ours)).items():
        assert {key: row[key] for key in theirs_rows[name]} == theirs_rows[name]


def test_values_do_not_depend_on_which_segments_are_chosen(bench: Bench, segments: Any) -> None:
    volume, node = segments()
    for chosen in (["left_kidney"], ["Segment_1", "left_kidney"]):
        result = bench.export(volume, node, ExportFormat.NIFTI, segmentIds=chosen)
        array = sitk.GetArrayFromImage(sitk.ReadImage(result.files[1]))
        assert set(np.unique(array)) == {0, 7, *([18] if len(chosen) > 1 else [])}


def read_surface(path: Path) -> vtk.vtkPolyData:
    reader = vtk.vtkSTLReader() if path.suffix == ".stl" else vtk.vtkOBJReader()
    reader.SetFileName(str(path))
    reader.Update()
    return reader.GetOutput()


@pytest.mark.parametrize("format", [ExportFormat.STL, ExportFormat.OBJ])
def test_surfaces_are_files_named_after_their_segments_around_their_voxels(
    bench: Bench, segments: Any, format: ExportFormat
) -> None:
    volume, node = segments()
    result = bench.export(volume, node, format)
    base, suffix = "Größe A_B", format.value
    names = {
        "liver": f"{base}_Liver{suffix}",
        "left_kidney": f"{base}_Left kidney{suffix}",
        "Segment_1": f"{base}_Zyste 1_2{suffix}",
    }
    written = {Path(file).name for file in result.files}
    assert {f"{base}.labels.csv", *names.values()} <= written
    assert set(table(bench.folder / f"{base}.labels.csv")) == {"Liver", "Left kidney", "Zyste 1/2"}
    for segment_id, name in names.items():
        surface = read_surface(bench.folder / name)
        assert surface.GetNumberOfPoints() > 50
        points = expected_points(segment_id, RIGHT)
        # In LPS, as the files say; smoothing takes the edges off, by less than a voxel.
        x0, x1, y0, y1, z0, z1 = surface.GetBounds()
        found = [-x1, -x0, -y1, -y0, z0, z1]
        half = np.array([1.0, 1.0, 1.5])
        low, high = points.min(axis=0) - half, points.max(axis=0) + half
        assert found == pytest.approx(np.stack([low, high], axis=1).ravel(), abs=1.5)
    if format is ExportFormat.OBJ:
        text = (bench.folder / names["liver"]).read_text(encoding="utf-8")
        materials = f"{base}_Liver.mtl"
        assert f"mtllib {materials}\n" in text and materials in written
        diffuse = next(
            line.split()[1:]
            for line in (bench.folder / materials).read_text().splitlines()
            if line.startswith("Kd")
        )
        shade = np.array(diffuse, float)
        expected = np.array(TASKS["liver"].color)
        assert np.allclose(shade / shade.max(), expected / expected.max(), atol=0.02)
    else:
        assert b"SPACE=LPS" in (bench.folder / names["liver"]).read_bytes()[:80]


def test_two_segments_of_one_name_get_two_files(bench: Bench, segments: Any) -> None:
    volume, node = segments()
    node.GetSegmentation().GetSegment("Segment_1").SetName("LIVER")
    result = bench.export(volume, node, ExportFormat.STL)
    names = {Path(file).name for file in result.files}
    assert {"Größe A_B_Liver.stl", "Größe A_B_LIVER_2.stl"} <= names


def test_empty_segments_have_no_surface_and_that_is_said(bench: Bench, segments: Any) -> None:
    volume, node = segments()
    node.GetSegmentation().AddEmptySegment("empty", "Nothing")
    result = bench.export(volume, node, ExportFormat.STL)
    assert result.message.endswith("Left out, for they are empty: Nothing.")
    assert not any("Nothing" in Path(file).name for file in result.files)
    with pytest.raises(UserError, match="nothing to export: Nothing has 0 voxels; draw it first"):
        bench.export(volume, node, ExportFormat.STL, segmentIds=["empty"])


def overlap(node: Any, volume: Any) -> None:
    node.GetSegmentation().SeparateSegmentLabelmap("Segment_1")
    mask = np.zeros(SHAPE, np.uint8)
    mask[2:5, 3:6, 4:7] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(mask, node, "Segment_1", volume)


def test_overlapping_segments_keep_their_voxels_in_a_seg_nrrd_and_are_refused_as_a_label_map(
    bench: Bench, segments: Any
) -> None:
    volume, node = segments()
    overlap(node, volume)
    with pytest.raises(UserError, match=r"overlap: Liver and Zyste 1/2 in 27 voxels"):
        bench.export(volume, node, ExportFormat.NIFTI)
    assert not any(bench.folder.iterdir())
    (file,) = bench.export(volume, node, ExportFormat.SEGMENTATION).files
    loaded = slicer.util.loadSegmentation(file)
    for moved in (volume, node):
        moved.SetAndObserveTransformNodeID(None)
    volume.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(TURNED @ RIGHT))
    counts = {
        s: int((slicer.util.arrayFromSegmentBinaryLabelmap(loaded, s, volume) > 0).sum())
        for s in PARTS
    }
    assert counts == {"liver": 7 * 6 * 8, "left_kidney": 6 * 6 * 6, "Segment_1": 27}


# -- bad input ---------------------------------------------------------------------------------


def test_files_that_would_be_replaced_are_known_beforehand(bench: Bench, segments: Any) -> None:
    volume, node = segments()
    request = bench.request(volume, node, ExportFormat.OBJ)
    assert bench.logic.existing(request) == []
    result = bench.export(volume, node, ExportFormat.OBJ)
    assert {Path(f).name for f in result.files} == set(bench.logic.existing(request))


def test_a_failure_leaves_the_files_that_were_there(
    bench: Bench, segments: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from VerSemiSlicerLib import SegmentFiles

    volume, node = segments()
    (file,) = bench.export(volume, node, ExportFormat.SEGMENTATION).files
    before = Path(file).read_bytes()

    def fail(chosen: Any, format: Any, grid: Any, folder: Path) -> list[str]:
        (folder / "Größe A_B.seg.nrrd").write_bytes(b"")
        return []

    monkeypatch.setattr(SegmentFiles, "write", fail)
    with pytest.raises(UserError, match=r"Nothing was written to .* \(the disk is full\)"):
        bench.export(volume, node, ExportFormat.SEGMENTATION)
    assert Path(file).read_bytes() == before
    assert [path.name for path in bench.folder.iterdir()] == ["Größe A_B.seg.nrrd"]


def test_what_is_missing_is_said_before_anything_is_written(
    bench: Bench, segments: Any, tmp_path: Path
) -> None:
    volume, node = segments()

    def problem(words: str, **changes: Any) -> None:
        request = bench.request(volume, node, ExportFormat.NIFTI, **changes)
        assert words in bench.logic.problem(request)
        with pytest.raises(UserError, match=words):
            bench.logic.start(request)
        assert not bench.folder.exists()

    problem("Choose an input volume.", volumeNode=None)
    problem("Choose a segmentation", segmentationNode=None)
    problem("Choose a destination folder.", folder="")
    problem("None of the segments is among those to export", segmentIds=[])
    (tmp_path / "file").write_text("in the way")
    request = bench.request(volume, node, ExportFormat.NIFTI, folder=str(tmp_path / "file"))
    with pytest.raises(UserError, match="Nothing was written to"):
        bench.logic.start(request)
    assert (tmp_path / "file").read_text() == "in the way"
