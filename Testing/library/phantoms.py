"""Small scans and label maps, each a function of a number."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import SimpleITK as sitk

from versemi.tasks import TASKS

SHAPE = (5, 6, 7)


def image(values: np.ndarray, like: sitk.Image | None = None) -> sitk.Image:
    """An image of (D, H, W) values; oblique to nothing, but with spacing and origin of its own."""
    made = sitk.GetImageFromArray(values)
    if like is not None:
        made.CopyInformation(like)
    else:
        made.SetSpacing((0.9, 1.1, 2.5))
        made.SetOrigin((-12.34, 56.78, -901.2))
    return made


def ct(number: int) -> sitk.Image:
    """Values of a CT, air and fat included."""
    values = np.random.default_rng(number).integers(-1000, 400, SHAPE)
    return image(values.astype(np.int16))


def mr(number: int) -> sitk.Image:
    """Values of an MR scan."""
    return image(np.random.default_rng(number).uniform(0, 900, SHAPE).astype(np.float32))


def labels(scan: sitk.Image, **planes: Sequence[int]) -> sitk.Image:
    """A label map that gives whole slices to prompts: ``labels(scan, spleen=[0, 1])``."""
    values = np.zeros(sitk.GetArrayViewFromImage(scan).shape, np.uint8)
    for prompt, slices in planes.items():
        values[list(slices)] = TASKS[prompt].label
    return image(values, scan)


def planes(label_map: sitk.Image) -> list[int]:
    """The value of each slice, where each slice has one."""
    values = sitk.GetArrayFromImage(label_map)
    assert all(len(np.unique(plane)) == 1 for plane in values)
    return [int(plane.flat[0]) for plane in values]
