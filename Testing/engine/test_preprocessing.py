"""From scan to network and back."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from versemi.errors import PackError
from versemi.geometry import Grid, Header, image_corners
from versemi.preprocessing import (
    DEFAULT_GROUPS,
    GroupSettings,
    intensity_limits,
    normalise,
    prepare,
    prepare_labels,
    resample_back,
    resample_to,
)


def linear_image(size, spacing, direction=None, origin=(0.0, 0.0, 0.0)):
    """An image whose value is a linear function of the place in the world."""
    image = sitk.Image(list(size), sitk.sitkFloat32)
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    if direction is not None:
        image.SetDirection(direction)
    z, y, x = np.meshgrid(*(np.arange(n) for n in reversed(size)), indexing="ij")
    matrix = Header.of(image).index_to_lps
    world = np.stack([x, y, z], axis=-1) @ matrix[:3, :3].T + matrix[:3, 3]
    filled = sitk.GetImageFromArray((world @ [1.0, 10.0, 100.0]).astype(np.float32))
    filled.CopyInformation(image)
    return filled


C, S = float(np.cos(0.4)), float(np.sin(0.4))


@pytest.mark.parametrize(
    "direction",
    [
        (1, 0, 0, 0, 1, 0, 0, 0, 1),
        (-1, 0, 0, 0, -1, 0, 0, 0, 1),
        (1, 0, 0, 0, 1, 0, 0, 0, -1),  # left-handed
        (0, 0, 1, 1, 0, 0, 0, 1, 0),  # sagittal slices
        (C, -S, 0, S, C, 0, 0, 0, 1),  # oblique
    ],
    ids=["lps", "ras", "left-handed", "sagittal", "oblique"],
)
def test_values_stay_at_their_place_in_the_world_whatever_the_orientation(direction):
    image = linear_image((24, 20, 16), (1.5, 1.5, 2.5), direction, origin=(3.0, -4.0, 5.0))
    grid = Grid.covering(image_corners(image), (2.0, 2.0, 3.0))
    values = resample_to(image, grid, outside=-1e6)
    expected = sitk.GetArrayFromImage(linear_image(grid.size, grid.spacing, origin=grid.origin))
    # Half a voxel at the scan's border repeats its last value; compare well inside.
    inner = sitk.GetImageFromArray(np.pad(values > -1e5, 1).astype(np.uint8))
    eroded = sitk.GetArrayFromImage(sitk.BinaryErode(inner, [2, 2, 2]))[1:-1, 1:-1, 1:-1] > 0
    assert eroded.sum() > 100
    assert np.abs(values - expected)[eroded].max() < 0.05


def test_there_and_back_again_leaves_a_smooth_image_as_it_was():
    image = linear_image((40, 40, 24), (0.8, 0.8, 2.0))
    grid = Grid.covering(image_corners(image), (1.6, 1.6, 2.0))
    back = resample_back(resample_to(image, grid, 0.0), grid, Header.of(image))
    inner = (slice(2, -2),) * 3
    assert np.abs(back - sitk.GetArrayFromImage(image))[inner].max() < 0.05


def test_a_finer_scan_is_averaged_and_not_sampled():
    rng = np.random.default_rng(0)
    noise = sitk.GetImageFromArray(rng.normal(size=(32, 64, 64)).astype(np.float32))
    noise.SetSpacing([0.5, 0.5, 1.0])
    grid = Grid.covering(image_corners(noise), (2.0, 2.0, 2.0))
    assert resample_to(noise, grid, 0.0).std() < 0.4


def test_intensities_lie_between_minus_one_and_one_and_air_is_minus_one():
    image = sitk.GetImageFromArray(np.array([[[-1000, -125, 75, 275, 3000]]], dtype=np.int16))
    settings = DEFAULT_GROUPS["ct"]
    limits = intensity_limits(image, settings)
    values = normalise(sitk.GetArrayFromImage(image), limits)
    assert values.ravel().tolist() == [-1.0, -1.0, 0.0, 1.0, 1.0]


def test_a_metal_clip_does_not_bleed_into_its_neighbours():
    array = np.zeros((4, 8, 8), dtype=np.int16)
    array[:, 4, 4] = 3000
    image = sitk.GetImageFromArray(array)
    image.SetSpacing([1.0, 1.0, 3.0])
    grid = Grid.covering(image_corners(image), (2.0, 2.0, 3.0))
    # Averaged over four voxels, a clipped clip counts 275 / 4 and an unclipped one 3000 / 4.
    expected = normalise(np.array([275 / 4]), (-125.0, 275.0))[0]
    assert prepare(image, grid, (-125.0, 275.0)).max() == pytest.approx(expected, abs=0.01)


def test_percentiles_of_mr_leave_out_the_black_around_the_head():
    array = np.zeros((20, 20, 20), dtype=np.float32)
    array[5:15, 5:15, 5:15] = np.linspace(100, 200, 1000).reshape(10, 10, 10)
    limits = intensity_limits(sitk.GetImageFromArray(array), DEFAULT_GROUPS["t1_mr"])
    assert limits == pytest.approx((101, 199), abs=0.5)


def test_labels_of_thin_slices_keep_their_volume_and_touch_without_a_gap():
    array = np.zeros((6, 30, 30), dtype=np.uint8)
    array[1:5, 5:15, 5:25] = 3
    array[1:5, 15:25, 5:25] = 7
    image = sitk.GetImageFromArray(array)
    image.SetSpacing([1.0, 1.0, 5.0])
    grid = Grid.covering(image_corners(image), (1.0, 1.0, 2.0))
    labels = prepare_labels(image, grid)
    volume = (labels == 3).sum() * 2.0
    assert volume == pytest.approx((array == 3).sum() * 5.0, rel=0.1)
    middle = labels[grid.shape[0] // 2]
    assert set(np.unique(middle[8:22, 10:20])) == {3, 7}


@pytest.mark.parametrize(
    "change",
    [{"spacing": [0, 1, 1]}, {"limits": [5, 1]}, {"normalisation": "magic"}, {"window": [64]}],
)
def test_settings_that_make_no_sense_are_refused(change):
    data = {**DEFAULT_GROUPS["ct"].to_json(), **change}
    with pytest.raises(PackError):
        GroupSettings.from_json(data)


def test_settings_survive_a_manifest():
    for group in DEFAULT_GROUPS.values():
        assert GroupSettings.from_json(group.to_json()) == group
