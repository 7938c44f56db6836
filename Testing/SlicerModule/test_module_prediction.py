"""What the model had answered is remembered with the segmentation, whatever happens to both."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer

from VerSemiSlicerLib import Prediction
from VerSemiSlicerLib.SegmentationResult import SegmentationRequest

RIGHT = np.array([[-2.0, 0, 0, 9], [0, 0, 1.5, 4], [0, 3.0, 0, 1], [0, 0, 0, 1]])
LEFT = np.array([[2.0, 0, 0, -9], [0, 0, 1.5, 4], [0, 3.0, 0, 1], [0, 0, 0, 1]])


def whole(mask: Any, volume: Any) -> np.ndarray:
    """The remembered mask on the whole grid, (k, j, i)."""
    voxels = np.zeros(slicer.util.arrayFromVolume(volume).shape, np.uint8)
    mask.drawInto(voxels, 1)
    return voxels > 0


@pytest.mark.parametrize("grid", [RIGHT, LEFT], ids=["right-handed", "left-handed"])
def test_the_answer_is_remembered_voxel_by_voxel_and_outlives_the_correction(
    grid: np.ndarray, logic: Any, add_volume: Any
) -> None:
    volume = add_volume(grid)
    node = logic.segment(SegmentationRequest(volume, ["spleen", "liver"])).segmentationNode
    array = slicer.util.arrayFromVolume(volume)

    empty = np.zeros(array.shape, np.uint8)
    slicer.util.updateSegmentBinaryLabelmapFromArray(empty, node, "liver", volume)
    node.GetSegmentation().RemoveSegment("spleen")

    known = Prediction.recall(node, volume)
    assert set(known) == {"spleen", "liver"}
    np.testing.assert_array_equal(whole(known["liver"], volume), array == 200)
    np.testing.assert_array_equal(whole(known["spleen"], volume), array == -200)
    assert known["liver"].packName == "versemi-base 1.0.0"


def test_it_costs_little(logic: Any, add_volume: Any) -> None:
    values = np.full((60, 100, 100), -1000, np.int16)
    values[10:50, 20:80, 20:80] = 100
    volume = add_volume(values=values)
    node = logic.segment(SegmentationRequest(volume, ["liver"])).segmentationNode
    assert len(node.GetAttribute("VerSemiSlicer.Prediction.liver")) < 2000


def test_a_prompt_segmented_again_has_its_new_answer_and_others_keep_theirs(
    logic: Any, add_volume: Any
) -> None:
    volume = add_volume()
    node = logic.segment(SegmentationRequest(volume, ["spleen", "liver"])).segmentationNode
    before = whole(Prediction.recall(node, volume)["spleen"], volume)
    array = slicer.util.arrayFromVolume(volume)
    array[:, :, :11] = -1000
    slicer.util.arrayFromVolumeModified(volume)
    logic.segment(SegmentationRequest(volume, ["liver"], segmentationNode=node))
    known = Prediction.recall(node, volume)
    np.testing.assert_array_equal(whole(known["liver"], volume), array > -400)
    np.testing.assert_array_equal(whole(known["spleen"], volume), before)


def test_an_answer_of_nothing_is_an_answer(logic: Any, add_volume: Any) -> None:
    volume = add_volume()
    roi = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode")
    roi.SetSize(2.0, 2.0, 2.0)
    roi.SetCenter(0.0, 0.0, 0.0)
    node = logic.segment(SegmentationRequest(volume, ["liver"], roiNode=roi)).segmentationNode
    assert not whole(Prediction.recall(node, volume)["liver"], volume).any()


def test_of_another_volume_nothing_is_known(logic: Any, add_volume: Any) -> None:
    volume, other = add_volume(), add_volume(name="Other")
    node = logic.segment(SegmentationRequest(volume, ["spleen"])).segmentationNode
    assert Prediction.recall(node, other) == {}
    logic.segment(SegmentationRequest(other, ["liver"], segmentationNode=node))
    assert set(Prediction.recall(node, other)) == {"liver"}
    assert Prediction.recall(node, volume) == {}


@pytest.mark.parametrize("grid", [RIGHT, LEFT], ids=["right-handed", "left-handed"])
def test_it_is_saved_and_loaded_with_the_scene(
    grid: np.ndarray, logic: Any, add_volume: Any, tmp_path: Path
) -> None:
    """A left-handed volume comes back with its slices in the other order; so must its answer."""
    volume = add_volume(grid)
    node = logic.segment(SegmentationRequest(volume, ["liver"])).segmentationNode
    for saved, name in ((volume, "scan.nrrd"), (node, "result.seg.nrrd")):
        assert slicer.util.saveNode(saved, str(tmp_path / name))
    scene = slicer.mrmlScene
    path = str(tmp_path / "scene.mrml")
    scene.SetRootDirectory(os.fspath(tmp_path))
    scene.SetURL(path)
    assert scene.Commit(path)
    scene.Clear(0)
    scene.SetURL(path)
    assert scene.Import()

    volume = scene.GetFirstNodeByName("Scan")
    node = scene.GetFirstNodeByName("Scan segmentation")
    array = slicer.util.arrayFromVolume(volume)
    np.testing.assert_array_equal(
        whole(Prediction.recall(node, volume)["liver"], volume), array > -400
    )


def test_it_stays_with_the_voxels_when_a_transform_is_hardened(logic: Any, add_volume: Any) -> None:
    volume = add_volume(RIGHT)
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    turned = np.array([[0, -1.0, 0, 7], [1, 0, 0, -3], [0, 0, 1, 50], [0, 0, 0, 1]])
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(turned))
    volume.SetAndObserveTransformNodeID(transform.GetID())
    node = logic.segment(SegmentationRequest(volume, ["liver"])).segmentationNode
    before = whole(Prediction.recall(node, volume)["liver"], volume)
    for moved in (volume, node):
        assert moved.HardenTransform()
    np.testing.assert_array_equal(whole(Prediction.recall(node, volume)["liver"], volume), before)
