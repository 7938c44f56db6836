"""The result lies where the scan's voxels lie, whatever the scan's axes and transforms are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import slicer
import vtk

from VerSemiSlicerLib.Errors import UserError
from VerSemiSlicerLib.SegmentationResult import SegmentationRequest


def rotation(degrees: float, axis: tuple[float, float, float]) -> np.ndarray:
    transform = vtk.vtkTransform()
    transform.RotateWXYZ(degrees, *axis)
    return slicer.util.arrayFromVTKMatrix(transform.GetMatrix())


def grid(
    spacing: tuple[float, float, float] = (1, 1, 1),
    degrees: float = 0,
    flip: tuple[int, int, int] = (1, 1, 1),
    origin: tuple[float, float, float] = (-20, 35, 110),
) -> np.ndarray:
    matrix = rotation(degrees, (0.3, -0.5, 0.8)) @ np.diag([*np.multiply(spacing, flip), 1.0])
    matrix[:3, 3] = origin
    return matrix


GRIDS = {
    "plain": grid(),
    "anisotropic": grid(spacing=(0.7, 0.9, 5.0)),
    "oblique": grid(degrees=33),
    "oblique and anisotropic": grid(spacing=(0.8, 0.8, 3.0), degrees=-58),
    "LPS": grid(flip=(-1, -1, 1)),
    "left-handed": grid(flip=(-1, 1, 1)),
    "left-handed, oblique and anisotropic": grid(
        spacing=(0.8, 1.1, 2.5), degrees=41, flip=(1, 1, -1)
    ),
}


def linear_transform(matrix: np.ndarray, parent: Any = None) -> Any:
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    node.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(matrix))
    if parent is not None:
        node.SetAndObserveTransformNodeID(parent.GetID())
    return node


def moved(degrees: float = 25, origin: tuple[float, float, float] = (40, -70, 15)) -> np.ndarray:
    return grid(degrees=degrees, origin=origin)


def bending_transform() -> Any:
    """A thin-plate spline that bends 100 mm around the scan by up to 6 mm."""
    source, target = vtk.vtkPoints(), vtk.vtkPoints()
    for r in (-80, 0, 80):
        for a in (-80, 0, 80):
            for s in (20, 110, 200):
                source.InsertNextPoint(r, a, s)
                target.InsertNextPoint(r + 6 * np.sin(a / 40), a, s + 6 * np.cos(r / 40))
    spline = vtk.vtkThinPlateSplineTransform()
    spline.SetSourceLandmarks(source)
    spline.SetTargetLandmarks(target)
    spline.SetBasisToR()
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode")
    node.SetAndObserveTransformToParent(spline)
    return node


def world_points(mask: np.ndarray, volume_node: Any) -> set[tuple[float, ...]]:
    """Centres of the voxels of `mask` (k, j, i) on the volume's grid, in world mm, to 0.01 mm."""
    matrix = vtk.vtkMatrix4x4()
    volume_node.GetIJKToRASMatrix(matrix)
    to_world = vtk.vtkGeneralTransform()
    if volume_node.GetParentTransformNode():
        volume_node.GetParentTransformNode().GetTransformToWorld(to_world)
    points = set()
    for k, j, i in np.argwhere(mask):
        ras = matrix.MultiplyPoint((float(i), float(j), float(k), 1.0))[:3]
        points.add(tuple(np.round(to_world.TransformPoint(ras), 2) + 0.0))
    return points


def segment_world_points(segmentation_node: Any, segment_id: str) -> set[tuple[float, ...]]:
    """Centres of the segment's voxels in world mm, from its own label map and transform."""
    label_map = slicer.vtkOrientedImageData()
    segmentation_node.GetBinaryLabelmapRepresentation(segment_id, label_map)
    volume = slicer.vtkMRMLLabelMapVolumeNode()
    slicer.vtkSlicerSegmentationsModuleLogic.CreateLabelmapVolumeFromOrientedImageData(
        label_map, volume
    )
    array = slicer.util.arrayFromVolume(volume)
    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    to_world = vtk.vtkGeneralTransform()
    if segmentation_node.GetParentTransformNode():
        segmentation_node.GetParentTransformNode().GetTransformToWorld(to_world)
    return {
        tuple(np.round(to_world.TransformPoint(matrix.MultiplyPoint((i, j, k, 1.0))[:3]), 2) + 0.0)
        for k, j, i in np.argwhere(array).astype(float)
    }


