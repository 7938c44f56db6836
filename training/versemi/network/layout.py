"""The order in which a network's voxels lie in memory, for windows that are answered one by one.

oneDNN's convolutions are faster where the channels of a voxel lie side by side, most of all the
transposed ones, but torch's instance norm brings every tensor back into planes. Over a batch of
one, batch norm with the batch's own statistics is the same function, and leaves the order alone.
"""

from __future__ import annotations

from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_Module = TypeVar("_Module", bound=nn.Module)


def channels_last(network: _Module) -> _Module:
    """Lay out a network for inference with its channels last, in place.

    Args:
        network: whose instance norms have neither weights nor running statistics; from now on it
            takes batches of one only.

    Returns:
        The same network.
    """
    for block in list(network.modules()):
        for name, child in block.named_children():
            if isinstance(child, nn.InstanceNorm3d):
                setattr(block, name, _NormOfOne(child.eps))
    return network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]


class _NormOfOne(nn.Module):
    """Instance norm of a batch of one, in whatever order its voxels lie."""

    def __init__(self, eps: float) -> None:
        super().__init__()
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Normalise each channel of ``(1, C, D, H, W)`` over its voxels."""
        assert len(x) == 1
        return F.batch_norm(x, None, None, training=True, eps=self.eps)
