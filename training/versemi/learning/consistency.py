"""Learning from scans without labels: what the prompts say must agree with *foreground*.

VerSemi, arXiv 2311.11686, section III-C: on a CutMix of an unlabelled and a labelled image, the
element-wise maximum over all task prompts' probabilities must agree with the *foreground*
prompt's. As published, the target is not detached, and empty against empty scores a perfect Dice,
so that answering nothing is a solution. Here:

- the targets come from a teacher, a moving average of the network (Tarvainen & Valpola, *Mean
  teachers are better role models*, NeurIPS 2017), which looks at the unlabelled crop unmixed and
  with its own intensities, and carry no gradient;
- a voxel counts as far as the teacher agrees with itself: with ``1 - |max_k p_k - p_foreground|``;
- a target without a single voxel asks for nothing: a prediction of absence is no evidence of it;
- beyond the paper, the teacher's answer under each prompt is a pseudo-label for that prompt,
  weighted by the same agreement and by the teacher's confidence ``|2 p - 1|``.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from versemi.learning.data import MicroBatch
from versemi.learning.objective import Answer, Encoded, at_runs, over_prompts, prompt_loss
from versemi.tasks import FOREGROUND


def ramp_up(progress: float, length: float) -> float:
    """Weight of the unlabelled part, ``exp(-5 (1 - progress / length)^2)``, 1 after the ramp.

    Laine & Aila, *Temporal ensembling for semi-supervised learning*, ICLR 2017.

    Args:
        progress: share of the run that is done, 0..1.
        length: share of the run that the ramp takes.
    """
    rest = 1 - min(1.0, progress / length) if length > 0 else 0.0
    return math.exp(-5 * rest * rest)


def unlabelled_losses(
    answers: Sequence[Answer],
    teacher: Sequence[Encoded],
    batch: MicroBatch,
    *,
    consistency: bool,
    pseudo_labels: bool,
    taught: Collection[str] | None = None,
) -> dict[str, Tensor]:
    """Losses of a mixed micro-batch where its labels know nothing.

    Args:
        answers: the network's, on the mixed crops.
        teacher: the teacher's encoding of the unlabelled crops, unmixed.
        batch: the mixed crops; part 0 is the unlabelled scan.
        consistency: whether the maximum over prompts and *foreground* must agree; it needs a
            network with *foreground*.
        pseudo_labels: whether the teacher's answers teach the prompts.
        taught: the prompts that they teach, at least one; all if None.

    Returns:
        ``consistency`` and ``pseudo_labels``, scalars, those that were asked for.
    """
    found: dict[str, list[Tensor]] = {}
    for answer, guide, labels, asked in zip(
        answers, teacher, batch.labels, batch.prompts, strict=True
    ):
        with torch.no_grad():
            probability = torch.sigmoid(guide.logits(asked).float())
        of_unlabelled = torch.tensor(labels.unlabelled, device=labels.part.device)
        own = at_runs(of_unlabelled[labels.part.long()].flatten()[None], batch.runs)
        open_ = own & ~answer.known
        first = int(asked[0] == FOREGROUND)
        agreement = torch.ones_like(probability[0])
        if first:
            agreement = 1 - (probability[1:].amax(dim=0) - probability[0]).abs()
        if consistency and first:
            logits = torch.stack([answer.logits[0], answer.logits[1:].amax(dim=0)])
            target = torch.stack([probability[1:].amax(dim=0), probability[0]]) > 0.5
            weight = (agreement * own[0])[None].expand(2, -1)
            losses = _where_found(logits, target, weight)
            found.setdefault("consistency", []).append(losses.mean())
        if pseudo_labels:
            rows = [
                i for i, p in enumerate(asked) if i >= first and (taught is None or p in taught)
            ]
            confident = (2 * probability[rows] - 1).abs() * agreement
            losses = _where_found(
                answer.logits[rows], probability[rows] > 0.5, confident * open_[rows]
            )
            found.setdefault("pseudo_labels", []).append(over_prompts(losses))
    return {name: torch.stack(values).mean() for name, values in found.items()}


def _where_found(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """:func:`prompt_loss` of the rows whose target has any voxel that counts, 0 for the others."""
    there = (target * weight).sum(dim=1) > 1.0
    losses = prompt_loss(logits, target & (weight > 0), weight)
    return torch.where(there, losses, torch.zeros_like(losses))