def core(volume_node: Any) -> np.ndarray:
    """What the stand-in calls liver where spleen is asked too."""
    return slicer.util.arrayFromVolume(volume_node) > -100


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize("parent", ["no transform", "linear", "nested"])
def test_a_segment_covers_the_same_world_points_as_the_voxels_it_was_found_in(
    name: str, parent: str, logic: Any, add_volume: Any
) -> None:
    volume = add_volume(GRIDS[name])
    if parent != "no transform":
        outer = linear_transform(moved(-70, (5, 5, 5))) if parent == "nested" else None
        volume.SetAndObserveTransformNodeID(linear_transform(moved(), outer).GetID())

    result = logic.segment(SegmentationRequest(volume, ["liver", "spleen"]))

    assert result.segmentationNode.GetParentTransformNode() is volume.GetParentTransformNode()
    points = segment_world_points(result.segmentationNode, "liver")
    assert points == world_points(core(volume), volume)


def test_exporting_the_segmentation_on_its_volume_gives_the_voxels_back(
    logic: Any, add_volume: Any
) -> None:
    volume = add_volume(GRIDS["left-handed, oblique and anisotropic"])
    volume.SetAndObserveTransformNodeID(linear_transform(moved()).GetID())

    node = logic.segment(SegmentationRequest(volume, ["liver", "spleen"])).segmentationNode

    exported = slicer.util.arrayFromSegmentBinaryLabelmap(node, "liver", volume)
    np.testing.assert_array_equal(exported > 0, core(volume))


def test_a_volume_under_a_bending_transform_is_segmented_in_its_own_frame(
    logic: Any, add_volume: Any
) -> None:
    volume = add_volume(GRIDS["oblique"])
    volume.SetAndObserveTransformNodeID(bending_transform().GetID())

    node = logic.segment(SegmentationRequest(volume, ["liver", "spleen"])).segmentationNode

    assert segment_world_points(node, "liver") == world_points(core(volume), volume)


def test_segments_land_in_the_right_place_of_a_segmentation_under_another_transform(
    logic: Any, add_volume: Any
) -> None:
    volume = add_volume(GRIDS["oblique"])
    volume.SetAndObserveTransformNodeID(linear_transform(moved()).GetID())
    other = add_volume(GRIDS["plain"], name="Other")
    other.SetAndObserveTransformNodeID(linear_transform(moved(80, (0, 30, 0))).GetID())
    node = logic.segment(SegmentationRequest(other, ["spleen"])).segmentationNode
    before = segment_world_points(node, "spleen")

    logic.segment(SegmentationRequest(volume, ["liver"], segmentationNode=node))

    assert node.GetParentTransformNode() is other.GetParentTransformNode()
    assert segment_world_points(node, "spleen") == before
    found = slicer.util.arrayFromVolume(volume) > -400
    assert segment_world_points(node, "liver") == world_points(found, volume)


def add_roi(center: Any, size: Any, axes: np.ndarray | None = None) -> Any:
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "Box")
    node.SetSize(*size)
    matrix = np.eye(4) if axes is None else axes.copy()
    matrix[:3, 3] = center
    node.SetAndObserveObjectToNodeMatrix(slicer.util.vtkMatrixFromArray(matrix))
    return node


def inside_roi(roi_node: Any, volume_node: Any) -> np.ndarray:
    """Which voxels (k, j, i) lie in the ROI, by way of world space."""
    box = slicer.util.arrayFromVTKMatrix(roi_node.GetObjectToNodeMatrix())
    transform = vtk.vtkGeneralTransform()
    slicer.vtkMRMLTransformNode.GetTransformBetweenNodes(
        volume_node.GetParentTransformNode(), roi_node.GetParentTransformNode(), transform
    )
    matrix = vtk.vtkMatrix4x4()
    volume_node.GetIJKToRASMatrix(matrix)
    shape = slicer.util.arrayFromVolume(volume_node).shape
    inside = np.zeros(shape, bool)
    for k, j, i in np.ndindex(shape):
        point = transform.TransformPoint(matrix.MultiplyPoint((i, j, k, 1.0))[:3])
        local = np.linalg.inv(box) @ [*point, 1.0]
        inside[k, j, i] = np.all(np.abs(local[:3]) <= np.array(roi_node.GetSize()) / 2 + 1e-5)
    return inside


