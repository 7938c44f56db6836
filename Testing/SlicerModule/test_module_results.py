"""What a run leaves in the scene, and what it leaves alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import slicer
import vtk

from versemi.tasks import TASKS
from VerSemiSlicerLib.Errors import UserError
from VerSemiSlicerLib.SegmentationResult import SegmentationRequest


def tag(segment: Any, name: str) -> str:
    value = vtk.reference("")
    assert segment.GetTag(name, value), name
    return str(value.get())


def voxels(node: Any, segment_id: str, volume: Any) -> np.ndarray:
    return np.asarray(slicer.util.arrayFromSegmentBinaryLabelmap(node, segment_id, volume) > 0)


def segment_ids(node: Any) -> list[str]:
    segmentation = node.GetSegmentation()
    return [segmentation.GetNthSegmentID(i) for i in range(segmentation.GetNumberOfSegments())]


def assert_is_prompt(segment: Any, prompt: str) -> None:
    task = TASKS[prompt]
    assert segment.GetName() == task.name
    assert np.allclose(np.multiply(segment.GetColor(), 255), task.color, atol=0.5)
    assert segment.GetLabelValue() == task.label
    assert tag(segment, segment.GetTerminologyEntryTagName()) == task.terminology


def test_segments_have_the_names_values_colours_and_terminology_of_their_prompts(
    logic: Any, add_volume: Any
) -> None:
    result = logic.segment(SegmentationRequest(add_volume(), ["liver", "right_kidney"]))

    segmentation = result.segmentationNode.GetSegmentation()
    assert segment_ids(result.segmentationNode) == ["liver", "right_kidney"]
    for prompt in ("liver", "right_kidney"):
        assert_is_prompt(segmentation.GetSegment(prompt), prompt)
    assert result.segmentationNode.GetName() == "Scan segmentation"
    # One label map serves all prompts of a run.
    assert segmentation.GetNumberOfLayers() == 1


def test_the_terminologies_logic_of_slicer_reads_every_prompts_terminology() -> None:
    logic = slicer.modules.terminologies.logic()
    for task in TASKS.values():
        entry = slicer.vtkSlicerTerminologyEntry()
        assert logic.DeserializeTerminologyEntry(task.terminology, entry)
        assert entry.GetCategoryObject().GetCodeValue() == task.category.value
        assert entry.GetTypeObject().GetCodeValue() == task.type.value
        assert entry.GetTypeObject().GetCodeMeaning() == task.type.meaning
        side = entry.GetTypeModifierObject().GetCodeValue() or None
        assert side == (task.modifier.value if task.modifier else None)


def test_names_values_and_terminology_survive_saving_and_loading_the_segmentation(
    logic: Any, add_volume: Any, tmp_path: Path
) -> None:
    volume = add_volume()
    node = logic.segment(SegmentationRequest(volume, ["liver", "left_kidney"])).segmentationNode
    before = {p: voxels(node, p, volume) for p in ("liver", "left_kidney")}
    path = tmp_path / "Ergebnis.seg.nrrd"

    assert slicer.util.saveNode(node, str(path))
    slicer.mrmlScene.RemoveNode(node)
    loaded = slicer.util.loadSegmentation(str(path))

    for prompt in before:
        assert_is_prompt(loaded.GetSegmentation().GetSegment(prompt), prompt)
        np.testing.assert_array_equal(voxels(loaded, prompt, volume), before[prompt])


def test_a_saved_and_loaded_segmentation_still_knows_which_segments_are_its_prompts(
    logic: Any, add_volume: Any, tmp_path: Path
) -> None:
    volume = add_volume()
    node = logic.segment(SegmentationRequest(volume, ["liver", "spleen"])).segmentationNode
    path = tmp_path / "result.seg.nrrd"
    assert slicer.util.saveNode(node, str(path))
    loaded = slicer.util.loadSegmentation(str(path))

    result = logic.segment(SegmentationRequest(volume, ["spleen"], segmentationNode=loaded))

    assert segment_ids(loaded) == ["spleen", "liver"]
    assert [row.replaced for row in result.rows] == [True]


def test_values_survive_the_export_as_a_label_map(
    logic: Any, add_volume: Any, tmp_path: Path
) -> None:
    volume = add_volume()
    node = logic.segment(SegmentationRequest(volume, ["liver", "spleen"])).segmentationNode
    liver = voxels(node, "liver", volume)
    path = str(tmp_path)

    slicer.vtkSlicerSegmentationsModuleLogic.ExportSegmentsBinaryLabelmapRepresentationToFiles(
        path, node, None, ".nii.gz", False, volume
    )

    (file,) = Path(path).glob("*.nii.gz")
    array = sitk.GetArrayFromImage(sitk.ReadImage(str(file)))
    assert set(np.unique(array)) == {0, 1, 2}  # Slicer numbers an export by the segments' order.
    assert {(array == value).sum() for value in (1, 2)} >= {liver.sum()}


def test_the_segmentation_refers_to_the_volume_for_its_geometry(
    logic: Any, add_volume: Any
) -> None:
    volume = add_volume()
    node = logic.segment(SegmentationRequest(volume, ["liver"])).segmentationNode

    role = slicer.vtkMRMLSegmentationNode.GetReferenceImageGeometryReferenceRole()
    assert node.GetNodeReference(role) is volume
    geometry = node.GetSegmentation().GetConversionParameter(
        slicer.vtkSegmentationConverter.GetReferenceImageGeometryParameterName()
    )
    assert geometry.endswith("0;19;0;17;0;13;")


def test_volumes_are_listed_in_ml(logic: Any, add_volume: Any) -> None:
    volume = add_volume(np.diag([2.0, 2.0, 5.0, 1.0]))

    result = logic.segment(SegmentationRequest(volume, ["liver", "spleen"]))

    found = int((slicer.util.arrayFromVolume(volume) > -100).sum())
    rows = {row.segmentId: row for row in result.rows}
    assert rows["liver"].volumeMl == pytest.approx(found * 0.02)
    assert [row.name for row in result.rows] == ["Spleen", "Liver"]
    assert rows["liver"].color == TASKS["liver"].color


def add_own_segment(node: Any, volume: Any, segment_id: str, name: str) -> np.ndarray:
    """A box that somebody has drawn, over a part of the ball."""
    mask = np.zeros(slicer.util.arrayFromVolume(volume).shape, np.uint8)
    mask[4:9, 4:10, 6:14] = 1
    node.GetSegmentation().AddEmptySegment(segment_id, name, (0.1, 0.9, 0.2))
    slicer.util.updateSegmentBinaryLabelmapFromArray(mask, node, segment_id, volume)
    return mask > 0


def test_segments_of_others_in_the_chosen_segmentation_stay_as_they_are(
    logic: Any, add_volume: Any
) -> None:
    volume = add_volume()
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Mine")
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    # One of them bears a name that is a prompt's too.
    masks = {
        "Segment_1": add_own_segment(node, volume, "Segment_1", "Cyst"),
        "liver": add_own_segment(node, volume, "liver", "My liver"),
    }

    result = logic.segment(SegmentationRequest(volume, ["liver", "spleen"], segmentationNode=node))

    assert result.segmentationNode is node
    assert node.GetName() == "Mine"
    assert segment_ids(node)[:2] == ["Segment_1", "liver"]
    assert len(segment_ids(node)) == 4
    for segment_id, mask in masks.items():
        np.testing.assert_array_equal(voxels(node, segment_id, volume), mask)
        segment = node.GetSegmentation().GetSegment(segment_id)
        assert segment.GetColor() == pytest.approx((0.1, 0.9, 0.2))
    assert node.GetSegmentation().GetSegment("liver").GetName() == "My liver"
    ours = {row.name: row.segmentId for row in result.rows}
    np.testing.assert_array_equal(
        voxels(node, ours["Liver"], volume), slicer.util.arrayFromVolume(volume) > -100
    )
    assert not any(row.replaced for row in result.rows)


def test_a_prompt_segmented_again_replaces_its_own_segment_and_no_other(
    logic: Any, add_volume: Any
) -> None:
    volume = add_volume()
    first = logic.segment(SegmentationRequest(volume, ["spleen", "liver", "aorta"]))
    node = first.segmentationNode
    kept = {p: voxels(node, p, volume) for p in ("spleen", "aorta")}
    liver = node.GetSegmentation().GetSegment("liver")
    liver.SetName("Liver, for Tuesday")
    node.GetDisplayNode().SetSegmentOpacity3D("liver", 0.25)
    array = slicer.util.arrayFromVolume(volume)
    array[:, :, :10] = -1000
    slicer.util.arrayFromVolumeModified(volume)

    again = logic.segment(SegmentationRequest(volume, ["liver"], segmentationNode=node))

    assert segment_ids(node) == ["spleen", "liver", "aorta"]
    assert [(row.segmentId, row.replaced) for row in again.rows] == [("liver", True)]
    np.testing.assert_array_equal(voxels(node, "liver", volume), array > -400)
    for prompt, mask in kept.items():
        np.testing.assert_array_equal(voxels(node, prompt, volume), mask)
    assert node.GetSegmentation().GetSegment("liver").GetName() == "Liver, for Tuesday"
    assert node.GetDisplayNode().GetSegmentOpacity3D("liver") == pytest.approx(0.25)


def test_a_segmentation_shown_in_3d_is_still_shown_when_its_only_segment_is_replaced(
    logic: Any, add_volume: Any
) -> None:
    volume = add_volume()
    node = logic.segment(SegmentationRequest(volume, ["liver"])).segmentationNode
    node.CreateClosedSurfaceRepresentation()

    logic.segment(SegmentationRequest(volume, ["liver"], segmentationNode=node))

    surface = vtk.vtkPolyData()
    node.GetClosedSurfaceRepresentation("liver", surface)
    assert surface.GetNumberOfPoints() > 50


def test_a_prompt_that_finds_nothing_leaves_an_empty_segment_of_no_volume(
    logic: Any, add_volume: Any
) -> None:
    volume = add_volume()
    roi = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode")
    roi.SetCenter(0.0, 0.0, 0.0)
    roi.SetSize(2.0, 2.0, 2.0)

    result = logic.segment(SegmentationRequest(volume, ["liver"], roiNode=roi))

    assert [row.volumeMl for row in result.rows] == [0.0]
    assert segment_ids(result.segmentationNode) == ["liver"]
    assert not voxels(result.segmentationNode, "liver", volume).any()


def test_the_uncertainty_lies_over_the_volume_with_a_range_from_0_to_1(
    logic: Any, add_volume: Any
) -> None:
    matrix = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    volume = add_volume(np.array([[-2.0, 0, 0, 9], [0, 1, 0, 4], [0, 0, 3, 1], [0, 0, 0, 1]]))
    volume.SetAndObserveTransformNodeID(matrix.GetID())

    result = logic.segment(SegmentationRequest(volume, ["liver"], wantsUncertainty=True))

    node = result.uncertaintyNode
    assert node.GetName() == "Scan uncertainty"
    assert node.GetParentTransformNode() is matrix
    bounds, expected = [0.0] * 6, [0.0] * 6
    node.GetRASBounds(bounds)
    volume.GetRASBounds(expected)
    assert bounds == pytest.approx(expected)
    display = node.GetDisplayNode()
    assert (display.GetWindowLevelMin(), display.GetWindowLevelMax()) == (0.0, 1.0)
    assert display.GetColorNode() is not None
    assert node.GetStorageNode() is None  # Its file is gone; Slicer has to ask where to save it.


def test_a_chosen_uncertainty_volume_is_filled_and_keeps_its_display(
    logic: Any, add_volume: Any
) -> None:
    volume, chosen = add_volume(), add_volume(name="Doubt", values=np.zeros((3, 3, 3)))
    chosen.GetDisplayNode().AutoWindowLevelOff()
    chosen.GetDisplayNode().SetWindowLevelMinMax(0.2, 0.4)

    result = logic.segment(
        SegmentationRequest(volume, ["liver"], wantsUncertainty=True, uncertaintyNode=chosen)
    )

    assert result.uncertaintyNode is chosen
    assert slicer.util.arrayFromVolume(chosen).max() == pytest.approx(0.5)
    assert chosen.GetDisplayNode().GetWindowLevelMax() == pytest.approx(0.4)


def refusals() -> dict[str, tuple[Any, list[str], str]]:
    def empty(add: Any) -> Any:
        return slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Nothing")

    def vector(add: Any) -> Any:
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLVectorVolumeNode", "Photo")
        slicer.util.updateVolumeFromArray(node, np.zeros((4, 4, 4, 3), np.uint8))
        return node

    def label_map(add: Any) -> Any:
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "Labels")
        slicer.util.updateVolumeFromArray(node, np.zeros((4, 4, 4), np.uint8))
        return node

    def sheared(add: Any) -> Any:
        matrix = np.eye(4)
        matrix[0, 2] = 0.4
        return add(matrix)

    return {
        "no volume": (lambda add: None, ["liver"], "Choose an input volume."),
        "no image data": (empty, ["liver"], "'Nothing' has no image data; load it again."),
        "colours": (vector, ["liver"], "has 3 values per voxel"),
        "a label map": (label_map, ["liver"], "is a label map, not a scan"),
        "one slice": (
            lambda add: add(values=np.zeros((1, 5, 6), np.int16)),
            ["liver"],
            r"is a single slice \(6 x 5 x 1 voxels\)",
        ),
        "sheared axes": (sheared, ["liver"], "not at right angles"),
        "no prompt": (lambda add: add(), [], "Choose at least one task prompt."),
        "a strange prompt": (
            lambda add: add(),
            ["liver", "tail"],
            "The model pack 'versemi-base' does not know the prompt 'tail'",
        ),
    }


@pytest.mark.parametrize("name", refusals())
def test_what_cannot_be_segmented_is_refused_in_one_sentence_before_a_worker_is_started(
    name: str, logic: Any, add_volume: Any, stand_in: Any
) -> None:
    make, prompts, sentence = refusals()[name]
    request = SegmentationRequest(make(add_volume), prompts)

    with pytest.raises(UserError, match=sentence):
        logic.start(request)

    assert logic.problem(request)
    assert stand_in.devices == []


def test_a_segmentation_made_of_surfaces_is_refused(logic: Any, add_volume: Any) -> None:
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Mesh")
    node.SetSourceRepresentationToClosedSurface()
    node.GetSegmentation().AddEmptySegment("a")
    with pytest.raises(UserError, match="'Mesh' is made of surfaces"):
        logic.start(SegmentationRequest(add_volume(), ["liver"], segmentationNode=node))


def test_the_uncertainty_may_not_overwrite_the_scan(logic: Any, add_volume: Any) -> None:
    volume = add_volume()
    request = SegmentationRequest(volume, ["liver"], wantsUncertainty=True, uncertaintyNode=volume)
    with pytest.raises(UserError, match="would overwrite the input volume"):
        logic.start(request)
