"""Label maps on their way into a library: checked, brought to the scan's grid, merged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from versemi.errors import InputError
from versemi.images import same_grid
from versemi.tasks import FOREGROUND, Task


def check_label_map(
    labels: sitk.Image, image: sitk.Image, tasks: Mapping[str, Task], what: str
) -> set[int]:
    """Check that a label map lies on its scan's grid and says only what some prompt means.

    Args:
        labels: the label map; whole numbers, of whatever type.
        image: its scan.
        tasks: all prompts that there are.
        what: how messages call it.

    Returns:
        The values that occur, without 0.

    Raises:
        InputError: another grid, several values a voxel, fractions, or a value of no prompt.
    """
    if labels.GetNumberOfComponentsPerPixel() > 1:
        raise InputError(
            f"{what} has {labels.GetNumberOfComponentsPerPixel()} values a voxel, as segments that"
            " overlap have; give each voxel one value."
        )
    if not same_grid(labels, image):
        raise InputError(
            f"{what} ({_describe(labels)}) does not lie on the grid of its scan"
            f" ({_describe(image)}); export it with the scan as reference geometry."
        )
    values: set[float] = set()
    for plane in sitk.GetArrayViewFromImage(labels):
        values.update(np.unique(plane).tolist())
    known = {task.label for task in tasks.values() if task.id != FOREGROUND}
    strange = sorted(values - known - {0})
    if strange:
        listed = ", ".join(f"{value:g}" for value in strange[:5]) + ", ..." * (len(strange) > 5)
        raise InputError(
            f"{what} has values that belong to no prompt ({listed}); each voxel must be 0 or the"
            " label value of a prompt ('versemi tasks' lists them)."
        )
    return {int(value) for value in values if value}


def check_reviewed(values: set[int], reviewed: Sequence[Task], tasks: Mapping[str, Task]) -> None:
    """Check that a label map holds nothing beside the prompts that it covers.

    Raises:
        InputError: it does; what was not reviewed must not look as if it was.
    """
    more = values - {task.label for task in reviewed}
    if more:
        names = ", ".join(task.id for task in tasks.values() if task.label in more)
        raise InputError(
            f"The label map holds {names}, beside the prompts that it is said to cover"
            f" ({', '.join(task.id for task in reviewed)}); say that it covers these as well, or"
            " set their voxels to 0."
        )


def whole_numbers(labels: sitk.Image) -> sitk.Image:
    """The same label map in the smallest unsigned type that holds it."""
    view = sitk.GetArrayViewFromImage(labels)
    small = view.size == 0 or int(view.max()) <= np.iinfo(np.uint8).max
    wanted = sitk.sitkUInt8 if small else sitk.sitkUInt16
    return labels if labels.GetPixelID() == wanted else sitk.Cast(labels, wanted)


def on_stored_grid(labels: sitk.Image, scan: Path) -> sitk.Image:
    """A label map on the grid of the library's own copy of its scan.

    Both have the same voxels in the same places, but the axes of the scan may have been flipped
    or exchanged since it was added.
    """
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(scan))
    reader.ReadImageInformation()
    resampler = sitk.ResampleImageFilter()
    resampler.SetSize(reader.GetSize())
    resampler.SetOutputSpacing(reader.GetSpacing())
    resampler.SetOutputOrigin(reader.GetOrigin())
    resampler.SetOutputDirection(reader.GetDirection())
    resampler.SetInterpolator(sitk.sitkNearestNeighbor)
    return resampler.Execute(labels)


def merge(previous: sitk.Image, correction: sitk.Image, reviewed: Sequence[Task]) -> sitk.Image:
    """Put a correction over an earlier label map of the same scan.

    Prompts that the correction covers are as it says; all others stay as they were, but for the
    voxels that the correction gives to another prompt.

    Args:
        previous: whole numbers.
        correction: whole numbers, on the same grid.
        reviewed: the prompts that the correction covers.
    """
    new = sitk.GetArrayViewFromImage(correction)
    old = sitk.GetArrayFromImage(previous)
    old[np.isin(old, [task.label for task in reviewed])] = 0
    merged = sitk.GetImageFromArray(np.where(new != 0, new, old))
    merged.CopyInformation(previous)
    return merged


def holds(labels: sitk.Image, prompts: Sequence[Task]) -> bool:
    """Whether any voxel belongs to one of these prompts."""
    values = [task.label for task in prompts]
    return any(bool(np.isin(p, values).any()) for p in sitk.GetArrayViewFromImage(labels))


def equal(first: sitk.Image, second: sitk.Image) -> bool:
    """Whether two label maps on one grid say the same."""
    planes = zip(sitk.GetArrayViewFromImage(first), sitk.GetArrayViewFromImage(second), strict=True)
    return all(np.array_equal(one, other) for one, other in planes)


def _describe(image: sitk.Image) -> str:
    size = " x ".join(str(n) for n in image.GetSize())
    spacing = " x ".join(f"{s:g}" for s in image.GetSpacing())
    origin = ", ".join(f"{o:g}" for o in image.GetOrigin())
    return f"{size} voxels of {spacing} mm at {origin}"
