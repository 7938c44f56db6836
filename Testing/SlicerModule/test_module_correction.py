"""Correcting: what the editor begins with, what the views show, where to look, what is reviewed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer

from VerSemiSlicerLib import Segments
from VerSemiSlicerLib.CorrectionLogic import CorrectionLogic
from VerSemiSlicerLib.DoubtfulPlaces import findDoubtfulPlaces
from VerSemiSlicerLib.SegmentationResult import SegmentationRequest

GRID = np.array([[-2.0, 0, 0, 30], [0, 1.0, 0, -20], [0, 0, 3.0, 5], [0, 0, 0, 1]])


@pytest.fixture
def correction() -> CorrectionLogic:
    return CorrectionLogic()


@pytest.fixture
def views(scene: Any) -> dict[str, Any]:
    """Slice and composite nodes, as the desktop's layout makes them."""
    made = {}
    for name in ("Red", "Yellow"):
        for kind in ("vtkMRMLSliceNode", "vtkMRMLSliceCompositeNode"):
            node = getattr(slicer, kind)()
            node.SetLayoutName(name)
            node.SetName(name)
            if kind == "vtkMRMLSliceNode":
                node.SetDimensions(200, 200, 1)
                node.SetFieldOfView(200.0, 200.0, 1.0)
                node.SetOrientation("Axial" if name == "Red" else "Sagittal")
            made[name, kind] = scene.AddNode(node)
    return made


def composites(views: dict[str, Any]) -> list[Any]:
    return [node for (_, kind), node in views.items() if kind == "vtkMRMLSliceCompositeNode"]


def at(node: Any) -> list[float]:
    """Where a slice view's centre lies."""
    matrix = slicer.util.arrayFromVTKMatrix(node.GetSliceToRAS())
    return [float(v) for v in matrix[:3, 3]]


# -- the Segment Editor ------------------------------------------------------------------------


def test_the_editor_has_settings_of_its_own_and_finds_them_again(
    correction: CorrectionLogic, scene: Any
) -> None:
    slicers = slicer.vtkMRMLSegmentEditorNode()
    slicers.SetSingletonTag("SegmentEditor")
    slicers = scene.AddNode(slicers)
    node = correction.editorNode()
    assert node is not slicers and correction.editorNode() is node
    scene.Clear(0)
    assert scene.IsNodePresent(correction.editorNode())


def test_the_segment_of_the_chosen_prompt_is_the_one_to_edit(
    correction: CorrectionLogic, logic: Any, add_volume: Any
) -> None:
    node = logic.segment(SegmentationRequest(add_volume(), ["spleen", "liver"])).segmentationNode
    node.GetSegmentation().AddEmptySegment("mine", "Cyst")
    assert correction.segmentToEdit(node, ["liver"]) == "liver"
    assert correction.segmentToEdit(node, ["spleen", "liver"]) == "spleen"
    # What the user has selected stays, if it answers a chosen prompt.
    assert correction.segmentToEdit(node, ["spleen", "liver"], "liver") == "liver"
    assert correction.segmentToEdit(node, ["spleen"], "liver") == "spleen"
    # A prompt without a segment says nothing.
    assert correction.segmentToEdit(node, ["aorta", "liver"]) == "liver"
    assert correction.segmentToEdit(node, ["aorta"], "mine") == "mine"
    assert correction.segmentToEdit(node, [], "gone") == "spleen"
    assert correction.segmentToEdit(None, ["liver"]) == ""


def test_reviewed_is_slicers_own_status_and_is_saved_with_the_segment(
    logic: Any, add_volume: Any, tmp_path: Path
) -> None:
    node = logic.segment(SegmentationRequest(add_volume(), ["liver", "spleen"])).segmentationNode
    liver = node.GetSegmentation().GetSegment("liver")
    assert not Segments.isReviewed(liver)
    Segments.setReviewed(liver, True)
    status = slicer.vtkSlicerSegmentationsModuleLogic
    assert status.GetSegmentStatus(liver) == status.Completed

    path = tmp_path / "reviewed.seg.nrrd"
    assert slicer.util.saveNode(node, str(path))
    loaded = slicer.util.loadSegmentation(str(path)).GetSegmentation()

    assert Segments.isReviewed(loaded.GetSegment("liver"))
    assert not Segments.isReviewed(loaded.GetSegment("spleen"))
    Segments.setReviewed(liver, False)
    assert status.GetSegmentStatus(liver) == status.InProgress


