"""How a sample becomes a loss when a pack learns from corrections without forgetting.

VerSemi's objective (:mod:`versemi.learning.methods`), with two guides where no label speaks:

- the prompts that are being learnt follow the moving average of the network, as in
  :mod:`versemi.learning.consistency`, if the run is to learn from scans without their labels;
- all other prompts of the scan's group follow the frozen parent, whose probabilities are soft
  targets (Li & Hoiem, *Learning without forgetting*, ECCV 2016; Hinton et al., *Distilling the
  knowledge in a neural network*, 2015, without a temperature).

The weights themselves are drawn to the parent's by half their squared distance times a weight
(Li et al., *Explicit inductive bias for transfer learning with convolutional networks*, ICML 2018,
L2-SP). Groups without a scan in the library keep the parent's network
(:mod:`versemi.network.groups`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from versemi.learning.consistency import unlabelled_losses
from versemi.learning.data import MicroBatch, Sample
from versemi.learning.methods import MethodSettings, Networks, labelled_and_mixed
from versemi.learning.objective import (
    Answer,
    Encoded,
    encode,
    over_prompts,
)
from versemi.network import PromptedNetwork
from versemi.tasks import FOREGROUND

#: What a run may do with the scans. Labels teach in each of them; by distillation every scan holds
#: the other prompts, too; by VerSemi every scan also teaches those that are learnt.
METHODS = ("distillation", "versemi", "labels-only")
# A voxel that either network gives more than this to a prompt is one that the prompt is about.
_ABOUT = 0.05


@dataclass(frozen=True)
class Objective:
    """What is learnt, and how much each part weighs.

    Attributes:
        prompts: those that are learnt.
        unlabelled: whether scans are looked at without their labels.
        led: whether the prompts that are learnt follow the moving average there.
        method: VerSemi's own weights.
        distillation: weight of the parent's answers under all other prompts.
        anchor: weight of the distance to the parent's weights.
    """

    prompts: tuple[str, ...]
    unlabelled: bool = True
    led: bool = True
    method: MethodSettings = MethodSettings(synthetic=0.25, separation=0.5, begin=0.6, ramp=0.1)
    distillation: float = 1.0
    anchor: float = 0.01

    @classmethod
    def of(cls, prompts: tuple[str, ...], method: str, *, new: bool, alone: bool) -> Objective:
        """The objective of a run.

        Args:
            prompts: that are learnt.
            method: one of `METHODS`.
            new: whether one of them is new. Then a structure's own voxels count once more: a
                prompt that has learnt to find its structure would only find too much of it.
            alone: whether their groups have no other prompts, which were to be held.
        """
        led = method == "versemi"
        made = cls(prompts, unlabelled=led or (method == "distillation" and not alone), led=led)
        return made if new else replace(made, method=replace(made.method, own_voxels=0.0))

    def losses(
        self, networks: Networks, parent: PromptedNetwork, sample: Sample, done: float
    ) -> dict[str, Tensor]:
        """Named losses of a sample, which are summed.

        Args:
            networks: student and its moving average.
            parent: frozen.
            sample: with its unlabelled part, if the run looks at it.
            done: share of the run, 0..1.
        """
        led = self.led and done >= self.method.begin
        asked = sample.unlabelled.mixed.prompts if sample.unlabelled else []
        held = any(_followed(prompts, self.prompts) for prompts in asked)
        if not led and not held:
            # Nothing would be asked of the unlabelled crops yet; a step without is twice as fast.
            sample = replace(sample, unlabelled=None)
        weights = self.method.supervision(done)
        found, answers = labelled_and_mixed(networks.student, sample, weights)
        found["anchor"] = self.anchor / 2 * distance(networks.student, parent)
        if sample.unlabelled is None:
            return found
        mixed = sample.unlabelled.mixed
        if led:
            with torch.no_grad():
                teacher = encode(networks.teacher, sample.unlabelled.weak, mixed.runs_of_each)
            unknown = unlabelled_losses(
                answers, teacher, mixed, consistency=True, pseudo_labels=True, taught=self.prompts
            )
            found |= self.method.weighted(unknown, done)
        if held:
            with torch.no_grad():
                # The very same crops, or a network that has not changed would be pulled away.
                before = encode(parent, mixed.image, mixed.runs_of_each)
            kept = distillation(answers, before, mixed, self.prompts)
            found["distillation"] = self.distillation * kept
        return found


def distillation(
    answers: Sequence[Answer],
    parent: Sequence[Encoded],
    batch: MicroBatch,
    learnt: Sequence[str],
) -> Tensor:
    """How far the answers under the other prompts are from the parent's, where no label speaks.

    The divergence of the parent's probability q from the network's p, a binary Kullback-Leibler
    divergence and so 0 where they agree: its mean over all open voxels, plus its mean over those
    that either of the two thinks belong to the prompt, so that a small organ is not lost among
    the voxels far from it.

    Args:
        answers: the network's on the mixed crops, with what their labels know.
        parent: its encoding of the same crops.
        batch: the mixed crops, one of which at least is asked another prompt.
        learnt: prompts that do not follow the parent.

    Returns:
        A scalar.
    """
    terms = []
    for answer, guide, asked in zip(answers, parent, batch.prompts, strict=True):
        rows = _followed(asked, learnt)
        if not rows:
            continue
        open_ = (~answer.known[rows]).float()
        logits = answer.logits[rows].float()
        with torch.no_grad():
            target = torch.sigmoid(guide.logits([asked[i] for i in rows]).float())
            about = open_ * (torch.maximum(target, torch.sigmoid(logits)) > _ABOUT)
            least = -(torch.xlogy(target, target) + torch.xlogy(1 - target, 1 - target))
        divergence = F.binary_cross_entropy_with_logits(logits, target, reduction="none") - least
        terms.append(over_prompts(_mean(divergence, open_) + _mean(divergence, about)))
    return torch.stack(terms).mean()


def _followed(asked: Sequence[str], learnt: Sequence[str]) -> list[int]:
    """Which of the asked prompts follow the parent."""
    return [i for i, p in enumerate(asked) if p != FOREGROUND and p not in learnt]


def distance(network: PromptedNetwork, parent: PromptedNetwork) -> Tensor:
    """Squared Euclidean distance between the trained weights of two networks, a scalar."""
    parents = dict(parent.named_parameters())
    return torch.stack(
        [
            (weight - parents[name]).square().sum()
            for name, weight in network.named_parameters()
            if weight.requires_grad
        ]
    ).sum()


def _mean(values: Tensor, weight: Tensor) -> Tensor:
    """Weighted mean of each row, ``(K, N)`` to ``(K,)``; 0 where nothing counts."""
    return (values * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1.0)
