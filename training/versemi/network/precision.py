"""Weights in eight bits: half of what half precision takes, for packs that carry two networks.

Each output channel of a convolution has a scale of its own, the largest of its absolute weights
over 127 (symmetric, per-channel weight quantisation; Krishnamoorthi, *Quantizing deep convolutional
networks for efficient inference*, arXiv 1806.08342, section 2). Everything else, such as the rows
of the prompts, stays in half precision. Networks compute with float32 weights all the same.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

#: Of a convolution's weights ``(out, in, D, H, W)``; fewer dimensions are few numbers.
_CONVOLUTION = 5
# After the name of a tensor: its scales.
_SCALES = ":scales"
_LARGEST = 127
# Above half precision's smallest normal number.
_LEAST = 1e-4


def packed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights in int8 beside their scales ``(out,)``; all other tensors in half precision.

    Scales are in half precision, too, so that packing what was packed changes no bit.
    """
    found: dict[str, Tensor] = {}
    for name, value in tensors.items():
        if value.dim() != _CONVOLUTION:
            found[name] = value.half()
            continue
        scales = (value.float().abs().flatten(1).amax(dim=1) / _LARGEST).clamp(min=_LEAST).half()
        whole = (value.float() / _along_first(scales.float(), value)).round()
        found[name] = whole.clamp(-_LARGEST, _LARGEST).to(torch.int8)
        found[f"{name}{_SCALES}"] = scales
    return found


def unpacked(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What :func:`packed` or half precision made of weights, float32.

    Raises:
        KeyError: a tensor in int8 has no scales.
    """
    found: dict[str, Tensor] = {}
    for name, value in tensors.items():
        if name.endswith(_SCALES):
            continue
        found[name] = value.float()
        if value.dtype == torch.int8:
            found[name] *= _along_first(tensors[f"{name}{_SCALES}"].float(), value)
    return found


def _along_first(scales: Tensor, value: Tensor) -> Tensor:
    return scales.view(-1, *[1] * (value.dim() - 1))
