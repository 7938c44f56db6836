"""Decoder features of a scan, computed window by window where they are asked for, and kept.

Windows lie on one fixed lattice over the whole grid. A region is answered by all windows that
touch it, so every voxel in it is covered by the same windows whatever was computed before: an
answer does not depend on the order of the questions. The features are stitched with Gaussian
weights first; a head then reads every voxel once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from monai.data.utils import compute_importance_map, dense_patch_slices
from torch import Tensor

from versemi.errors import Cancelled
from versemi.geometry import Box
from versemi.inference.device import Compute
from versemi.network import PromptedNetwork
from versemi.preprocessing import OUTSIDE

# Voxels that the heads read at a time: on a CPU what fits into its caches, which halves the time.
_HEAD_VOXELS = 1 << 20
_HEAD_VOXELS_CPU = 1 << 16


class FeatureVolume:
    """Stitched features of one prepared scan.

    Args:
        array: float32 ``(D, H, W)`` in [-1, 1].
        network: on the compute device.
        compute: device and precision.
        window: largest window, ``(D, H, W)`` voxels; smaller where the scan is smaller.
        overlap: of neighbouring windows, as a share of their edge.
        whole_windows: windows keep their size where the scan is smaller.
    """

    def __init__(
        self,
        array: np.ndarray,
        network: PromptedNetwork,
        compute: Compute,
        window: Sequence[int],
        overlap: float,
        *,
        whole_windows: bool = False,
    ) -> None:
        self.shape = array.shape
        self._network = network
        self._compute = compute
        divisor = network.divisor
        # Two voxels a side at the bottleneck at the least: the norm of a single one is undefined.
        most = window if whole_windows else np.minimum(window, array.shape)
        self.window = tuple(max(2 * divisor, _round_up(int(n), divisor)) for n in most)
        # A scan thinner than a window lies in the middle of it, as it did in training.
        short = [max(0, w - n) for w, n in zip(self.window, array.shape, strict=True)]
        self._before = tuple(s // 2 for s in short)
        self._array = np.pad(
            array,
            [(b, s - b) for b, s in zip(self._before, short, strict=True)],
            constant_values=OUTSIDE,
        )
        interval = tuple(max(1, int(w * (1 - overlap))) for w in self.window)
        self._lattice: list[Box] = [
            tuple(place)  # type: ignore[misc]
            for place in dense_patch_slices(self._array.shape, self.window, interval)
        ]
        self._importance = compute_importance_map(self.window, mode="gaussian", sigma_scale=0.125)
        self._pooled: dict[int, Tensor] = {}
        # Pages of a zeroed tensor cost nothing until a window is written to them.
        self._sum = torch.zeros((network.features, *self._array.shape), dtype=torch.float16)
        self._weight = torch.zeros(self._array.shape)

    @property
    def windows(self) -> int:
        """How many windows the whole scan takes."""
        return len(self._lattice)

    def missing(self, regions: Sequence[Box]) -> list[int]:
        """The windows that these regions need and that have not been computed."""
        needed = {i for region in regions for i in self._touching(region)}
        return sorted(needed - set(self._pooled))

    def compute(
        self,
        regions: Sequence[Box],
        progress: Callable[[int, int], None],
        cancel: Callable[[], bool],
    ) -> None:
        """Compute the missing windows of some regions.

        Args:
            regions: boxes ``(z, y, x)`` of the scan.
            progress: told (windows done, windows to do) after each.
            cancel: asked before each window.

        Raises:
            Cancelled: `cancel` said so; what was computed is kept.
        """
        missing = self.missing(regions)
        for done, number in enumerate(missing):
            if cancel():
                raise Cancelled("The segmentation was cancelled.")
            self._run(number)
            progress(done + 1, len(missing))

    def probability(self, region: Box, prompts: Sequence[int]) -> np.ndarray:
        """Apply heads to a region whose windows are all there.

        Args:
            region: box ``(z, y, x)`` of the scan.
            prompts: indices into the network's task code, K of them.

        Returns:
            float32 ``(K, D, H, W)`` of the region's shape.
        """
        device = self._compute.device
        pooled = self._pooled_in(region)
        box = self._padded(region)
        shape = tuple(s.stop - s.start for s in box)
        answer = np.empty((len(prompts), *shape), dtype=np.float32)
        voxels = _HEAD_VOXELS_CPU if device.type == "cpu" else _HEAD_VOXELS
        step = max(1, voxels // max(1, shape[1] * shape[2]))
        with self._compute.context():
            index = torch.tensor(list(prompts), device=device)
            parameters = self._network.head_parameters(pooled.to(device)[None], index)
            for start in range(box[0].start, box[0].stop, step):
                slab = slice(start, min(start + step, box[0].stop))
                features = self._sum[:, slab, box[1], box[2]].to(device, torch.float32)
                features /= self._weight[slab, box[1], box[2]].to(device)
                logits = self._network.apply_heads(features.flatten(1)[None], parameters)[0]
                part = torch.sigmoid(logits.float()).reshape(len(prompts), -1, *shape[1:])
                first = start - box[0].start
                answer[:, first : first + part.shape[1]] = part.cpu().numpy()
        return answer

    def pooled(self, region: Box) -> np.ndarray:
        """The pooled bottleneck that a region's heads are written from, float32 ``(C,)``."""
        return self._pooled_in(region).numpy()

    def _pooled_in(self, region: Box) -> Tensor:
        return torch.stack([self._pooled[i] for i in self._touching(region)]).mean(dim=0)

    def _run(self, number: int) -> None:
        place = self._lattice[number]
        window = torch.from_numpy(np.ascontiguousarray(self._array[place]))[None, None]
        with self._compute.context():
            features, pooled = self._network.encode(window.to(self._compute.device))
            features = features[0].float().cpu()
            pooled = pooled[0].float().cpu()
        self._sum[(slice(None), *place)] += (features * self._importance).half()
        self._weight[place] += self._importance
        self._pooled[number] = pooled

    def _touching(self, region: Box) -> list[int]:
        box = self._padded(region)
        return [
            i
            for i, place in enumerate(self._lattice)
            if all(p.start < b.stop and b.start < p.stop for p, b in zip(place, box, strict=True))
        ]

    def _padded(self, region: Box) -> Box:
        z, y, x = (
            slice(s.start + b, s.stop + b) for s, b in zip(region, self._before, strict=True)
        )
        return z, y, x


def _round_up(value: int, divisor: int) -> int:
    return -(-int(value) // divisor) * divisor
