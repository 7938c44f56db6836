"""The supervised part of VerSemi's objective, with partial labels taken seriously.

For every crop and asked prompt: soft Dice where the structure is present, plus binary
cross-entropy, both over the voxels where the answer is known. Dice is computed per crop (pooled
over a batch, large organs would drown small tumours) and never for an absent structure: with it,
"predict nothing" is the best answer for a rare prompt, and it never comes back.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from versemi.learning.data import RUN, MicroBatch
from versemi.learning.mixing import MixedLabels
from versemi.network import PromptedNetwork
from versemi.tasks import TASKS

_SMOOTH = 1.0


def prompt_loss(logits: Tensor, target: Tensor, known: Tensor) -> Tensor:
    """Dice plus cross-entropy of one crop under several prompts.

    Dice loss is ``1 - (2 sum(p t) + 1) / (sum(p) + sum(t) + 1)`` (Milletari et al., V-Net, 3DV
    2016), counted only for prompts with a positive target.

    Args:
        logits: ``(K, N)``.
        target: bool ``(K, N)``.
        known: bool ``(K, N)``, voxels that count.

    Returns:
        Loss of each prompt, ``(K,)``.
    """
    logits = logits.float()
    truth = (target & known).float()
    weight = known.float()
    counted = weight.sum(dim=1).clamp(min=1.0)
    entropy = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    entropy = (entropy * weight).sum(dim=1) / counted
    probability = torch.sigmoid(logits) * weight
    overlap = 2 * (probability * truth).sum(dim=1) + _SMOOTH
    size = probability.sum(dim=1) + truth.sum(dim=1) + _SMOOTH
    present = truth.sum(dim=1) > 0
    return entropy + torch.where(present, 1 - overlap / size, torch.zeros_like(size))


def doubtful_prompts(labels: MixedLabels) -> list[str]:
    """Prompts of the crop's own groups that some part's labels do not cover.

    Where one of them sees its structure, the background of that part is no evidence against
    *foreground*.
    """
    found: set[str] = set()
    for covered in labels.covered:
        groups = {TASKS[prompt].group for prompt in covered}
        found |= {t.id for t in TASKS.values() if t.group in groups} - covered
    return sorted(found)


def supervised_loss(network: PromptedNetwork, batch: MicroBatch) -> dict[str, Tensor]:
    """Loss of one micro-batch after one backbone pass.

    Args:
        network: the network in training.
        batch: crops, their labels, their prompts and the voxels to read.

    Returns:
        ``prompts`` and ``foreground``, scalars: :func:`prompt_loss` averaged over crops, and for
        ``prompts`` summed over the K asked ones and divided by the square root of K.
    """
    features, pooled = network.encode(batch.image)
    features = _at_runs(features.flatten(2), batch.runs)
    prompts: list[Tensor] = []
    foreground: list[Tensor] = []
    for i, (labels, asked) in enumerate(zip(batch.labels, batch.prompts, strict=True)):
        logits = _logits(network, features[i : i + 1], pooled[i : i + 1], asked)
        targets, knowns = zip(*(labels.target(prompt) for prompt in asked), strict=True)
        target = _at_runs(torch.stack(targets).flatten(1), batch.runs)
        known = _at_runs(torch.stack(knowns).flatten(1), batch.runs)
        known[0] &= ~_claimed(network, features[i : i + 1], pooled[i : i + 1], labels, batch.runs)
        losses = prompt_loss(logits, target, known)
        foreground.append(losses[0])
        # Under a mean, ten organs together weigh as much as foreground alone, and the features
        # never learn to tell them apart; under a sum they drown the tasks of one prompt.
        prompts.append(losses[1:].sum() / math.sqrt(len(asked) - 1))
    return {"prompts": torch.stack(prompts).mean(), "foreground": torch.stack(foreground).mean()}


@torch.no_grad()
def _claimed(
    network: PromptedNetwork, features: Tensor, pooled: Tensor, labels: MixedLabels, runs: Tensor
) -> Tensor:
    """Unlabelled voxels that a prompt which their data set does not cover takes for its own.

    Returns:
        bool ``(N,)``.
    """
    part = _at_runs(labels.part.flatten()[None], runs)[0].long()
    claimed = torch.zeros_like(part, dtype=torch.bool)
    asked = [p for p in doubtful_prompts(labels) if p in network.prompts]
    if not asked:
        return claimed
    positive = _logits(network, features, pooled, asked) > 0
    for prompt, voxels in zip(asked, positive, strict=True):
        uncovered = torch.tensor(
            [
                prompt not in covered and TASKS[prompt].group in {TASKS[p].group for p in covered}
                for covered in labels.covered
            ],
            device=part.device,
        )
        claimed |= voxels & uncovered[part]
    unlabelled = _at_runs(labels.values.flatten()[None], runs)[0] == 0
    return claimed & unlabelled


def _logits(
    network: PromptedNetwork, features: Tensor, pooled: Tensor, asked: Sequence[str]
) -> Tensor:
    """Logits ``(K, N)`` of one crop's voxels under the asked prompts."""
    index = torch.tensor([network.prompts.index(p) for p in asked], device=features.device)
    return network.apply_heads(features, network.head_parameters(pooled, index))[0]


def _at_runs(values: Tensor, runs: Tensor) -> Tensor:
    """Pick runs of voxels: ``(..., N)`` to ``(..., R * RUN)``."""
    whole = values.shape[-1] // RUN * RUN
    return values[..., :whole].unflatten(-1, (-1, RUN))[..., runs, :].flatten(-2)
