"""The supervised part of VerSemi's objective, with partial labels taken seriously.

For every crop and asked prompt: soft Dice where the structure is present, plus binary
cross-entropy, both over the voxels where the answer is known. Dice is computed per crop (pooled
over a batch, large organs would drown small tumours) and never for an absent structure: with it,
"predict nothing" is the best answer for a rare prompt, and it never comes back. A prompt that has
come to answer nothing gets almost no gradient from either: Dice's fades with its probabilities, and
a few hundred voxels are lost in the mean of the cross-entropy. So the structure's own voxels count
once more, by themselves, while a run is young; later that would only make everything too large.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from versemi.learning.data import RUN, MicroBatch
from versemi.learning.mixing import MixedLabels
from versemi.network import PromptedNetwork
from versemi.tasks import FOREGROUND, TASKS

_SMOOTH = 1.0


def prompt_loss(logits: Tensor, target: Tensor, weight: Tensor, own: float = 0.0) -> Tensor:
    """Dice plus cross-entropy of one crop under several prompts.

    Dice loss is ``1 - (2 sum(w p t) + 1) / (sum(w p) + sum(w t) + 1)`` (Milletari et al., V-Net,
    3DV 2016), counted only for prompts with a positive target; cross-entropy is averaged with the
    weights w over all voxels, and a share of its mean over the target's voxels is added.

    Args:
        logits: ``(K, N)``.
        target: bool ``(K, N)``.
        weight: ``(K, N)``, 0 for voxels that do not count.
        own: that share.

    Returns:
        Loss of each prompt, ``(K,)``.
    """
    logits = logits.float()
    weight = weight.float()
    truth = target.float()
    counted = weight.sum(dim=1).clamp(min=1.0)
    entropy = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    there = truth.sum(dim=1).clamp(min=1.0)
    truth = truth * weight
    missed = (entropy * truth).sum(dim=1) / there
    entropy = (entropy * weight).sum(dim=1) / counted + own * missed
    probability = torch.sigmoid(logits)
    overlap = 2 * (probability * truth).sum(dim=1) + _SMOOTH
    size = (probability * weight).sum(dim=1) + truth.sum(dim=1) + _SMOOTH
    present = truth.sum(dim=1) > 0
    return entropy + torch.where(present, 1 - overlap / size, torch.zeros_like(size))


def separation_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Tell structures apart that stand side by side: cross-entropy over prompts.

    Every prompt by itself hardly minds that it also answers in its neighbour: that is a few of the
    crop's many voxels. Here the logits of all prompts compete, by a softmax over prompts, in the
    voxels that are labelled as one of them; each structure counts the same.

    Args:
        logits: ``(K, N)`` of the asked prompts, *foreground* left out.
        target: bool ``(K, N)``; a voxel belongs to one of them at the most.

    Returns:
        Scalar; the structures' means joined by :func:`over_prompts`, 0 where none is there.
    """
    labelled = target.any(dim=0)
    truth = target[:, labelled].float()
    voxels = truth.sum(dim=1)
    share = torch.log_softmax(logits[:, labelled].float(), dim=0)
    return over_prompts((-(share * truth).sum(dim=1) / voxels.clamp(min=1.0))[voxels > 0])


def over_prompts(losses: Tensor) -> Tensor:
    """Join the losses of K prompts, ``(K,)``, into one: their sum over the square root of K.

    Under a mean, ten organs together weigh as much as *foreground* alone, and the features never
    learn to tell them apart; under a sum they drown the tasks of one prompt.
    """
    return losses.sum() / math.sqrt(max(1, losses.numel()))


@dataclass
class Encoded:
    """One crop after the backbone, at the voxels that the heads read.

    Attributes:
        network: what encoded it.
        features: ``(1, F, N)``.
        pooled: bottleneck, ``(1, C)``.
    """

    network: PromptedNetwork
    features: Tensor
    pooled: Tensor

    def logits(self, prompts: Sequence[str]) -> Tensor:
        """Logits ``(K, N)`` under some prompts."""
        names = self.network.prompts
        index = torch.tensor([names.index(p) for p in prompts], device=self.features.device)
        parameters = self.network.head_parameters(self.pooled, index)
        return self.network.apply_heads(self.features, parameters)[0]