@pytest.mark.parametrize("name", ["plain", "left-handed, oblique and anisotropic"])
@pytest.mark.parametrize("transformed", ["neither", "volume", "roi", "both"])
def test_an_oblique_roi_holds_the_same_voxels_for_the_engine_as_in_the_scene(
    name: str, transformed: str, logic: Any, add_volume: Any
) -> None:
    volume = add_volume(GRIDS[name])
    middle = (GRIDS[name] @ [11, 8, 6, 1])[:3]
    roi = add_roi(middle, (7, 9, 6), rotation(27, (1, 1, 0)))
    if transformed in ("volume", "both"):
        volume.SetAndObserveTransformNodeID(linear_transform(moved(8, (3, -2, 1))).GetID())
    if transformed in ("roi", "both"):
        roi.SetAndObserveTransformNodeID(linear_transform(moved(8, (3, -2, 1))).GetID())
    if transformed in ("volume", "roi"):
        # The transform carries one of them away; the ROI is moved back onto the ball.
        points = vtk.vtkGeneralTransform()
        slicer.vtkMRMLTransformNode.GetTransformBetweenNodes(
            volume.GetParentTransformNode(), roi.GetParentTransformNode(), points
        )
        box = slicer.util.arrayFromVTKMatrix(roi.GetObjectToNodeMatrix())
        box[:3, 3] = points.TransformPoint(middle)
        roi.SetAndObserveObjectToNodeMatrix(slicer.util.vtkMatrixFromArray(box))
    expected = (slicer.util.arrayFromVolume(volume) > -400) & inside_roi(roi, volume)
    assert 0 < expected.sum() < (slicer.util.arrayFromVolume(volume) > -400).sum()

    node = logic.segment(SegmentationRequest(volume, ["liver"], roiNode=roi)).segmentationNode

    assert segment_world_points(node, "liver") == world_points(expected, volume)


def test_an_roi_under_a_bending_transform_becomes_a_box_around_what_it_holds(
    add_volume: Any,
) -> None:
    from versemi.geometry import Roi
    from VerSemiSlicerLib.RoiConversion import roiToJson

    volume = add_volume(GRIDS["plain"])
    roi = add_roi((GRIDS["plain"] @ [11, 8, 6, 1])[:3], (8, 10, 7))
    roi.SetAndObserveTransformNodeID(bending_transform().GetID())
    held = inside_roi(roi, volume)

    box = Roi.from_json(roiToJson(roi, volume))

    local = np.array([(GRIDS["plain"] @ [i, j, k, 1])[:3] for k, j, i in np.argwhere(held)])
    assert len(local) > 100
    assert box.contains_lps(local * [-1, -1, 1]).mean() > 0.99
    assert np.all(np.array(box.size) < [16, 18, 15])


def test_a_new_roi_is_placed_in_the_middle_of_an_oblique_volume(add_volume: Any) -> None:
    from VerSemiSlicerLib.RoiConversion import fitRoiToVolume

    volume = add_volume(GRIDS["left-handed, oblique and anisotropic"])
    volume.SetAndObserveTransformNodeID(linear_transform(moved()).GetID())
    roi = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode")

    fitRoiToVolume(roi, volume)

    held = np.argwhere(inside_roi(roi, volume))
    shape = np.array(slicer.util.arrayFromVolume(volume).shape)
    np.testing.assert_allclose(held.mean(axis=0), (shape - 1) / 2, atol=0.01)
    np.testing.assert_allclose(np.ptp(held, axis=0) + 1, shape / 2, atol=1.01)


def test_an_empty_roi_is_refused_in_a_sentence(logic: Any, add_volume: Any) -> None:
    roi = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "Box")
    with pytest.raises(UserError, match="The ROI 'Box' is empty; place it"):
        logic.start(SegmentationRequest(add_volume(), ["liver"], roiNode=roi))


def test_an_inside_out_roi_is_refused_in_a_sentence(logic: Any, add_volume: Any) -> None:
    roi = add_roi((0, 0, 0), (5, 5, 5))
    roi.SetInsideOut(True)
    with pytest.raises(UserError, match="inside out"):
        logic.start(SegmentationRequest(add_volume(), ["liver"], roiNode=roi))
