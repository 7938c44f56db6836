"""The cross-entropy over prompts that tells neighbouring structures apart."""

from __future__ import annotations

import math

import pytest
import torch

from versemi.learning.methods import MethodSettings
from versemi.learning.objective import separation_loss

TARGET = torch.tensor([[True, True, True, False, False], [False, False, False, True, False]])


def test_each_structure_counts_the_same_whatever_its_size():
    logits = torch.zeros(2, 5)
    # Both answer alike everywhere: ln 2 for each of two structures, over the root of two.
    assert float(separation_loss(logits, TARGET)) == pytest.approx(2 * math.log(2) / math.sqrt(2))


def test_it_falls_where_the_right_prompt_answers_more_strongly_than_its_neighbour():
    apart = torch.where(TARGET, 3.0, -3.0)
    both = torch.full((2, 5), 3.0)
    assert float(separation_loss(apart, TARGET)) < 0.01 < float(separation_loss(both, TARGET))


def test_background_and_absent_structures_ask_for_nothing():
    logits = torch.randn(3, 5, requires_grad=True)
    none = separation_loss(logits, torch.zeros(3, 5, dtype=torch.bool))
    none.backward()
    assert float(none.detach()) == 0 and torch.equal(logits.grad, torch.zeros(3, 5))
    target = torch.cat([TARGET, torch.zeros(1, 5, dtype=torch.bool)])
    separation_loss(logits, target).backward()
    assert torch.equal(logits.grad[:, 4], torch.zeros(3))


def test_it_stays_while_the_weight_of_own_voxels_falls_to_nothing():
    settings = MethodSettings(separation=0.5, own_voxels=0.1, own_until=0.5)
    weights = [settings.supervision(done) for done in (0.0, 0.25, 0.5, 1.0)]
    assert [w["separation"] for w in weights] == [0.5] * 4
    assert [w["own"] for w in weights] == [0.1, 0.05, 0.0, 0.0]
    assert MethodSettings(own_until=0.0).supervision(0.0)["own"] == 0.0
