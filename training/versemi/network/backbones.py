"""Encoder-decoders that serve every prompt in one pass.

A backbone takes ``(B, 1, D, H, W)`` and returns the last decoder features ``(B, F, D, H, W)``
and the globally pooled bottleneck ``(B, C)``. D, H and W must be multiples of ``divisor``.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.blocks import Convolution, ResidualUnit
from torch import Tensor, nn

#: Channels of a network for experiments, with less than half of the weights.
SMALL = (16, 32, 64, 96, 128)


class ResidualUNetBackbone(nn.Module):
    """MONAI's residual ``UNet``, built of its blocks so that the bottleneck can be read.

    It halves the image in its first layer, which makes it two to three times faster on a CPU than
    networks that convolve at full resolution throughout.

    Args:
        features: channels F of the features that the heads read.
        channels: channels of the encoder's levels; every level halves the grid, the last does not.
    """

    def __init__(
        self, features: int = 16, channels: Sequence[int] = (32, 64, 96, 128, 192)
    ) -> None:
        super().__init__()
        self.divisor = 2 ** (len(channels) - 1)
        self.bottleneck_channels = channels[-1]
        ins = (1, *channels[:-1])
        strides = (2,) * (len(channels) - 1) + (1,)
        self.down = nn.ModuleList(
            ResidualUnit(3, i, o, strides=s, kernel_size=3, subunits=2, norm="INSTANCE")
            for i, o, s in zip(ins, channels, strides, strict=True)
        )
        outs = (features, *channels[:-2])
        self.up = nn.ModuleList()
        for level in reversed(range(len(channels) - 1)):
            below = channels[-1] if level == len(channels) - 2 else channels[level]
            rise = Convolution(
                3,
                channels[level] + below,
                outs[level],
                strides=2,
                kernel_size=3,
                norm="INSTANCE",
                is_transposed=True,
            )
            refine = ResidualUnit(
                3, outs[level], outs[level], subunits=1, norm="INSTANCE", last_conv_only=level == 0
            )
            self.up.append(nn.Sequential(rise, refine))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Map ``(B, 1, D, H, W)`` to features ``(B, F, D, H, W)`` and pooled ``(B, C)``."""
        skips = []
        x = image
        for block in self.down[:-2]:
            x = _exact_where_small(block, x)
            skips.append(x)
        with torch.autocast(image.device.type, enabled=False):
            # A few hundred voxels at the bottom: float32 costs nothing there.
            deep = self.down[-2](x.float())
            deepest = self.down[-1](deep)
            pooled = deepest.mean(dim=(2, 3, 4))
            x = self.up[0](torch.cat([deep, deepest], dim=1))
        for block in self.up[1:]:
            x = _exact_where_small(block, torch.cat([skips.pop(), x], dim=1))
        return x, pooled


def _exact_where_small(block: nn.Module, x: Tensor) -> Tensor:
    """Run a block, in float32 where its grid is only a few voxels thick.

    oneDNN's bf16 weight gradients of a convolution whose grid is two voxels thick hold memory
    that was never written.
    """
    if min(x.shape[2:]) >= 8:
        return block(x)
    with torch.autocast(x.device.type, enabled=False):
        return block(x.float())


class _VNetStage(nn.Sequential):
    """`repeats` times convolution, instance norm, ReLU, as in the published V-Net."""

    def __init__(self, repeats: int, inputs: int, outputs: int) -> None:
        super().__init__(
            *(
                Convolution(
                    3,
                    inputs if i == 0 else outputs,
                    outputs,
                    kernel_size=3,
                    norm="INSTANCE",
                    act="RELU",
                )
                for i in range(repeats)
            )
        )


class VNetBackbone(nn.Module):
    """V-Net with 16 filters and instance norm, as the paper uses it, for reproduction.

    Five levels of 1, 2, 3, 3, 3 convolutions with stride-2 convolutions between them; the
    decoder adds its skips. Source: Milletari et al., V-Net, 3DV 2016, in the variant of UA-MT
    (Yu et al., MICCAI 2019) on which VerSemi (arXiv 2311.11686, section IV) builds.
    """

    def __init__(self, features: int = 8, filters: int = 16) -> None:
        super().__init__()
        self.divisor = 16
        widths = [filters * 2**i for i in range(5)]
        self.bottleneck_channels = widths[-1]
        repeats = (1, 2, 3, 3, 3)
        self.encode = nn.ModuleList(
            _VNetStage(n, 1 if i == 0 else widths[i], widths[i]) for i, n in enumerate(repeats)
        )
        self.shrink = nn.ModuleList(
            Convolution(
                3, widths[i], widths[i + 1], strides=2, kernel_size=2, padding=0,
                norm="INSTANCE", act="RELU",
            )
            for i in range(4)
        )  # fmt: skip
        self.grow = nn.ModuleList(
            Convolution(
                3, widths[i + 1], widths[i], strides=2, kernel_size=2, padding=0,
                output_padding=0, is_transposed=True, norm="INSTANCE", act="RELU",
            )
            for i in reversed(range(4))
        )  # fmt: skip
        self.decode = nn.ModuleList(
            _VNetStage(n, widths[i], widths[i])
            for i, n in zip(reversed(range(4)), (3, 3, 2, 1), strict=True)
        )
        self.reduce = Convolution(3, filters, features, kernel_size=1, norm="INSTANCE", act="RELU")

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Map ``(B, 1, D, H, W)`` to features ``(B, F, D, H, W)`` and pooled ``(B, C)``."""
        skips = []
        x = image
        for level, stage in enumerate(self.encode):
            x = stage(x)
            if level < 4:
                skips.append(x)
                x = self.shrink[level](x)
        pooled = x.float().mean(dim=(2, 3, 4))
        for grow, stage in zip(self.grow, self.decode, strict=True):
            x = stage(grow(x) + skips.pop())
        return self.reduce(x), pooled
