"""Results as files: complete, readable by Slicer, or not there at all."""

from __future__ import annotations

import csv
import errno
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from versemi.errors import OutputError
from versemi.export import replacing, write_label_map, write_segmentation, write_text, write_volume
from versemi.images import read_label_map, same_grid
from versemi.tasks import TASKS

ASKED = [TASKS["spleen"], TASKS["left_kidney"], TASKS["hippocampus_anterior"], TASKS["pancreas"]]
GRIDS = {
    "upright": np.eye(3),
    "oblique": np.array([[0.8, -0.6, 0], [0.48, 0.64, -0.6], [0.36, 0.48, 0.8]]),
    "left-handed": np.diag([1.0, 1.0, -1.0]),
    "oblique left-handed": np.array([[0.8, 0.6, 0], [0.48, -0.64, -0.6], [0.36, -0.48, 0.8]]),
}


def label_map(direction: np.ndarray | None = None) -> sitk.Image:
    """Spleen, left kidney and anterior hippocampus as unequal boxes; the pancreas is missing."""
    values = np.zeros((9, 8, 7), np.uint8)
    values[1:3, 2:4, 3:6] = TASKS["spleen"].label
    values[4:8, 5:6, 0:2] = TASKS["left_kidney"].label
    values[8, 7, 6] = TASKS["hippocampus_anterior"].label
    image = sitk.GetImageFromArray(values)
    image.SetSpacing([0.8, 0.9, 2.5])
    image.SetOrigin([5, -6, 7])
    image.SetDirection((np.eye(3) if direction is None else direction).ravel().tolist())
    return image


def world_points(image: sitk.Image, value: int) -> np.ndarray:
    """RAS positions of the voxels that hold `value`, sorted."""
    indices = np.argwhere(sitk.GetArrayFromImage(image) == value)[:, ::-1]
    lps = [image.TransformIndexToPhysicalPoint([int(n) for n in index]) for index in indices]
    return _sorted(np.array(lps).reshape(-1, 3) * [-1, -1, 1])


def _sorted(points: np.ndarray) -> np.ndarray:
    rounded = np.round(points, 3) + 0.0
    return rounded[np.lexsort(rounded.T)]


def segment_points(vtk_image) -> np.ndarray:
    """RAS positions of the foreground of a vtkOrientedImageData, sorted."""
    import vtk
    from vtk.util.numpy_support import vtk_to_numpy

    extent = vtk_image.GetExtent()
    if extent[1] < extent[0] or vtk_image.GetPointData().GetScalars() is None:
        return np.empty((0, 3))
    shape = [extent[2 * a + 1] - extent[2 * a] + 1 for a in (2, 1, 0)]
    voxels = vtk_to_numpy(vtk_image.GetPointData().GetScalars()).reshape(shape)
    ijk = np.argwhere(voxels)[:, ::-1] + np.array(extent[::2])
    matrix = vtk.vtkMatrix4x4()
    vtk_image.GetImageToWorldMatrix(matrix)
    to_world = np.array([[matrix.GetElement(r, c) for c in range(4)] for r in range(4)])
    return _sorted((np.c_[ijk, np.ones(len(ijk))] @ to_world.T)[:, :3])


def slicer_read(path: Path, kind: str):
    """Read with Slicer's own storage node; gives the scene (to keep it alive) and the node."""
    slicer = pytest.importorskip("slicer")
    scene = slicer.vtkMRMLScene()
    node = scene.AddNewNodeByClass(f"vtkMRML{kind}Node")
    storage = scene.AddNewNodeByClass(f"vtkMRML{kind}StorageNode")
    storage.SetFileName(str(path))
    assert storage.ReadData(node) == 1
    return scene, node


@pytest.mark.parametrize("grid", GRIDS)
def test_slicer_reads_back_every_segment_with_name_colour_terminology_and_place(tmp_path, grid):
    import vtk

    image = label_map(GRIDS[grid])
    path = write_segmentation(image, ASKED, tmp_path / "é scan.seg.nrrd")
    scene, node = slicer_read(path, "Segmentation")
    segmentation = node.GetSegmentation()
    assert segmentation.GetNumberOfSegments() == len(ASKED)
    assert segmentation.GetNumberOfLayers("Binary labelmap") == 1
    for task in ASKED:
        segment = segmentation.GetSegment(task.id)
        assert segment.GetName() == task.name
        assert np.allclose(np.array(segment.GetColor()) * 255, task.color, atol=0.01)
        assert segment.GetLabelValue() == task.label
        terminology = vtk.reference("")
        assert segment.GetTag("TerminologyEntry", terminology)
        assert str(terminology) == task.terminology
        extracted = segmentation_voxels(node, task.id)
        assert np.allclose(segment_points(extracted), world_points(image, task.label))
    del scene


def segmentation_voxels(node, segment_id: str):
    import slicer

    voxels = slicer.vtkOrientedImageData()
    node.GetBinaryLabelmapRepresentation(segment_id, voxels)
    return voxels


@pytest.mark.parametrize("grid", GRIDS)
def test_a_segmentation_is_a_plain_label_map_to_other_readers(tmp_path, grid):
    image = label_map(GRIDS[grid])
    path = write_segmentation(image, ASKED, tmp_path / "s.seg.nrrd")
    again = read_label_map(path)
    for task in ASKED:
        assert np.allclose(world_points(again, task.label), world_points(image, task.label))