def test_segmenting_a_prompt_again_takes_its_mark_away(logic: Any, add_volume: Any) -> None:
    volume = add_volume()
    node = logic.segment(SegmentationRequest(volume, ["liver"])).segmentationNode
    Segments.setReviewed(node.GetSegmentation().GetSegment("liver"), True)
    logic.segment(SegmentationRequest(volume, ["liver"], segmentationNode=node))
    assert not Segments.isReviewed(node.GetSegmentation().GetSegment("liver"))


# -- the uncertainty over the scan -------------------------------------------------------------


def test_the_uncertainty_lies_over_all_views_and_what_was_there_comes_back(
    correction: CorrectionLogic, views: dict[str, Any], add_volume: Any
) -> None:
    doubt, other = add_volume(name="Doubt"), add_volume(name="PET")
    red, yellow = composites(views)
    red.SetForegroundVolumeID(other.GetID())
    red.SetForegroundOpacity(0.3)

    correction.showUncertainty(doubt)
    assert correction.isUncertaintyShown()
    assert {c.GetForegroundVolumeID() for c in (red, yellow)} == {doubt.GetID()}
    assert {c.GetForegroundOpacity() for c in (red, yellow)} == {0.5}
    # Once more, with another map: what was there before is not forgotten.
    correction.showUncertainty(add_volume(name="Doubt 2"))

    correction.hideUncertainty()
    assert not correction.isUncertaintyShown()
    assert red.GetForegroundVolumeID() == other.GetID()
    assert red.GetForegroundOpacity() == pytest.approx(0.3)
    assert yellow.GetForegroundVolumeID() is None


def test_what_the_user_has_put_into_a_view_meanwhile_stays(
    correction: CorrectionLogic, views: dict[str, Any], add_volume: Any
) -> None:
    doubt, before, chosen = (add_volume(name=name) for name in ("Doubt", "Before", "Chosen"))
    red, yellow = composites(views)
    for composite in (red, yellow):
        composite.SetForegroundVolumeID(before.GetID())
    correction.showUncertainty(doubt)
    red.SetForegroundVolumeID(chosen.GetID())
    slicer.mrmlScene.RemoveNode(before)
    correction.hideUncertainty()
    assert red.GetForegroundVolumeID() == chosen.GetID()
    assert yellow.GetForegroundVolumeID() is None


# -- doubtful places ---------------------------------------------------------------------------


def doubt(*boxes: tuple[Any, float]) -> np.ndarray:
    """(k, j, i): an uncertainty of 0.1 with boxes of others in it."""
    values = np.full((24, 60, 60), 0.1, np.float32)
    for part, value in boxes:
        values[part] = value
    return values


def test_regions_come_in_falling_order_of_their_doubt() -> None:
    places = findDoubtfulPlaces(
        doubt(
            (np.s_[4:8, 5:11, 5:11], 0.6),
            (np.s_[14:18, 30:36, 40:46], 0.95),
            (np.s_[4:8, 45:51, 5:11], 0.8),
            (np.s_[15:19, 5:15, 5:15], 0.45),
        ),
        (1.0, 1.0, 1.5),
    )
    assert len(places) == 3  # 0.45 is below the threshold.
    first, second, third = places
    assert first.uncertainty > second.uncertainty > third.uncertainty
    for place, (k, j, i) in zip(
        places, ((15.5, 32.5, 42.5), (5.5, 47.5, 7.5), (5.5, 7.5, 7.5)), strict=True
    ):
        assert np.abs(np.array(place.ijk) - (i, j, k)).max() <= 1
        assert place.volumeMl == pytest.approx(4 * 6 * 6 * 1.5 / 1000)


