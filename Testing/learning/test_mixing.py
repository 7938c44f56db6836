"""CutMix and what partial labels say."""

from __future__ import annotations

import numpy as np
import torch

from versemi.learning.augmentation import swap_sides
from versemi.learning.mixing import MixedLabels, random_box
from versemi.learning.objective import doubtful_prompts, prompt_loss
from versemi.tasks import TASKS

LIVER, SPLEEN, TUMOUR = (TASKS[t].label for t in ("liver", "spleen", "lung_tumour"))


def crop(value=0, box=None, shape=(8, 8, 8)):
    values = torch.zeros(shape, dtype=torch.uint8)
    if box is not None:
        values[box] = value
    return values


def mixed():
    abdomen = MixedLabels.plain(crop(LIVER, np.s_[0:4]), ("liver", "spleen"))
    lung = MixedLabels.plain(crop(TUMOUR, np.s_[2:6, 2:6, 2:6], (6, 6, 6)), ("lung_tumour",))
    here, there = np.s_[2:6, 2:6, 2:6], np.s_[0:4, 0:4, 0:4]
    return abdomen.with_box(here, lung, there)


def test_foreground_of_a_mixed_crop_is_what_either_source_labels():
    labels = mixed()
    target, known = labels.target("foreground")
    assert known.all()
    assert target[0, 0, 0] and target[5, 5, 5]
    assert not target[2, 2, 2]  # liver before, air of the lung crop now


def test_a_prompt_is_known_in_its_own_part_and_where_another_structure_is_labelled():
    target, known = mixed().target("liver")
    assert known[0, 0, 0] and target[0, 0, 0]
    assert not known[2, 2, 2]  # background of the lung crop says nothing of the liver
    assert known[5, 5, 5] and not target[5, 5, 5]  # a tumour voxel is not liver


def test_the_partner_keeps_its_own_prompt():
    labels = mixed()
    target, known = labels.target("lung_tumour")
    assert target[5, 5, 5] and known[2, 2, 2]
    assert not known[7, 7, 7]  # background of the abdomen says nothing of tumours
    assert labels.present() == {"liver", "lung_tumour"}


def test_boxes_fit_into_crops_of_different_shapes():
    rng = np.random.default_rng(0)
    for _ in range(200):
        a, b = tuple(rng.integers(4, 40, 3)), tuple(rng.integers(4, 40, 3))
        here, there = random_box(rng, a, b)
        for h, t, n, m in zip(here, there, a, b, strict=True):
            assert 0 <= h.start < h.stop <= n
            assert 0 <= t.start < t.stop <= m
            assert h.stop - h.start == t.stop - t.start


def test_prompts_of_the_group_that_are_not_covered_are_doubtful():
    labels = MixedLabels.plain(crop(), ("spleen",))
    assert "liver" in doubtful_prompts(labels)
    assert "left_atrium" not in doubtful_prompts(labels)


def test_a_left_right_flip_swaps_sided_prompts_and_no_others():
    values = torch.tensor([TASKS["left_kidney"].label, LIVER, 0], dtype=torch.uint8)
    assert swap_sides(values).tolist() == [TASKS["right_kidney"].label, LIVER, 0]


def test_the_loss_of_an_absent_prompt_has_no_dice_to_win_by_answering_nothing():
    known = torch.ones(1, 100, dtype=torch.bool)
    target = torch.zeros(1, 100, dtype=torch.bool)
    low, lower = (float(prompt_loss(torch.full((1, 100), v), target, known)) for v in (-4.0, -8.0))
    assert 0 <= lower < low < 0.02


def test_the_loss_falls_as_the_answer_gets_better_and_ignores_the_unknown():
    target = torch.zeros(1, 100, dtype=torch.bool)
    target[0, :10] = True
    known = torch.ones(1, 100, dtype=torch.bool)
    known[0, 50:] = False
    good = torch.where(target, 5.0, -5.0)
    bad = -good
    assert float(prompt_loss(good, target, known)) < 0.1 < float(prompt_loss(bad, target, known))
    wrong_outside = good.clone()
    wrong_outside[0, 50:] = 9.0
    same = prompt_loss(wrong_outside, target, known)
    assert torch.allclose(same, prompt_loss(good, target, known))


def test_dice_of_a_perfect_and_of_an_inverted_answer_are_zero_and_one():
    target = torch.zeros(1, 1000, dtype=torch.bool)
    target[0, :500] = True
    known = torch.ones_like(target)
    sure = torch.where(target, 30.0, -30.0)
    assert float(prompt_loss(sure, target, known)) < 1e-3
    entropy_of_wrong = 30.0 + 0.1 * 30.0  # over all voxels, and a tenth over its own
    assert abs(float(prompt_loss(-sure, target, known, 0.1)) - entropy_of_wrong - 1) < 0.01


def test_a_prompt_that_answers_nothing_still_feels_its_own_few_voxels():
    target = torch.zeros(1, 200_000, dtype=torch.bool)
    target[0, :300] = True
    logits = torch.full((1, 200_000), -9.0, requires_grad=True)
    prompt_loss(logits, target, torch.ones_like(target), 0.1).sum().backward()
    plain = 300 / 200_000  # what the mean over all voxels alone would give them together
    assert float(-logits.grad[0, :300].sum()) > 50 * plain
