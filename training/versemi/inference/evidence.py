"""What stands behind the answers in one region of a scan, before any clean-up."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from versemi.geometry import Grid


@dataclass(frozen=True)
class Evidence:
    """All that the network says in one region.

    Attributes:
        grid: the region's voxels.
        asked: the asked prompts that were looked for here.
        prompts: all prompts of their group, in the order of the rows below.
        probabilities: float32 ``(K, D, H, W)``, each prompt's own, without clean-up.
        foreground: float32 ``(D, H, W)``; None if the network was made without *foreground*.
        bottleneck: the pooled bottleneck that the heads were written from, float32 ``(C,)``: the
            mean over the windows that touch the region.
    """

    grid: Grid
    asked: tuple[str, ...]
    prompts: tuple[str, ...]
    probabilities: np.ndarray
    foreground: np.ndarray | None
    bottleneck: np.ndarray

    def entropy(self) -> np.ndarray:
        """Binary entropy of the most probable asked prompt, in bits, float32 ``(D, H, W)``."""
        return entropy(self._best())

    def uncertainty(self) -> np.ndarray:
        """Float32 ``(D, H, W)``; see `Segmentation.uncertainty`."""
        best = self._best()
        image = sitk.GetImageFromArray(best)
        around = sitk.GetArrayFromImage(
            sitk.DiscreteGaussian(
                image, variance=[1.0] * 3, maximumKernelWidth=9, useImageSpacing=False
            )
        )
        doubt: np.ndarray = (entropy(best) + entropy(around)) / 2
        if self.foreground is not None:
            gap = np.abs(self.probabilities.max(axis=0) - self.foreground)
            doubt = 1 - (1 - doubt) * (1 - gap) ** 2
        return doubt

    def _best(self) -> np.ndarray:
        """The probability of the most probable asked prompt."""
        best: np.ndarray = self.probabilities[[self.prompts.index(p) for p in self.asked]].max(
            axis=0
        )
        return best


def entropy(probability: np.ndarray) -> np.ndarray:
    """Binary entropy in bits, ``-p log2 p - (1 - p) log2 (1 - p)``, of any shape and as precise."""
    p = np.clip(probability, 1e-6, 1 - 1e-6)
    return -(p * np.log2(p) + (1 - p) * np.log2(1 - p))
