"""Keeping cases: what goes into the library is where the scan is, and what was reviewed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import slicer
from in_process import InProcessWorker

from versemi.caselibrary import CaseLibrary
from versemi.tasks import TASKS
from VerSemiSlicerLib import Segments
from VerSemiSlicerLib.Errors import UserError
from VerSemiSlicerLib.LibraryLogic import KeepRequest, KeepResult, LibraryLogic
from VerSemiSlicerLib.SegmentationResult import SegmentationRequest
from VerSemiSlicerLib.WorkerLink import WorkerLink

TURNED = np.array([[0, -1.0, 0, 30], [1, 0, 0, -20], [0, 0, 1, 5], [0, 0, 0, 1]])


@pytest.fixture
def worker() -> InProcessWorker:
    return InProcessWorker()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "Fälle"


@pytest.fixture
def library(catalog: Any, worker: InProcessWorker, tmp_path: Path) -> LibraryLogic:
    (tmp_path / "temporary").mkdir()
    return LibraryLogic(catalog, WorkerLink(worker), str(tmp_path / "temporary"))


@pytest.fixture
def keep(library: LibraryLogic, folder: Path) -> Callable[..., KeepResult]:
    """Keeps to the end, and raises what was told as failed."""

    def run(volume: Any, node: Any = None, **options: Any) -> KeepResult:
        outcome: list[Any] = []
        library.finished.connect(outcome.append)
        library.failed.connect(lambda sentence, detail: outcome.append(UserError(sentence)))
        options = {"modality": "CT", "withoutLabels": node is None, **options}
        library.start(KeepRequest(str(folder), volume, node, **options))
        library.link.waitUntilIdle(timeout=60)
        library.finished.disconnect(outcome.append)
        if isinstance(outcome[0], UserError):
            raise outcome[0]
        return outcome[0]

    return run


@pytest.fixture
def result(logic: Any, add_volume: Any) -> tuple[Any, Any]:
    """A volume under a transform with liver and spleen of the stand-in, none of them reviewed."""
    volume = add_volume(np.diag([-2.0, 2.0, 3.0, 1.0]))
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "Registration")
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(TURNED))
    volume.SetAndObserveTransformNodeID(transform.GetID())
    node = logic.segment(SegmentationRequest(volume, ["spleen", "liver"])).segmentationNode
    return volume, node


def review(node: Any, *segment_ids: str) -> None:
    for segment_id in segment_ids:
        Segments.setReviewed(node.GetSegmentation().GetSegment(segment_id), True)


def draw(node: Any, volume: Any, segment_id: str, mask: np.ndarray) -> None:
    slicer.util.updateSegmentBinaryLabelmapFromArray(
        mask.astype(np.uint8), node, segment_id, volume
    )


def case_of(folder: Path, kept: KeepResult) -> Any:
    return CaseLibrary.open(folder).case(kept.case)


def test_volume_and_reviewed_segments_lie_in_the_library_where_they_are_in_the_world(
    result: Any, keep: Any, folder: Path
) -> None:
    volume, node = result
    review(node, "liver")

    kept = keep(volume, node)

    case = case_of(folder, kept)
    assert case.prompts == ("liver",) and case.modality == "CT" and case.version == 1
    image = sitk.ReadImage(str(case.image_path))
    np.testing.assert_array_equal(
        np.sort(sitk.GetArrayFromImage(image), axis=None),
        np.sort(slicer.util.arrayFromVolume(volume), axis=None),
    )
    labels = sitk.ReadImage(str(case.label_path))
    found = np.argwhere(sitk.GetArrayFromImage(labels) == TASKS["liver"].label)
    world = [
        np.array(labels.TransformIndexToPhysicalPoint([int(n) for n in index[::-1]])) * [-1, -1, 1]
        for index in found
    ]
    placed = TURNED @ np.diag([-2.0, 2.0, 3.0, 1.0])
    expected = [
        (placed @ np.append(index[::-1], 1.0))[:3]
        for index in np.argwhere(slicer.util.arrayFromVolume(volume) == 200)
    ]
    assert len(world) == len(expected) > 10
    key = np.lexsort(np.round(world, 2).T), np.lexsort(np.round(expected, 2).T)
    np.testing.assert_allclose(np.array(world)[key[0]], np.array(expected)[key[1]], atol=1e-3)
    # The scene is as it was: still under its transform.
    assert volume.GetParentTransformNode() is node.GetParentTransformNode() is not None


def test_the_message_says_what_was_kept_and_what_was_not(result: Any, keep: Any) -> None:
    volume, node = result
    node.GetSegmentation().AddEmptySegment("cyst", "Cyst")
    review(node, "liver", "cyst")
    kept = keep(volume, node)
    assert kept.message == (
        f"'Scan' is in the library as case {kept.case}, with Liver. "
        "Not kept, for not reviewed: Spleen. Not kept, for no task prompt: Cyst."
    )


def test_what_the_model_had_answered_is_kept_beside_its_correction(
    result: Any, keep: Any, folder: Path
) -> None:
    volume, node = result
    array = slicer.util.arrayFromVolume(volume)
    corrected = array == 200
    corrected[:4] = False
    corrected[9, 2:5, 3:6] = True
    draw(node, volume, "liver", corrected)
    review(node, "liver")

    case = case_of(folder, keep(volume, node))

    value = TASKS["liver"].label
    label, predicted = (
        sitk.GetArrayFromImage(sitk.ReadImage(str(path))) == value
        for path in (case.label_path, case.predicted_path)
    )
    assert case.parent == "versemi-base 1.0.0"
    assert label.sum() == corrected.sum()
    assert predicted.sum() == (array == 200).sum()
    assert (label & predicted).sum() == (corrected & (array == 200)).sum()


def test_a_correction_of_a_case_that_is_there_is_its_next_version(
    result: Any, keep: Any, folder: Path
) -> None:
    volume, node = result
    review(node, "liver")
    first = keep(volume, node)
    review(node, "spleen")
    second = keep(volume, node)
    assert (second.case, second.version) == (first.case, 2)
    assert case_of(folder, second).prompts == ("spleen", "liver")
    assert len(CaseLibrary.open(folder).cases()) == 1


def test_an_unlabelled_scan_goes_in_without_the_segments_beside_it(
    result: Any, keep: Any, folder: Path, worker: InProcessWorker
) -> None:
    volume, node = result
    review(node, "liver")
    kept = keep(volume)
    case = case_of(folder, kept)
    assert case.label_path is None and case.prompts == ()
    assert kept.message.endswith("without a label.")
    with pytest.raises(UserError, match="is in the library already"):
        keep(volume)


def test_a_segment_that_somebody_has_drawn_counts_by_its_terminology(
    add_volume: Any, keep: Any, folder: Path
) -> None:
    volume = add_volume()
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Mine")
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    node.GetSegmentation().AddEmptySegment("s", "My left kidney")
    segment = node.GetSegmentation().GetSegment("s")
    # The words of a code are the dictionary's own; only the codes say what it is.
    terminology = TASKS["left_kidney"].terminology.replace("^Kidney", "^Kidney structure")
    segment.SetTag(segment.GetTerminologyEntryTagName(), terminology)
    draw(node, volume, "s", slicer.util.arrayFromVolume(volume) == 200)
    review(node, "s")
    case = case_of(folder, keep(volume, node))
    assert case.prompts == ("left_kidney",)
    assert case.predicted_path is None and case.parent is None


def test_where_the_scan_came_from_is_kept(result: Any, keep: Any, folder: Path) -> None:
    volume, _ = result
    storage = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLVolumeArchetypeStorageNode")
    storage.SetFileName("/scans/patient 7/abdomen.nii.gz")
    volume.SetAndObserveStorageNodeID(storage.GetID())
    assert case_of(folder, keep(volume)).source == "abdomen.nii.gz"


def test_temporary_files_are_gone_afterwards(result: Any, keep: Any, tmp_path: Path) -> None:
    volume, node = result
    review(node, "liver")
    keep(volume, node)
    assert list((tmp_path / "temporary").iterdir()) == []


# -- what cannot be kept -----------------------------------------------------------------------


def refused(library: LibraryLogic, request: KeepRequest, words: str) -> None:
    with pytest.raises(UserError, match=words):
        library.start(request)
    assert not library.link.isBusy
    assert not Path(request.folder or "none").exists()


def test_overlapping_segments_are_named_with_their_voxels(
    result: Any, library: LibraryLogic, folder: Path
) -> None:
    volume, node = result
    array = slicer.util.arrayFromVolume(volume)
    # As painting with "allow overlap" does: a layer of its own.
    node.GetSegmentation().SeparateSegmentLabelmap("liver")
    draw(node, volume, "liver", array > -400)
    review(node, "liver", "spleen")
    shared = int((array == -200).sum())
    refused(
        library,
        KeepRequest(str(folder), volume, node, "CT"),
        rf"Segments overlap: Spleen and Liver in {shared:,} voxels\. .*subtract one from the other "
        "in the Segment Editor",
    )


def test_an_empty_correction_is_refused_unless_the_model_had_found_something(
    result: Any, library: LibraryLogic, keep: Any, folder: Path
) -> None:
    volume, node = result
    draw(node, volume, "liver", np.zeros(slicer.util.arrayFromVolume(volume).shape))
    review(node, "liver")
    for name in node.GetAttributeNames():
        if name.endswith(".liver"):
            answer = node.GetAttribute(name)
            node.RemoveAttribute(name)
    refused(
        library,
        KeepRequest(str(folder), volume, node, "CT"),
        "The correction is empty: Liver has 0 voxels on the volume 'Scan'.*draw the structure",
    )
    node.SetAttribute("VerSemiSlicer.Prediction.liver", answer)
    case = case_of(folder, keep(volume, node))
    assert case.prompts == ("liver",)
    assert not sitk.GetArrayFromImage(sitk.ReadImage(str(case.label_path))).any()


def test_what_is_missing_or_unclear_is_said_before_anything_is_written(
    result: Any, library: LibraryLogic, folder: Path, add_volume: Any
) -> None:
    volume, node = result

    def problem(words: str, **changes: Any) -> None:
        given = {"folder": str(folder), "volumeNode": volume, "segmentationNode": node}
        request = KeepRequest(**{**given, "modality": "CT", **changes})
        assert words in library.problem(request)
        refused(library, request, words)

    problem("No segment is marked as reviewed; correct a segment and tick Reviewed.")
    problem("Choose a library folder.", folder="")
    problem("Choose an input volume.", volumeNode=None)
    problem("Choose a segmentation", segmentationNode=None)
    node.GetSegmentation().AddEmptySegment("cyst", "Cyst")
    review(node, "cyst")
    problem("Cyst belongs to no task prompt of the model pack")
    copy = slicer.vtkSegment()
    copy.DeepCopy(node.GetSegmentation().GetSegment("liver"))
    copy.SetName("Liver, second reader")
    node.GetSegmentation().AddSegment(copy, "second")
    review(node, "liver", "second")
    problem("The segments Liver and Liver, second reader both stand for the prompt 'Liver'")


@pytest.mark.parametrize(
    ("matrix", "words"),
    [
        (None, "'Bend', which is not linear, and an image file cannot hold it; harden"),
        (np.array([[1, 0.5, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]), "right angles"),
    ],
    ids=["non-linear", "shear"],
)
def test_a_transform_that_no_file_can_hold_is_told_with_its_name(
    add_volume: Any, library: LibraryLogic, folder: Path, matrix: Any, words: str
) -> None:
    import vtk

    volume = add_volume()
    kind = "vtkMRMLLinearTransformNode" if matrix is not None else "vtkMRMLTransformNode"
    transform = slicer.mrmlScene.AddNewNodeByClass(kind, "Bend")
    if matrix is not None:
        transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(matrix))
    else:
        points = [vtk.vtkPoints(), vtk.vtkPoints()]
        for index in range(8):
            corner = [20.0 * (index >> axis & 1) for axis in range(3)]
            points[0].InsertNextPoint(corner)
            points[1].InsertNextPoint(corner[0] + 3.0 * (index == 7), *corner[1:])
        bend = vtk.vtkThinPlateSplineTransform()
        bend.SetBasisToR()
        bend.SetSourceLandmarks(points[0])
        bend.SetTargetLandmarks(points[1])
        transform.SetAndObserveTransformToParent(bend)
    volume.SetAndObserveTransformNodeID(transform.GetID())
    refused(library, KeepRequest(str(folder), volume, None, "CT", True), words)


def test_what_only_the_engine_can_see_comes_in_its_own_words(
    add_volume: Any, keep: Any, folder: Path
) -> None:
    with pytest.raises(UserError, match="one constant|in every voxel"):
        keep(add_volume(values=np.full((8, 8, 8), 3, np.int16)))
    folder.mkdir(exist_ok=True)
    (folder / "thesis.txt").write_text("not a library")
    with pytest.raises(UserError, match="is no case library and is not empty"):
        keep(add_volume())
    assert [path.name for path in folder.iterdir()] == ["thesis.txt"]
