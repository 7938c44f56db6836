"""The demo's pictures: sides, planes and the 3D view without a graphics library."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from picture import Found, Scene, draw
from slices import PIXEL_MM, VIEWS, best_position, cut, ras_bounds
from surfaces import Camera, Surface, render

# Left-handed and anisotropic: i runs to the left, j to the front, k up.
IJK_TO_RAS = np.array([[-2.0, 0, 0, 10], [0, 3.0, 0, -20], [0, 0, 4.0, 5], [0, 0, 0, 1]])
SHAPE = (6, 8, 10)
AXIAL, CORONAL, SAGITTAL = VIEWS


def _cut(view, image, labels):
    bounds = ras_bounds(IJK_TO_RAS, np.zeros(3), np.array(SHAPE)[::-1] - 1.0)
    position = best_position(labels, IJK_TO_RAS, view.normal)
    return cut(view, position, bounds, image, labels, np.linalg.inv(IJK_TO_RAS))


@pytest.mark.parametrize("view", [AXIAL, CORONAL], ids=lambda v: v.name)
def test_the_patients_right_is_on_the_left_of_the_picture(view):
    image = np.zeros(SHAPE)
    image[:, :, 0] = 100.0  # i = 0 is the largest R
    plane = _cut(view, image, np.zeros(SHAPE, np.uint8))
    assert view.sides[0] == "R"
    assert plane.image[:, 0].min() > 60
    assert plane.image[:, -1].max() < 20
    assert plane.extent[0] > plane.extent[1]


def test_the_patients_front_is_on_the_left_of_a_sagittal_picture():
    image = np.zeros(SHAPE)
    image[:, -1, :] = 100.0  # the largest j is the largest A
    plane = _cut(SAGITTAL, image, np.zeros(SHAPE, np.uint8))
    assert SAGITTAL.sides[0] == "A"
    assert plane.image[:, 0].min() > 60
    assert plane.image[:, -1].max() < 20


def test_the_head_is_up():
    image = np.zeros(SHAPE)
    image[-1] = 100.0
    plane = _cut(CORONAL, image, np.zeros(SHAPE, np.uint8))
    assert plane.image[-1].min() > 80  # rows run from the bottom up
    assert plane.image[0].max() < 20


def test_a_plane_goes_through_what_was_found_and_shows_its_share():
    labels = np.zeros(SHAPE, np.uint8)
    labels[2:5, 3:6, 4:7] = 7
    plane = _cut(AXIAL, np.zeros(SHAPE), labels)
    assert 5 + 2 * 4 <= plane.position <= 5 + 4 * 4
    assert set(plane.shares) == {7}
    area = (plane.shares[7] > 0.5).sum() * PIXEL_MM**2
    assert area == pytest.approx(3 * 2 * 3 * 3, rel=0.2)


def test_outside_the_scan_there_is_nothing():
    bounds = np.array([[-30.0, -40.0, 0.0], [30.0, 20.0, 30.0]])
    image = np.ones(SHAPE)
    plane = cut(AXIAL, 10.0, bounds, image, np.zeros(SHAPE, np.uint8), np.linalg.inv(IJK_TO_RAS))
    assert np.isnan(plane.image[0, 0])
    assert np.nanmax(plane.image) == 1.0


def _square(depth: float, half: float, color: tuple[float, float, float], opacity: float = 1.0):
    """A square that faces anterior, at A = `depth`."""
    points = np.array(
        [[-half, depth, -half], [half, depth, -half], [half, depth, half], [-half, depth, half]]
    )
    triangles = np.array([[0, 1, 2], [0, 2, 3]])
    return Surface(points, np.tile([0.0, 1.0, 0.0], (4, 1)), triangles, color, opacity)


def test_the_nearer_surface_hides_the_farther_one_in_any_order():
    near, far = _square(10, 10, (1, 0, 0)), _square(0, 20, (0, 0, 1))
    camera = Camera((0.0, 1.0, 0.0))
    for surfaces in ([near, far], [far, near]):
        picture = render(surfaces, camera, (0, 0, 0), (60, 60))
        middle, side = picture[30, 30], picture[30, 8]
        assert middle[0] > middle[2]
        assert side[2] > side[0]


def test_a_surface_has_no_holes():
    picture = render([_square(0, 20, (1, 1, 1))], Camera((0.3, 1.0, 0.2)), (0, 0, 0), (90, 90))
    drawn = picture.sum(axis=2) > 0.1
    rows = np.flatnonzero(drawn.any(axis=1))
    for row in rows[2:-2]:
        there = np.flatnonzero(drawn[row])
        assert len(there) == there[-1] - there[0] + 1


def test_a_translucent_surface_lets_what_is_behind_it_through():
    veil, behind = _square(10, 20, (0, 0, 1), 0.3), _square(0, 10, (1, 0, 0))
    picture = render([veil, behind], Camera((0.0, 1.0, 0.0)), (0, 0, 0), (60, 60))
    assert picture[30, 30, 0] > 0.3
    assert picture[30, 30, 2] > 0.1


def test_from_the_front_the_patients_right_is_on_the_left():
    right = _square(0, 5, (1, 0, 0))
    right = Surface(right.points + [20, 0, 0], right.normals, right.triangles, right.color)
    left = _square(0, 5, (0, 1, 0))
    picture = render([right, left], Camera((0.0, 1.0, 0.0)), (0, 0, 0), (60, 60))
    assert picture[:, :30, 0].sum() > picture[:, 30:, 0].sum()


@pytest.mark.parametrize("something_found", [True, False])
def test_a_picture_is_drawn_with_and_without_a_result(something_found: bool, tmp_path: Path):
    image = np.random.default_rng(0).normal(100, 20, SHAPE)
    labels = np.zeros(SHAPE, np.uint8)
    if something_found:
        labels[2:5, 3:6, 4:7] = 7
    scene = Scene(
        title="A title",
        subtitle="What is below it",
        image=image,
        labels=labels,
        ijk_to_ras=IJK_TO_RAS,
        window=(0.0, 200.0),
        found=[Found("Left kidney", 7, (0.9, 0.5, 0.4), 0.6, 0.91 if something_found else None)],
        surfaces=[_square(0, 10, (1, 0, 0))] if something_found else [],
        camera=Camera((0.0, 1.0, 0.0)),
        roi=np.array([[-8.0, -15.0, 6.0], [8.0, 0.0, 24.0]]),
    )
    draw(scene, tmp_path / "made" / "picture.png")
    picture = imread(tmp_path / "made" / "picture.png")
    assert picture.shape[0] > 800
    assert picture[..., :3].std() > 0.05
