"""Where the lungs are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk

from versemi.geometry import Grid, Roi
from versemi.inference import Segmenter
from versemi.inference.lungs import lung_region
from versemi.modelpack import ModelPack

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


def region(array):
    grid = Grid((0.0, 0.0, 0.0), (SPACING,) * 3, array.shape[::-1])
    return lung_region(array, grid, air=-0.98, margin=12.0)


def test_the_box_holds_the_lungs_and_a_margin_and_no_belly():
    z, y, x = region(body(gas=True))
    assert 64 <= z.start <= 68 and 112 <= z.stop <= 116
    assert y.start <= 18 - 4 and y.stop >= 61 + 4
    assert x.start == 17 - 4 and x.stop == 93 + 4


def test_lungs_that_the_scan_cuts_off_above_are_found():
    z, _, _ = region(body(lungs=slice(80, 160)))
    assert 74 <= z.start <= 78 and z.stop == 120


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


def test_a_prompt_of_the_lungs_is_answered_in_them_alone_unless_a_region_says_otherwise(tiny_pack):
    pack = ModelPack.load(tiny_pack)
    group = replace(pack.manifest.groups["ct_fine"], within="lungs", spacing=(6.0, 6.0, 6.0))
    pack = replace(
        pack, manifest=replace(pack.manifest, groups={**pack.manifest.groups, "ct_fine": group})
    )
    scan = sitk.GetImageFromArray(np.where(body() == AIR, -900, 40).astype(np.int16))
    scan.SetSpacing((SPACING,) * 3)
    scan.SetOrigin((7.0, -11.0, 13.0))

    def looked_at(**options) -> np.ndarray:
        search = options.pop("search", True)
        result = Segmenter(pack, "cpu", search=search).segment(scan, ["lung_tumour"], **options)
        seen = sitk.GetArrayFromImage(result.probability("lung_tumour")) > 0
        return np.flatnonzero(seen.any(axis=(1, 2)))[[0, -1]]

    low, high = looked_at()
    assert 58 <= low <= 68 and high >= 112
    assert looked_at(search=False)[0] < 5
    belly = Roi.from_bounds((-340.0, 0.0, -240.0, 20.0, 13.0 + 30, 13.0 + 120))  # planes 10 to 40
    assert looked_at(roi=belly)[1] <= 41