def test_nothing_of_the_scans_own_metadata_travels_into_the_segmentation(tmp_path):
    image = label_map()
    image.SetMetaData("0010|0010", "Name^Patient")
    path = write_segmentation(image, ASKED, tmp_path / "s.seg.nrrd")
    assert b"Patient" not in path.read_bytes()
    assert image.GetMetaData("0010|0010") == "Name^Patient"


@pytest.mark.parametrize("grid", GRIDS)
def test_a_label_map_keeps_its_grid_and_its_table_names_every_value(tmp_path, grid):
    image = label_map(GRIDS[grid])
    path, table = write_label_map(image, ASKED, tmp_path / "case.1.nii.gz")
    assert table.name == "case.1.labels.csv"
    again = read_label_map(path)
    assert same_grid(again, image) and again.GetPixelID() == sitk.sitkUInt8
    assert np.array_equal(sitk.GetArrayFromImage(again), sitk.GetArrayFromImage(image))
    with table.open(newline="", encoding="utf-8") as file:
        rows = {int(row["LabelValue"]): row for row in csv.DictReader(file)}
    assert {value: row["Name"] for value, row in rows.items()} == {t.label: t.name for t in ASKED}
    assert rows[TASKS["left_kidney"].label]["TypeModifier_CodeMeaning"] == "Left"


def test_slicer_reads_the_label_table_as_a_colour_table_with_terminology(tmp_path):
    _, table = write_label_map(label_map(), ASKED, tmp_path / "s.nii.gz")
    scene, node = slicer_read(table, "ColorTable")
    for task in ASKED:
        assert node.GetColorName(task.label) == task.name
        colour = [0.0] * 4
        node.GetColor(task.label, colour)
        assert np.allclose(np.array(colour[:3]) * 255, task.color, atol=0.51)
        entry = node.GetTerminologyAsString(task.label)
        codes = [task.category.triplet, task.type.triplet]
        assert entry.split("~")[1:3] == codes
        assert entry.split("~")[3] == (task.modifier.triplet if task.modifier else "^^")
    del scene


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
def test_a_volume_comes_back_as_it_was(tmp_path, suffix):
    values = np.random.default_rng(0).random((9, 8, 7), dtype=np.float32)
    image = sitk.GetImageFromArray(values)
    image.CopyInformation(label_map(GRIDS["oblique left-handed"]))
    again = read_label_map(write_volume(image, tmp_path / "new" / "folder" / f"u{suffix}"))
    assert same_grid(again, image)
    assert np.array_equal(sitk.GetArrayFromImage(again), values)


def test_a_write_that_fails_keeps_the_file_that_was_there(tmp_path):
    path = write_text("old", tmp_path / "notes.txt")
    with pytest.raises(OutputError), replacing(path) as temporary:
        temporary.write_text("half")
        raise OSError(28, "No space left on device")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["notes.txt"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows itself is the test")
def test_a_file_is_flushed_through_a_handle_that_may_write_as_windows_wants(tmp_path, monkeypatch):
    import fcntl
    import stat

    flush, flushed = os.fsync, []

    def as_on_windows(handle: int) -> None:
        if stat.S_ISREG(os.fstat(handle).st_mode):
            flushed.append(handle)
            if fcntl.fcntl(handle, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
                raise OSError(errno.EBADF, "Bad file descriptor")
        flush(handle)

    monkeypatch.setattr(os, "fsync", as_on_windows)
    assert write_volume(label_map(), tmp_path / "u.nii.gz").is_file()
    assert len(flushed) == 1


def test_an_interrupted_write_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt), replacing(tmp_path / "notes.txt") as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert os.listdir(tmp_path) == []


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="choose another folder"):
        write_text("x", tmp_path / "file" / "notes.txt")


FULL_DISK = """
    import os, resource, sys
    import numpy as np, SimpleITK as sitk
    from versemi.errors import OutputError
    from versemi.export import write_label_map, write_segmentation, write_text, write_volume
    from versemi.tasks import TASKS

    folder = sys.argv[1]
    values = np.random.default_rng(0).integers(0, 17, (40, 40, 40)).astype(np.uint8)
    labels = sitk.GetImageFromArray(values)
    tasks = [TASKS["spleen"]]
    resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))
    for write, name in (
        (lambda p: write_segmentation(labels, tasks, p), "s.seg.nrrd"),
        (lambda p: write_label_map(labels, tasks, p), "s.nii.gz"),
        (lambda p: write_label_map(labels, tasks, p), "s.nii"),
        (lambda p: write_volume(sitk.Cast(labels, sitk.sitkFloat32), p), "u.nii.gz"),
        (lambda p: write_volume(sitk.Cast(labels, sitk.sitkFloat32), p), "u.nrrd"),
        (lambda p: write_text("x" * 20000, p), "t.json"),
    ):
        try:
            write(os.path.join(folder, name))
        except OutputError as error:
            print(error)
        print(os.listdir(folder))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on file size")
def test_a_full_disk_is_one_sentence_and_leaves_nothing_behind(tmp_path, environment):
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(FULL_DISK), str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 12
    assert all("full" in line and "make room" in line for line in lines[::2])
    assert lines[1::2] == ["[]"] * 6
