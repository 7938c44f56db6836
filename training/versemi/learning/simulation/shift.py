"""A scan as another scanner might have made it: other contrast, less resolution, more noise.

Each scan draws its own strength from the settings' ranges, by its name alone, so that the same
scan is shifted in the same way on every machine and in every run.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from versemi.evaluation import LabelledCase
from versemi.export import write_volume
from versemi.images import read_image

_SUFFIX = ".nii.gz"
#: Percentiles of a scan's voxels above its minimum that become the grey levels 0 and 1.
_LIMITS = (1.0, 99.5)
#: Full width at half maximum of a Gaussian, in standard deviations.
_WIDTH = 2.3548


@dataclass(frozen=True)
class Shift:
    """How far scans are shifted.

    Attributes:
        gamma: range of the exponent of the grey levels.
        fold: range of the grey level from which on the contrast is inverted: what exceeds it by d
            comes to lie d below it.
        spacing: mm, ``(x, y, z)``, that can still be told apart.
        noise: range of the standard deviation of the noise, in grey levels.
    """

    gamma: tuple[float, float]
    fold: tuple[float, float]
    spacing: tuple[float, float, float]
    noise: tuple[float, float]

    @classmethod
    def from_settings(cls, data: Mapping[str, Any]) -> Shift:
        """Read from ``simulation.yaml``.

        Raises:
            KeyError, TypeError, ValueError: a value is missing or is no number.
        """
        low_high = {key: tuple(map(float, data[key])) for key in ("gamma", "fold", "noise")}
        x, y, z = map(float, data["spacing"])
        if any(len(pair) != 2 or pair[0] > pair[1] for pair in low_high.values()):
            raise ValueError(f"the ranges of the shift are {low_high}")
        return cls(spacing=(x, y, z), **low_high)  # type: ignore[arg-type]

    def applied(self, image: sitk.Image, name: str, seed: int) -> sitk.Image:
        """The shifted scan, on the scan's grid and with its type of number.

        Args:
            image: 3D, one value a voxel, with more than one value.
            name: of the case.
            seed: of all chance, together with the name.
        """
        chance = np.random.default_rng([seed, zlib.crc32(name.encode())])
        gamma, fold, noise = (chance.uniform(*pair) for pair in (self.gamma, self.fold, self.noise))
        values = sitk.GetArrayFromImage(image).astype(np.float64)
        low, high = np.percentile(values[values > values.min()], _LIMITS)
        grey = np.clip((values - low) / (high - low), 0, 1) ** gamma
        grey = np.where(grey > fold, 2 * fold - grey, grey)
        grey = self._blurred(grey, image)
        grey = np.clip(grey + chance.normal(0, noise, grey.shape), 0, 1)
        shifted = low + grey * (high - low)
        kind = sitk.GetArrayViewFromImage(image).dtype
        if np.issubdtype(kind, np.integer):
            shifted = np.rint(shifted)
        result = sitk.GetImageFromArray(shifted.astype(kind))
        result.CopyInformation(image)
        return result

    def _blurred(self, grey: np.ndarray, image: sitk.Image) -> np.ndarray:
        """Grey levels ``(z, y, x)`` through a Gaussian as wide as `spacing`, where that is more."""
        blurred = sitk.GetImageFromArray(grey)
        blurred.CopyInformation(image)
        for axis, (wanted, there) in enumerate(zip(self.spacing, image.GetSpacing(), strict=True)):
            if wanted > there:
                gaussian = sitk.RecursiveGaussianImageFilter()
                gaussian.SetDirection(axis)
                gaussian.SetSigma(float(np.sqrt(wanted**2 - there**2)) / _WIDTH)
                blurred = gaussian.Execute(blurred)
        return np.asarray(sitk.GetArrayFromImage(blurred), dtype=np.float64)


def shifted_cases(
    shift: Shift, cases: Sequence[LabelledCase], folder: Path, seed: int
) -> list[LabelledCase]:
    """Shifted scans with the labels that they had; what is there already is not made again.

    Args:
        shift: how far.
        cases: to shift.
        folder: gets the scans.
        seed: of all chance.

    Raises:
        InputError: a scan cannot be read.
        OutputError: a scan cannot be written.
    """
    made = []
    for case in cases:
        path = folder / f"{case.name}{_SUFFIX}"
        if not path.is_file():
            write_volume(shift.applied(read_image(case.image).image, case.name, seed), path)
        made.append(LabelledCase(case.name, path, case.label))
    return made
