"""What unlabelled crops teach, and what they must not."""

from __future__ import annotations

import pytest
import torch

from versemi.learning.consistency import ramp_up, unlabelled_losses
from versemi.learning.data import RUN, MicroBatch
from versemi.learning.methods import MethodSettings
from versemi.learning.mixing import MixedLabels
from versemi.learning.objective import Answer

SHAPE = (16, 16, 16)
ASKED = ["foreground", "spleen", "liver"]
VOXELS = 16**3


class Says:
    """A teacher with fixed probabilities ``(K, N)`` instead of a network."""

    def __init__(self, probability):
        self.probability = probability

    def logits(self, asked):
        return torch.logit(self.probability, eps=1e-4)


def batch(part=None):
    values = torch.zeros(SHAPE, dtype=torch.uint8)
    part = torch.zeros(SHAPE, dtype=torch.uint8) if part is None else part
    covered = (frozenset(), frozenset({"spleen"}))
    labels = MixedLabels(values, part, covered, (frozenset(), frozenset()), (True, False))
    image = torch.zeros(1, 1, *SHAPE)
    return MicroBatch(image, [labels], ["a"], [ASKED], torch.arange(VOXELS // RUN))


def answer(logits, known=None):
    known = torch.zeros(logits.shape, dtype=torch.bool) if known is None else known
    return Answer(logits, torch.zeros_like(known), known)


def losses(logits, probability, batch_=None, known=None):
    return unlabelled_losses(
        [answer(logits, known)],
        [Says(probability)],
        batch_ or batch(),
        consistency=True,
        pseudo_labels=True,
    )


def teacher_with_spleen(foreground=0.98, spleen=0.98):
    probability = torch.full((3, VOXELS), 0.01)
    probability[0, :500] = foreground
    probability[1, :500] = spleen
    return probability


def test_the_ramp_rises_from_almost_nothing_to_one():
    assert ramp_up(0.0, 0.3) == pytest.approx(0.0067, abs=1e-3)
    assert ramp_up(0.15, 0.3) == pytest.approx(0.2865, abs=1e-3)
    assert ramp_up(0.3, 0.3) == ramp_up(0.9, 0.3) == 1.0


def test_the_ramp_of_a_run_that_begins_with_labels_alone_starts_when_they_end():
    method = MethodSettings(begin=0.4, ramp=0.2)
    assert method.unlabelled_weight(0.4) == ramp_up(0.0, 0.2)
    assert method.unlabelled_weight(0.5) == pytest.approx(ramp_up(0.1, 0.2))
    assert method.unlabelled_weight(0.6) == method.unlabelled_weight(1.0) == 1.0


def test_agreeing_with_the_teacher_costs_less_than_answering_nothing():
    probability = teacher_with_spleen()
    good = torch.logit(probability, eps=1e-3)
    nothing = torch.full_like(good, -6.0)
    for name in ("consistency", "pseudo_labels"):
        assert losses(good, probability)[name] < 0.1 * losses(nothing, probability)[name]


def test_a_teacher_that_finds_nothing_teaches_nothing():
    """Otherwise empty against empty is a perfect answer, and a solution of the whole problem."""
    probability = torch.full((3, VOXELS), 0.01)
    logits = torch.randn(3, VOXELS, requires_grad=True)
    found = losses(logits, probability)
    assert found["consistency"] == found["pseudo_labels"] == 0


def test_no_gradient_reaches_the_teacher():
    probability = teacher_with_spleen().requires_grad_()
    logits = torch.randn(3, VOXELS, requires_grad=True)
    sum(losses(logits, probability).values()).backward()
    assert probability.grad is None
    assert logits.grad.abs().sum() > 0


def test_where_the_teacher_disagrees_with_itself_it_weighs_little():
    torch.manual_seed(0)
    agreed = teacher_with_spleen()
    torn = agreed.clone()
    torn[0, :500] = 0.02  # no foreground where it says spleen
    gradients = []
    for probability in (agreed, torn):
        logits = torch.zeros(3, VOXELS, requires_grad=True)
        losses(logits, probability)["pseudo_labels"].backward()
        gradients.append(float(logits.grad[1, :500].abs().sum()))
    assert gradients[1] < 0.2 * gradients[0]


def test_the_labelled_part_and_known_prompts_are_left_to_the_labels():
    probability = teacher_with_spleen()
    part = torch.zeros(SHAPE, dtype=torch.uint8)
    part.view(-1)[:256] = 1
    known = torch.zeros(3, VOXELS, dtype=torch.bool)
    known[1] = True
    logits = torch.zeros(3, VOXELS, requires_grad=True)
    found = losses(logits, probability, batch(part), known)
    sum(found.values()).backward()
    assert logits.grad[:, :256].abs().sum() == 0
    found = losses(logits.detach().requires_grad_(), probability, batch(part), known)
    assert found["pseudo_labels"] == 0  # spleen is known, and the teacher sees no liver
