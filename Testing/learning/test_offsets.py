"""The last bias of each prompt, set after training."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from versemi.learning.offsets import SHIFTS, apply_offsets, best_shift, overlap_by_shift, trusted
from versemi.network import NetworkSettings, build_network


def test_the_dice_of_every_shift_is_that_of_the_shifted_logits():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (6, 7, 8))
    truth = rng.random(logits.shape) < 1 / (1 + np.exp(1.5 - logits))
    dice = overlap_by_shift(1 / (1 + np.exp(-logits)), truth)
    for shift, value in zip(SHIFTS, dice, strict=True):
        found = logits + shift > 0
        expected = 2 * (found & truth).sum() / (found.sum() + truth.sum())
        assert value == pytest.approx(expected)


def test_what_is_seen_too_large_is_shifted_down_and_what_is_right_stays():
    distance = np.abs(np.arange(-50, 50))
    truth = distance < 10
    too_large = 1 / (1 + np.exp(distance - 12.0))
    right = 1 / (1 + np.exp(4 * (distance - 9.6)))
    assert -3.0 <= best_shift(overlap_by_shift(too_large, truth)) <= -1.5
    assert best_shift(overlap_by_shift(right, truth)) == 0.0


def test_few_scans_are_trusted_less():
    assert trusted(16) == 0.5
    assert trusted(1) < 0.1 < 0.8 == trusted(64)


def test_offsets_move_the_logits_of_their_own_prompts_only():
    network = build_network(NetworkSettings(("liver", "spleen", "foreground"), features=8)).eval()
    image, index = torch.randn(1, 1, 32, 32, 32), torch.arange(3)
    with torch.inference_mode():
        before = network(image, index)
        apply_offsets(network, {"spleen": -1.5})
        moved = network(image, index) - before
    assert torch.allclose(moved[:, 1], torch.tensor(-1.5), atol=1e-4)
    assert torch.equal(moved[:, 0], torch.zeros_like(moved[:, 0]))
    assert torch.equal(moved[:, 2], torch.zeros_like(moved[:, 2]))
