"""The gate's decisions, from numbers that are handed to it."""

from __future__ import annotations

import pytest

from versemi.learning.finetuning.gate import Agreed, HeldOut, judge

AGREES = [Agreed("a", "liver", 0.97), Agreed("b", "liver", 0.96)]


def spleen(parent, tuned, case="a", there=True):
    return HeldOut(case, "spleen", there, parent, tuned)


def test_a_pack_that_is_better_and_forgets_nothing_passes():
    verdict = judge(["spleen"], (), [spleen(0.7, 0.8), spleen(0.8, 0.76, "b")], AGREES)
    assert verdict.standing == "candidate" and verdict.passed
    assert verdict.dice["spleen"]["parent"] == pytest.approx(0.75)
    assert verdict.dice["spleen"]["tuned"] == pytest.approx(0.78)
    assert "0.780 on 2 held-out cases (parent 0.750)" in verdict.reason


def test_a_dice_below_the_parents_does_not_pass():
    verdict = judge(["spleen"], (), [spleen(0.9, 0.95), spleen(0.9, 0.84, "b")], AGREES)
    assert verdict.standing == "aside"
    assert "spleen: Dice 0.895 on 2 held-out cases, where the parent has 0.900" in verdict.reason


def test_the_same_dice_passes():
    assert judge(["spleen"], (), [spleen(0.9, 0.9)], AGREES).standing == "candidate"


def test_forgetting_does_not_pass_and_names_the_prompt_that_lost_most():
    agreed = [Agreed("a", "liver", 0.99), Agreed("a", "aorta", 0.9)]
    verdict = judge(["spleen"], (), [spleen(0.7, 0.8)], agreed)
    assert verdict.standing == "aside"
    assert "0.945, less than 0.95 (least: aorta, 0.900)" in verdict.reason
    assert verdict.agreement["prompts"] == {"aorta": 0.9, "liver": 0.99}


def test_a_new_prompt_has_to_reach_the_floor_though_its_parent_knew_nothing():
    below = judge(["thymus"], {"thymus"}, [HeldOut("a", "thymus", True, 0.0, 0.49)], AGREES)
    above = judge(["thymus"], {"thymus"}, [HeldOut("a", "thymus", True, 0.0, 0.5)], AGREES)
    assert below.standing == "aside" and "has to reach 0.5" in below.reason
    assert above.standing == "candidate"


def test_an_old_prompt_below_the_floor_passes_if_it_became_no_worse():
    assert judge(["spleen"], (), [spleen(0.3, 0.4)], AGREES).standing == "candidate"


def test_what_could_not_be_held_out_makes_a_pack_provisional():
    verdict = judge(["spleen"], (), [], AGREES)
    assert verdict.standing == "provisional" and verdict.passed
    assert "too few: spleen" in verdict.reason and "0.965" in verdict.reason


def test_one_unmeasured_prompt_beside_a_measured_one_is_enough_for_provisional():
    verdict = judge(["spleen", "pancreas"], (), [spleen(0.7, 0.8)], AGREES)
    assert verdict.standing == "provisional" and "too few: pancreas" in verdict.reason


def test_a_pack_with_nothing_to_compare_says_so():
    verdict = judge(["left_atrium"], (), [], [])
    assert verdict.standing == "provisional" and verdict.agreement["mean"] is None
    assert "no other prompt to compare" in verdict.reason


def test_forgetting_is_not_excused_by_a_lack_of_held_out_cases():
    assert judge(["spleen"], (), [], [Agreed("a", "liver", 0.5)]).standing == "aside"


def test_finding_what_is_not_there_more_often_than_the_parent_does_not_pass():
    rows = [spleen(0.7, 0.8), spleen(None, 0.0, "b", there=False)]
    verdict = judge(["spleen"], (), rows, AGREES)
    assert verdict.standing == "aside"
    assert "found in 1 held-out cases that do not have it, by the parent in 0" in verdict.reason


def test_a_case_without_the_structure_does_not_count_for_its_mean():
    rows = [spleen(0.7, 0.8), spleen(0.0, None, "b", there=False)]
    verdict = judge(["spleen"], (), rows, AGREES)
    assert verdict.standing == "candidate"
    assert verdict.dice["spleen"]["tuned"] == 0.8 and verdict.dice["spleen"]["cases"] == 1
