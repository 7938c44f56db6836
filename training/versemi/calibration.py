"""Whether probabilities and uncertainty can be believed, measured near the structures.

Far from every structure a network is right and sure, which says nothing; so all of this counts
only voxels within ten millimetres of the surface of what was predicted.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import SimpleITK as sitk

from versemi.geometry import bounding_box
from versemi.tasks import get_task

if TYPE_CHECKING:
    from versemi.inference import Segmentation

BAND_MM = 10.0
BINS = 15
MOST_UNCERTAIN = 0.05
_FOUND = ("errors_found", "errors_found_by_entropy", "errors_findable")
RULE = (
    f"Over voxels within {BAND_MM:g} mm of the surface of the prediction. Expected calibration"
    f" error: mean over {BINS} bins of probability, weighted by their voxels, of the difference"
    " between mean probability and share of voxels that are the structure; of the probability after"
    " clean-up, over the voxels of all scans. Errors found: share of the wrongly labelled voxels"
    f" that lie among the {MOST_UNCERTAIN:.0%} most uncertain ones, of the uncertainty map and of"
    " the plain entropy of the most probable asked prompt; the mean over the scans that have a"
    " wrong voxel there. Where more voxels are wrong than that, no map can find all: at most is"
    " what one would find that knew the errors."
)


def expected_calibration_error(probability: np.ndarray, truth: np.ndarray) -> float:
    """Expected calibration error of a probability of presence.

    Guo et al., *On calibration of modern neural networks*, ICML 2017, section 2, for one class
    against the rest.

    Args:
        probability: 0..1, any shape.
        truth: bool, same shape.
    """
    return _error_of(bin_counts(probability, truth))


def bin_counts(probability: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Voxels, sum of probability and number of true voxels in each bin, ``(3, BINS)``."""
    place = np.minimum((probability.ravel() * BINS).astype(int), BINS - 1)
    return np.stack(
        [
            np.bincount(place, weights=weights, minlength=BINS)
            for weights in (None, probability.ravel(), truth.ravel().astype(float))
        ]
    ).astype(float)


def errors_found(uncertainty: np.ndarray, wrong: np.ndarray) -> float | None:
    """Share of the wrong voxels among the most uncertain ones; None where nothing is wrong.

    Args:
        uncertainty: any shape. Of voxels that are as uncertain as the last one that counts, the
            share that there is still room for counts.
        wrong: bool, same shape.
    """
    if not wrong.any():
        return None
    count = _most_uncertain(wrong)
    least = np.partition(uncertainty.ravel(), wrong.size - count)[wrong.size - count]
    above, ties = uncertainty > least, uncertainty == least
    room = (count - above.sum()) / ties.sum()
    return float((wrong[above].sum() + room * wrong[ties].sum()) / wrong.sum())


def errors_findable(wrong: np.ndarray) -> float:
    """The most that :func:`errors_found` can be.

    Args:
        wrong: bool, any shape, with at least one true voxel.
    """
    return float(min(1.0, _most_uncertain(wrong) / wrong.sum()))


def _most_uncertain(voxels: np.ndarray) -> int:
    return max(1, int(round(MOST_UNCERTAIN * voxels.size)))


class Calibration:
    """Collects over cases.

    Args:
        labels: for each prompt its value in the reference.
    """

    def __init__(self, labels: Mapping[str, int]) -> None:
        self.labels = dict(labels)
        self._bins = {prompt: np.zeros((3, BINS)) for prompt in labels}
        self._found: list[tuple[float, float, float]] = []

    def add(self, result: Segmentation, reference: np.ndarray) -> None:
        """Count one case.

        Args:
            result: of segmenting all prompts at once.
            reference: label values ``(z, y, x)`` on the scan's grid.
        """
        predicted = sitk.GetArrayViewFromImage(result.label_map)
        band = np.zeros(predicted.shape, dtype=bool)
        wrong = np.zeros(predicted.shape, dtype=bool)
        for prompt, value in self.labels.items():
            found, there = predicted == get_task(prompt).label, reference == value
            wrong |= found != there
            if found.any():
                probability = sitk.GetArrayFromImage(result.probability(prompt))
                near = near_surface(found, result.label_map.GetSpacing())
                band |= near
                self._bins[prompt] += bin_counts(probability[near], there[near])
        if band.any():
            ours, plain = (
                errors_found(sitk.GetArrayFromImage(doubt)[band], wrong[band])
                for doubt in (result.uncertainty(), result.entropy())
            )
            if ours is not None and plain is not None:
                self._found.append((ours, plain, errors_findable(wrong[band])))

    def report(self) -> dict[str, Any]:
        """Plain data: ``ece`` by prompt, and what the most uncertain voxels contain.

        That is ``errors_found``, ``errors_found_by_entropy`` and ``errors_findable``.
        """
        means = [float(m) for m in np.mean(self._found, axis=0)] if self._found else [None] * 3
        return {
            "ece": {
                prompt: _error_of(bins) if bins[0].any() else None
                for prompt, bins in self._bins.items()
            },
            **dict(zip(_FOUND, means, strict=True)),
            "rule": RULE,
        }


def near_surface(mask: np.ndarray, spacing: tuple[float, float, float]) -> np.ndarray:
    """Voxels within :data:`BAND_MM` of a mask's surface, bool ``(z, y, x)``.

    Args:
        mask: bool ``(z, y, x)``, not empty.
        spacing: mm, ``(x, y, z)``.
    """
    place = bounding_box(mask, [int(np.ceil(BAND_MM / s)) + 1 for s in reversed(spacing)])
    assert place is not None
    part = sitk.GetImageFromArray(np.pad(mask[place], 1).astype(np.uint8))
    part.SetSpacing(spacing)
    distance = sitk.SignedMaurerDistanceMap(part, squaredDistance=False, useImageSpacing=True)
    near = np.zeros(mask.shape, dtype=bool)
    near[place] = np.abs(sitk.GetArrayViewFromImage(distance)[1:-1, 1:-1, 1:-1]) <= BAND_MM
    return near


def _error_of(bins: np.ndarray) -> float:
    count, probability, true = bins
    return float(np.abs(probability - true).sum() / count.sum())
