"""Regions and grids."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from versemi.errors import InputError
from versemi.geometry import Grid, Header, Roi, image_corners


def test_a_region_given_by_bounds_holds_its_middle_and_not_its_outside():
    roi = Roi.from_bounds((-45, -12, -48, -2, -32, 6))
    inside_lps = np.array([28.0, 25.0, -10.0])
    assert roi.contains_lps(inside_lps)
    assert not roi.contains_lps(inside_lps * [-1, 1, 1])


def test_a_turned_region_has_its_corners_on_its_own_axes():
    s = np.sqrt(0.5)
    roi = Roi((10.0, 0.0, 0.0), ((s, s, 0.0), (-s, s, 0.0), (0.0, 0.0, 1.0)), (2.0, 2.0, 4.0))
    corners = roi.corners_lps()
    assert corners[:, 0].max() == pytest.approx(-10 + np.sqrt(2))
    assert roi.contains_lps(corners * 0.999 + np.array([-10.0, 0, 0]) * 0.001).all()
    assert Roi.from_json(roi.to_json()) == roi


@pytest.mark.parametrize(
    ("bounds", "words"),
    [((0, 0, 0, 1, 0, 1), "empty"), ((5, 1, 0, 1, 0, 1), "empty"), ((0, 1, 0, 1), "six numbers")],
)
def test_an_empty_or_incomplete_region_is_refused(bounds, words):
    with pytest.raises(InputError, match=words):
        Roi.from_bounds(bounds)


def test_a_region_with_a_missing_or_infinite_number_is_refused():
    with pytest.raises(InputError, match="'size'"):
        Roi.from_json({"center": [0, 0, 0], "axes": [[1, 0, 0], [0, 1, 0], [0, 0, 1]]})
    with pytest.raises(InputError, match="finite"):
        Roi.from_bounds((0, float("inf"), 0, 1, 0, 1))


def test_a_sheared_region_is_refused():
    with pytest.raises(InputError, match="perpendicular"):
        Roi((0, 0, 0), ((1, 0, 0), (0.7, 0.7, 0), (0, 0, 1)), (1, 1, 1))


@settings(max_examples=40, deadline=None)
@given(
    low=st.tuples(*[st.floats(-300, 300)] * 3),
    extent=st.tuples(*[st.floats(1, 400)] * 3),
    spacing=st.tuples(*[st.floats(0.5, 5)] * 3),
)
def test_a_grid_covers_its_box_and_hardly_more(low, extent, spacing):
    corners = np.array([low, np.add(low, extent)])
    grid = Grid.covering(corners, spacing)
    got = grid.corners()
    assert (got.min(axis=0) <= corners[0] + 1e-3 * np.array(spacing)).all()
    assert (got.max(axis=0) >= corners[1] - 1e-3 * np.array(spacing)).all()
    assert (np.ptp(got, axis=0) < np.array(extent) + 1.01 * np.array(spacing)).all()


def test_the_corners_of_a_left_handed_oblique_image_are_where_its_voxels_are():
    image = sitk.Image([4, 6, 8], sitk.sitkUInt8)
    image.SetSpacing([1.0, 2.0, 3.0])
    image.SetOrigin([5.0, -7.0, 11.0])
    c, s = np.cos(0.3), np.sin(0.3)
    image.SetDirection([c, -s, 0, s, c, 0, 0, 0, -1])
    corners = image_corners(image)
    first = image.TransformContinuousIndexToPhysicalPoint([-0.5, -0.5, -0.5])
    last = image.TransformContinuousIndexToPhysicalPoint([3.5, 5.5, 7.5])
    assert np.allclose(corners[0], first)
    assert np.allclose(corners[-1], last)
    assert np.allclose(Header.of(image).index_to_lps[:3, 3], [5, -7, 11])