def test_a_thick_region_comes_before_the_thin_shell_of_a_structure() -> None:
    values = doubt((np.s_[4:20, 5:40, 5:40], 0.95))
    values[6:18, 7:38, 7:38] = 0.0  # A shell of two voxels, as around every structure.
    values[10:16, 46:54, 46:54] = 0.9
    first = findDoubtfulPlaces(values, (1.0, 1.0, 1.0))[0]
    assert np.abs(np.array(first.ijk) - (49.5, 49.5, 12.5)).max() <= 1


def test_a_long_region_has_several_places() -> None:
    places = findDoubtfulPlaces(doubt((np.s_[10:14, 28:33, 0:60], 0.9)), (1.0, 1.0, 1.0))
    columns = sorted(place.ijk[0] for place in places)
    assert 2 <= len(places) <= 5
    assert min(np.diff(columns)) > 14
    assert sum(place.volumeMl for place in places) == pytest.approx(4 * 5 * 60 / 1000)


def test_a_map_without_doubt_has_no_place_and_tiny_ones_do_not_break_it() -> None:
    assert findDoubtfulPlaces(doubt(), (1.0, 1.0, 1.0)) == []
    (place,) = findDoubtfulPlaces(doubt((np.s_[0, 0, 0], 0.9)), (0.5, 0.5, 5.0))
    assert place.ijk == (0, 0, 0)
    assert len(findDoubtfulPlaces(np.ones((2, 2, 2), np.float32), (1.0, 1.0, 1.0))) == 1


@pytest.fixture
def doubt_volume(add_volume: Any) -> Callable[..., Any]:
    def make(values: np.ndarray) -> Any:
        return add_volume(GRID, name="Doubt", values=values)

    return make


def test_next_place_moves_all_slice_views_there_in_the_world_and_says_when_none_is_left(
    correction: CorrectionLogic, views: dict[str, Any], doubt_volume: Any
) -> None:
    volume = doubt_volume(doubt((np.s_[4:8, 5:11, 5:11], 0.7), (np.s_[14:18, 30:36, 40:46], 0.95)))
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    turned = np.array([[0, -1.0, 0, 7], [1, 0, 0, -3], [0, 0, 1, 50], [0, 0, 0, 1]])
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(turned))
    volume.SetAndObserveTransformNodeID(transform.GetID())

    visited = []
    while (visit := correction.nextPlace(volume)) is not None:
        visited.append(visit)
        expected = turned @ GRID @ np.append(visit.place.ijk, 1.0)
        for name in ("Red", "Yellow"):
            assert at(views[name, "vtkMRMLSliceNode"]) == pytest.approx(expected[:3])

    assert [visit.number for visit in visited] == [1, 2]
    assert visited[0].place.ijk[0] > 30 > visited[1].place.ijk[0]
    assert visited[0].sentence.startswith("Doubtful place 1 of 2: 0.9 ml around R ")
    assert correction.noneLeft() == (
        "All 2 doubtful places have been visited; press again to begin anew with the worst."
    )
    again = correction.nextPlace(volume)
    assert again is not None and again.place == visited[0].place


def test_a_new_map_begins_with_its_own_worst_place(
    correction: CorrectionLogic, views: dict[str, Any], doubt_volume: Any
) -> None:
    volume = doubt_volume(doubt((np.s_[4:8, 5:11, 5:11], 0.7), (np.s_[14:18, 30:36, 40:46], 0.9)))
    correction.nextPlace(volume)
    array = slicer.util.arrayFromVolume(volume)
    array[:] = doubt((np.s_[10:14, 20:26, 20:26], 0.8))
    slicer.util.arrayFromVolumeModified(volume)
    visit = correction.nextPlace(volume)
    assert visit is not None
    assert (visit.number, visit.count) == (1, 1)
    assert correction.nextPlace(volume) is None
    assert correction.noneLeft().startswith("The doubtful place has been visited")


def test_where_there_is_no_doubt_that_is_said(
    correction: CorrectionLogic, doubt_volume: Any
) -> None:
    assert correction.nextPlace(doubt_volume(doubt())) is None
    assert correction.noneLeft().startswith("There is no doubtful place")