def encode(network: PromptedNetwork, image: Tensor, runs: Sequence[Tensor]) -> list[Encoded]:
    """One backbone pass for all crops ``(B, 1, D, H, W)`` and all their prompts.

    Args:
        network: to pass them through.
        image: the crops.
        runs: of each crop, the runs of voxels that its heads read.
    """
    features, pooled = network.encode(image)
    return [
        Encoded(network, at_runs(features[i : i + 1].flatten(2), runs[i]), pooled[i : i + 1])
        for i in range(len(image))
    ]


@dataclass
class Answer:
    """One crop's answer, and what its labels know about it.

    Attributes:
        logits: ``(K, N)``.
        target: bool ``(K, N)``.
        known: bool ``(K, N)``.
    """

    logits: Tensor
    target: Tensor
    known: Tensor


def supervised_losses(
    crops: Sequence[Encoded], batch: MicroBatch, *, separation: float = 0.0, own: float = 0.0
) -> tuple[dict[str, Tensor], list[Answer]]:
    """Loss of one micro-batch where its labels hold.

    Args:
        crops: the micro-batch after the backbone.
        batch: its labels, prompts and voxels.
        separation: weight of :func:`separation_loss`.
        own: weight of a structure's own voxels in :func:`prompt_loss`.

    Returns:
        ``prompts`` and, if the network has it, ``foreground``: scalars, :func:`prompt_loss`
        averaged over crops and for ``prompts`` joined by :func:`over_prompts`; with a weight,
        ``separation``. Then each crop's answer under its prompts.
    """
    prompts, foreground, separate, answers = [], [], [], []
    for crop, labels, asked in zip(crops, batch.labels, batch.prompts, strict=True):
        logits = crop.logits(asked)
        target, known = targets_at_runs(labels, asked, batch.runs)
        first = asked[0] == FOREGROUND
        if first:
            known[0] &= ~_claimed(crop, labels, batch.runs)
        losses = prompt_loss(logits, target & known, known, own)
        if first:
            foreground.append(losses[0])
        prompts.append(over_prompts(losses[1:] if first else losses))
        if separation:
            rest = slice(int(first), None)
            separate.append(separation * separation_loss(logits[rest], (target & known)[rest]))
        answers.append(Answer(logits, target, known))
    found = {"prompts": torch.stack(prompts).mean()}
    if foreground:
        found["foreground"] = torch.stack(foreground).mean()
    if separate:
        found["separation"] = torch.stack(separate).mean()
    return found, answers


def targets_at_runs(
    labels: MixedLabels, prompts: Sequence[str], runs: Tensor
) -> tuple[Tensor, Tensor]:
    """Targets and whether they are known, both bool ``(K, N)``, at the voxels that heads read."""
    targets, knowns = zip(*(labels.target(prompt) for prompt in prompts), strict=True)
    return (
        at_runs(torch.stack(targets).flatten(1), runs),
        at_runs(torch.stack(knowns).flatten(1), runs),
    )


def at_runs(values: Tensor, runs: Tensor) -> Tensor:
    """Pick runs of voxels: ``(..., N)`` to ``(..., R * RUN)``."""
    whole = values.shape[-1] // RUN * RUN
    return values[..., :whole].unflatten(-1, (-1, RUN))[..., runs, :].flatten(-2)


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


@torch.no_grad()
def _claimed(crop: Encoded, labels: MixedLabels, runs: Tensor) -> Tensor:
    """Unlabelled voxels that a prompt which their data set does not cover takes for its own.

    Returns:
        bool ``(N,)``.
    """
    part = at_runs(labels.part.flatten()[None], runs)[0].long()
    claimed = torch.zeros_like(part, dtype=torch.bool)
    asked = [p for p in doubtful_prompts(labels) if p in crop.network.prompts]
    if not asked:
        return claimed
    for prompt, voxels in zip(asked, crop.logits(asked) > 0, strict=True):
        uncovered = torch.tensor(
            [
                prompt not in covered and TASKS[prompt].group in {TASKS[p].group for p in covered}
                for covered in labels.covered
            ],
            device=part.device,
        )
        claimed |= voxels & uncovered[part]
    unlabelled = at_runs(labels.values.flatten()[None], runs)[0] == 0
    return claimed & unlabelled
