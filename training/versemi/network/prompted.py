"""Controller and dynamic heads on top of a backbone.

VerSemi, arXiv 2311.11686, section III-A (dynamic task prompt): a controller reads the globally
pooled bottleneck features joined with the one-hot task code and emits the weights of a head of
three 1x1x1 convolutions. A linear controller on joined inputs is the sum of a row per prompt and
a part that depends on the image, which is how it is written here; a new prompt is a new row.

The paper's last layer has two channels under a softmax; the sigmoid of one channel is the same
function with half the work.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from versemi.errors import PackError
from versemi.network.backbones import SMALL, ResidualUNetBackbone, VNetBackbone

HIDDEN = 8
_PRIOR_LOGIT = -1.5
_IMAGE_PART_STD = 0.02


@dataclass(frozen=True)
class NetworkSettings:
    """What is needed to build a network again.

    Attributes:
        prompts: identifiers in the order of the task code.
        backbone: ``"residual-unet"``, ``"residual-unet-small"`` or ``"vnet"``.
        features: how many shared features the heads read.
    """

    prompts: tuple[str, ...]
    backbone: str = "residual-unet"
    features: int = 16

    def to_json(self) -> dict[str, object]:
        """Plain data for a manifest."""
        return {**asdict(self), "prompts": list(self.prompts)}


class PromptedNetwork(nn.Module):
    """One backbone, any number of prompts.

    Args:
        backbone: returns features ``(B, F, D, H, W)`` and pooled bottleneck ``(B, C)``.
        prompts: identifiers in the order of the task code.
        features: F.
    """

    def __init__(self, backbone: nn.Module, prompts: Sequence[str], features: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.prompts = tuple(prompts)
        self.features = features
        self._sizes = [features * HIDDEN, HIDDEN, HIDDEN * HIDDEN, HIDDEN, HIDDEN, 1]
        pooled = int(backbone.bottleneck_channels)  # type: ignore[arg-type]
        self.norm = nn.LayerNorm(pooled, elementwise_affine=False)
        self.image_part = nn.Linear(pooled, sum(self._sizes), bias=False)
        self.rows = nn.Parameter(torch.empty(len(self.prompts), sum(self._sizes)))
        self._initialise(pooled)

    @property
    def divisor(self) -> int:
        """Every side of a window must be a multiple of this."""
        return int(self.backbone.divisor)  # type: ignore[arg-type]

    def _initialise(self, pooled: int) -> None:
        """Give the generated layers the variance of ordinary ones (2 / fan-in).

        With a framework's default the heads hardly learn: hypernetworks need this (Chang et
        al., Principled Weight Initialization for Hypernetworks, ICLR 2020).
        """
        w1, b1, w2, b2, w3, b3 = (
            part.data for part in torch.split(self.rows.data, self._sizes, dim=1)
        )
        nn.init.normal_(w1, std=math.sqrt(2 / self.features))
        nn.init.normal_(w2, std=math.sqrt(2 / HIDDEN))
        nn.init.normal_(w3, std=math.sqrt(2 / HIDDEN))
        for bias in (b1, b2):
            nn.init.zeros_(bias)
        nn.init.constant_(b3, _PRIOR_LOGIT)
        nn.init.normal_(self.image_part.weight, std=_IMAGE_PART_STD)

    def detach_from_image(self) -> None:
        """Make the heads the same for every image: the controller reads the task code alone."""
        nn.init.zeros_(self.image_part.weight)
        self.image_part.weight.requires_grad_(False)

    def encode(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Run the backbone: ``(B, 1, D, H, W)`` to ``(B, F, D, H, W)`` and ``(B, C)``."""
        return self.backbone(image)

    def head_parameters(self, pooled: Tensor, prompts: Tensor) -> Tensor:
        """Let the controller write the heads.

        Args:
            pooled: bottleneck, ``(B, C)``.
            prompts: indices into the task code, ``(K,)``.

        Returns:
            Parameters of one head per image and prompt, ``(B, K, P)``.
        """
        # Of unit length, so that a step of the optimiser moves this part, which all prompts share,
        # no further than it moves their own rows; it drowns them otherwise.
        direction = self.norm(pooled.float()) / math.sqrt(pooled.shape[1])
        image_part = self.image_part(direction)
        return self.rows[prompts][None] + image_part[:, None]

    def apply_heads(self, features: Tensor, parameters: Tensor) -> Tensor:
        """Apply heads to voxels, as products over (prompt, channel, voxel).

        Args:
            features: ``(B, F, N)``, N voxels in any order.
            parameters: ``(B, K, P)`` from :meth:`head_parameters`.

        Returns:
            Logits ``(B, K, N)``.
        """
        batch, channels, voxels = features.shape
        count = parameters.shape[1]
        parameters = parameters.to(features.dtype)
        w1, b1, w2, b2, w3, b3 = torch.split(parameters, self._sizes, dim=2)
        x = torch.baddbmm(
            b1.reshape(batch, count * HIDDEN, 1),
            w1.reshape(batch, count * HIDDEN, channels),
            features,
        )
        x = F.leaky_relu(x, 0.01).reshape(batch * count, HIDDEN, voxels)
        x = torch.baddbmm(
            b2.reshape(batch * count, HIDDEN, 1), w2.reshape(batch * count, HIDDEN, HIDDEN), x
        )
        x = F.leaky_relu(x, 0.01)
        x = torch.baddbmm(b3.reshape(batch * count, 1, 1), w3.reshape(batch * count, 1, HIDDEN), x)
        return x.reshape(batch, count, voxels)

    def forward(self, image: Tensor, prompts: Tensor) -> Tensor:
        """Segment: ``(B, 1, D, H, W)`` under ``(K,)`` prompts to logits ``(B, K, D, H, W)``."""
        features, pooled = self.encode(image)
        logits = self.apply_heads(features.flatten(2), self.head_parameters(pooled, prompts))
        return logits.unflatten(2, features.shape[2:])


def build_network(settings: NetworkSettings) -> PromptedNetwork:
    """Build a network with fresh weights.

    Raises:
        PackError: `settings` names a backbone that this version does not have.
    """
    if settings.backbone == "residual-unet":
        backbone: nn.Module = ResidualUNetBackbone(settings.features)
    elif settings.backbone == "residual-unet-small":
        backbone = ResidualUNetBackbone(settings.features, SMALL)
    elif settings.backbone == "vnet":
        backbone = VNetBackbone(settings.features)
    else:
        raise PackError(
            f"The network '{settings.backbone}' is not known to this version; update VerSemi "
            "or use a pack made for it (residual-unet, residual-unet-small, vnet)."
        )
    return PromptedNetwork(backbone, settings.prompts, settings.features)
