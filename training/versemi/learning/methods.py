"""How a sample becomes a loss: VerSemi, and the rivals that it is measured against.

All of them share network, data and augmentation, and deliver the moving average of their weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor

from versemi.learning.consistency import ramp_up, unlabelled_losses
from versemi.learning.data import MicroBatch, Sample
from versemi.learning.objective import (
    Answer,
    Encoded,
    encode,
    over_prompts,
    prompt_loss,
    supervised_losses,
)
from versemi.network import PromptedNetwork

#: VerSemi's parts, each of which can be left out; without the last one network serves all groups of
#: prompts, as in the paper (:mod:`versemi.learning.learners`).
PARTS = ("prompt", "foreground", "synthetic", "consistency", "pseudo-labels", "group-networks")
#: Parts that another part has to be there for.
LIVES_ON = {"synthetic": "foreground", "consistency": "foreground"}
#: Parts that a run is without where nothing is said: they cost (``docs/benchmark-tried.md``).
LEFT_OUT = ("consistency", "foreground")
#: Rivals, most of them one model a task, as in the paper.
METHODS = ("versemi", "supervised", "single", "mean-teacher", "cps")
_NOISY_PASSES = 4
_NOISE_STD, _NOISE_LIMIT = 0.1, 0.2


@dataclass(frozen=True)
class MethodSettings:
    """Which method, and its weights.

    Attributes:
        name: one of `METHODS`.
        without: parts of VerSemi to leave out, of `PARTS`; by default `LEFT_OUT`.
        synthetic: share of labelled micro-batches that become the synthetic task.
        blank: share of labelled micro-batches that show nothing but noise.
        consistency: weight of the agreement between the prompts' maximum and *foreground*.
        pseudo_labels: weight of the teacher's answers about crops.
        whole_scans: whether the pseudo-labels are of whole scans instead, and count as labels do;
            see :mod:`versemi.learning.answering`.
        stable: Dice with the answer before from which on an answer about a whole scan counts.
        begin: share of the run before which no scan is looked at without its label.
        ramp: share of the run over which, from then on, the unlabelled weights rise.
        renew: share of the run after which the network answers anew about whole scans; 0 has it
            answer once.
        restart: whether the rate starts anew where the unlabelled part begins (Loshchilov & Hutter,
            *SGDR: stochastic gradient descent with warm restarts*, ICLR 2017).
        separation: weight of the cross-entropy over prompts where several share a crop.
        own_voxels: weight of a structure's own voxels at the start; it falls to zero.
        own_until: share of the run after which it is zero.
    """

    name: str = "versemi"
    without: tuple[str, ...] = LEFT_OUT
    synthetic: float = 0.25
    blank: float = 0.0
    consistency: float = 0.5
    pseudo_labels: float = 1.0
    whole_scans: bool = True
    stable: float = 0.7
    begin: float = 0.0
    renew: float = 0.25
    restart: bool = False
    ramp: float = 0.3
    separation: float = 0.0
    own_voxels: float = 0.1
    own_until: float = 0.5

    def supervision(self, done: float) -> dict[str, float]:
        """Weights of :func:`supervised_losses` when a share of the run is done."""
        left = max(0.0, 1 - done / self.own_until) if self.own_until else 0.0
        return {"separation": self.separation, "own": self.own_voxels * left}

    def unlabelled_weight(self, done: float) -> float:
        """What all unlabelled weights are multiplied with when a share of the run is done."""
        return ramp_up(max(0.0, done - self.begin), self.ramp)

    def weighted(self, unknown: Mapping[str, Tensor], done: float) -> dict[str, Tensor]:
        """Weigh the losses of :func:`unlabelled_losses` when a share of the run is done."""
        ramp = self.unlabelled_weight(done)
        weights = {"consistency": self.consistency, "pseudo_labels": self.pseudo_labels}
        return {name: ramp * weights[name] * value for name, value in unknown.items()}

    def has(self, part: str) -> bool:
        """Whether the run has this part of VerSemi, and the one that it lives on (`LIVES_ON`)."""
        if self.name not in ("versemi", "supervised"):
            return False
        if self.name == "supervised" and part != "prompt":
            return False
        return part not in self.without and LIVES_ON.get(part) not in self.without

    @property
    def mixed(self) -> float:
        """Share of the unlabelled crops that get a box of a labelled one.

        The consistency is about mixed images; without it they are not made.
        """
        return 1.0 if self.has("consistency") else 0.0

    @property
    def answers(self) -> bool:
        """Whether the run learns from pseudo-labels of whole scans."""
        return self.has("pseudo-labels") and self.whole_scans

    @property
    def one_model_a_task(self) -> bool:
        """Whether every task gets a network of its own."""
        return self.name in ("single", "mean-teacher", "cps")

    @property
    def unlabelled(self) -> bool:
        """Whether the run looks at unlabelled scans."""
        if self.name == "versemi":
            return self.has("consistency") or self.has("pseudo-labels")
        return self.name in ("mean-teacher", "cps")


@dataclass
class Networks:
    """What a method works with.

    Attributes:
        student: is trained.
        teacher: moving average of the student, never trained.
        partner: a second network that is trained, for cross pseudo supervision.
    """

    student: PromptedNetwork
    teacher: PromptedNetwork
    partner: PromptedNetwork | None = None


#: From networks, sample and the share of the run that is done to named losses, which are summed.
Method = Callable[[Networks, Sample, float], dict[str, Tensor]]


def build_method(settings: MethodSettings) -> Method:
    """The method that the settings describe."""
    if settings.name == "mean-teacher":
        return lambda networks, sample, done: _mean_teacher(networks, sample, done, settings)
    if settings.name == "cps":
        return lambda networks, sample, done: _cross_pseudo(networks, sample, done, settings)
    if settings.name == "versemi":
        return lambda networks, sample, done: _versemi(networks, sample, done, settings)
    return lambda networks, sample, done: _labelled(
        networks.student, sample.labelled, settings.supervision(done)
    )


def _labelled(
    network: PromptedNetwork, batch: MicroBatch, weights: Mapping[str, float]
) -> dict[str, Tensor]:
    """Labels only: *foreground* and prompts on the labelled crops, mixed or not."""
    return supervised_losses(_encoded(network, batch)[0], batch, **weights)[0]


def _encoded(network: PromptedNetwork, *batches: MicroBatch) -> list[list[Encoded]]:
    """Micro-batches of one shape after one pass; many small convolutions are slow on a CPU."""
    runs = [runs for batch in batches for runs in batch.runs_of_each]
    crops = iter(encode(network, torch.cat([batch.image for batch in batches]), runs))
    return [list(islice(crops, len(batch.image))) for batch in batches]


def labelled_and_mixed(
    network: PromptedNetwork, sample: Sample, weights: Mapping[str, float]
) -> tuple[dict[str, Tensor], list[Answer]]:
    """What the labels of a sample teach, those of its mixed crops included.

    Args:
        network: is trained.
        sample: with or without an unlabelled part.
        weights: of :func:`supervised_losses`.

    Returns:
        Named losses, those of the mixed crops with ``mixed_`` before their names; and the answers
        on the mixed crops, none without an unlabelled part.
    """
    if sample.unlabelled is None:
        return _labelled(network, sample.labelled, weights), []
    labelled, mixed = sample.labelled, sample.unlabelled.mixed
    own, others = _encoded(network, labelled, mixed)
    losses = supervised_losses(own, labelled, **weights)[0]
    known, answers = supervised_losses(others, mixed, **weights)
    return losses | {f"mixed_{name}": value for name, value in known.items()}, answers


def _versemi(
    networks: Networks, sample: Sample, done: float, settings: MethodSettings
) -> dict[str, Tensor]:
    """VerSemi (arXiv 2311.11686) with a teacher; see :mod:`versemi.learning.consistency`."""
    losses, answers = labelled_and_mixed(networks.student, sample, settings.supervision(done))
    if sample.unlabelled is None:
        return losses
    consistency = settings.has("consistency")
    pseudo_labels = settings.has("pseudo-labels") and not settings.whole_scans
    if not consistency and not pseudo_labels:
        return losses
    mixed = sample.unlabelled.mixed
    with torch.no_grad():
        teacher = encode(networks.teacher, sample.unlabelled.weak, mixed.runs_of_each)
    unknown = unlabelled_losses(
        answers, teacher, mixed, consistency=consistency, pseudo_labels=pseudo_labels
    )
    return losses | settings.weighted(unknown, done)


def _mean_teacher(
    networks: Networks, sample: Sample, done: float, settings: MethodSettings
) -> dict[str, Tensor]:
    """UA-MT: Yu et al., *Uncertainty-aware self-ensembling model*, MICCAI 2019, section 2.

    Squared difference to the teacher where its mean over noisy passes has an entropy below a
    threshold that rises from 3/4 to all of ln 2; weight 0.1 with ramp-up. Here the passes differ
    by their noise alone and are four, not eight.
    """
    weights = settings.supervision(done)
    if sample.unlabelled is None:
        return _labelled(networks.student, sample.labelled, weights)
    labelled, strong = sample.labelled, sample.unlabelled.strong
    own, crops = _encoded(networks.student, labelled, strong)
    losses = supervised_losses(own, labelled, **weights)[0]
    ramp = settings.unlabelled_weight(done)
    with torch.no_grad():
        passes = [
            encode(networks.teacher, _noisy(sample, i), strong.runs_of_each)
            for i in range(_NOISY_PASSES)
        ]
    terms = []
    for i, (crop, asked) in enumerate(zip(crops, strong.prompts, strict=True)):
        with torch.no_grad():
            mean = torch.stack([torch.sigmoid(p[i].logits(asked).float()) for p in passes]).mean(0)
            entropy = -(torch.xlogy(mean, mean) + torch.xlogy(1 - mean, 1 - mean))
            sure = (entropy < (0.75 + 0.25 * ramp) * torch.log(torch.tensor(2.0))).float()
        answer = torch.sigmoid(crop.logits(asked).float())
        terms.append(((answer - mean) ** 2 * sure).sum() / sure.sum().clamp(min=1.0))
    return losses | {"agreement": 0.1 * ramp * torch.stack(terms).mean()}


def _noisy(sample: Sample, number: int) -> Tensor:
    """The unlabelled crops with noise that depends on the sample and the pass alone."""
    assert sample.unlabelled is not None
    weak = sample.unlabelled.weak
    chance = torch.Generator().manual_seed(sample.number * _NOISY_PASSES + number)
    noise = torch.randn(weak.shape, generator=chance).to(weak.device) * _NOISE_STD
    return weak + noise.clamp(-_NOISE_LIMIT, _NOISE_LIMIT)


def _cross_pseudo(
    networks: Networks, sample: Sample, done: float, settings: MethodSettings
) -> dict[str, Tensor]:
    """CPS: Chen et al., *Semi-supervised semantic segmentation with cross pseudo supervision*,
    CVPR 2021, section 3. Each of two networks learns from the other's hard answers.
    """
    assert networks.partner is not None
    pair = (networks.student, networks.partner)
    batches = [sample.labelled, *([sample.unlabelled.strong] if sample.unlabelled else [])]
    losses: dict[str, Tensor] = {}
    unlabelled = []
    for number, network in enumerate(pair, start=1):
        own, *others = _encoded(network, *batches)
        found = supervised_losses(own, sample.labelled, **settings.supervision(done))[0]
        losses |= {f"{name}_{number}": value for name, value in found.items()}
        unlabelled += others
    if sample.unlabelled is None:
        return losses
    terms = [
        _cross(a, b, asked) + _cross(b, a, asked)
        for a, b, asked in zip(*unlabelled, sample.unlabelled.strong.prompts, strict=True)
    ]
    return losses | {"cross": settings.unlabelled_weight(done) * torch.stack(terms).mean()}


def _cross(learner: Encoded, other: Encoded, asked: list[str]) -> Tensor:
    with torch.no_grad():
        target = other.logits(asked) > 0
    return over_prompts(prompt_loss(learner.logits(asked), target, torch.ones_like(target)))
