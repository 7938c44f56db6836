"""Where the lungs are."""

from __future__ import annotations

import numpy as np
import pytest

from versemi.geometry import Grid
from versemi.inference.lungs import lung_region

SPACING = 3.0
AIR, TISSUE = -1.0, -0.2


def body(shape=(120, 80, 110), lungs=slice(70, 110), gas=False):
    """A body with air around it, two lungs above and perhaps gas below, ``(z, y, x)``."""
    z, y, x = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")

    def ball(centre, half):
        c, h = np.array(centre), np.array(half)
        return sum(((a - b) / d) ** 2 for a, b, d in zip((z, y, x), c, h, strict=True)) < 1

    array = np.full(shape, AIR, dtype=np.float32)
    middle = (shape[1] / 2 - 0.5, shape[2] / 2 - 0.5)
    array[ball((60, *middle), (1e6, shape[1] / 2, shape[2] / 2))] = TISSUE
    if lungs is not None:
        centre, half = (lungs.start + lungs.stop) / 2, (lungs.stop - lungs.start) / 2
        for side in (-22, 22):
            array[ball((centre, middle[0], middle[1] + side), (half, 22, 16))] = AIR
    if gas:
        array[ball((25, *middle), (5, 7, 7))] = AIR
    return array


def region(array, spacing=SPACING):
    grid = Grid((0.0, 0.0, 0.0), (spacing,) * 3, array.shape[::-1])
    return lung_region(array, grid, air=-0.98, margin=12.0)


def test_the_box_holds_the_lungs_and_a_margin_and_no_belly():
    z, y, x = region(body(gas=True))
    assert 60 <= z.start <= 66 and 114 <= z.stop <= 120
    assert y.start <= 18 - 4 and y.stop >= 61 + 4
    assert x.start <= 16 - 4 and x.stop >= 93 + 4


def test_lungs_that_the_scan_cuts_off_above_are_found():
    z, _, _ = region(body(lungs=slice(80, 160)))
    assert 70 <= z.start <= 76 and z.stop == 120


@pytest.mark.parametrize(
    "array",
    [
        body(lungs=None, gas=True),
        body()[:, 25:55, 25:85],
        np.pad(body()[:, 10:70, 10:100], 0),
    ],
    ids=["no lungs", "a crop", "a chest without its skin"],
)
def test_where_the_scan_does_not_tell_everything_is_looked_at(array):
    assert region(array) is None


def test_a_finer_grid_gives_the_same_box_in_millimetres():
    coarse = region(body())
    fine = region(body().repeat(2, 0).repeat(2, 1).repeat(2, 2), SPACING / 2)
    for a, b in zip(coarse, fine, strict=True):
        assert abs(2 * a.start - b.start) <= 8 and abs(2 * a.stop - b.stop) <= 8
