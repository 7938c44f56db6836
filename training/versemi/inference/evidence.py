"""What stands behind the answers in one region of a scan, before any clean-up."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

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
        best = self.probabilities[[self.prompts.index(p) for p in self.asked]].max(axis=0)
        return entropy(best).astype(np.float32)

    def uncertainty(self) -> np.ndarray:
        """Float32 ``(D, H, W)``; see `Segmentation.uncertainty`."""
        doubt = self.entropy()
        if self.foreground is not None:
            np.maximum(doubt, np.abs(self.probabilities.max(axis=0) - self.foreground), out=doubt)
        return doubt


def entropy(probability: np.ndarray) -> np.ndarray:
    """Binary entropy in bits, ``-p log2 p - (1 - p) log2 (1 - p)``, of any shape."""
    p = np.clip(probability, 1e-6, 1 - 1e-6)
    return -(p * np.log2(p) + (1 - p) * np.log2(1 - p))
