"""Which cases are held out, how the time is divided, and the clock."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from versemi.caselibrary import Case
from versemi.errors import Cancelled, InputError
from versemi.learning.finetuning.material import Corrected
from versemi.learning.finetuning.plan import make_plan
from versemi.learning.finetuning.split import split
from versemi.learning.finetuning.watch import Control, Watch


def corrected(id, *prompts):
    image, label = Path(f"{id}.nii.gz"), Path(f"{id}_label.nii.gz")
    case = Case(id, id, "CT", image, label, None, prompts, None, 1, "")
    return Corrected(case, prompts, tuple(range(1, len(prompts) + 1)))


def cases(count, *prompts):
    return [corrected(f"c{i}", *prompts) for i in range(count)]


def ids(items):
    return [item.case.id for item in items]


def test_one_case_leaves_nothing_to_hold_out():
    found = split(cases(1, "spleen"))
    assert found.kind == "none"
    assert [(s.name, ids(s.learnt), s.held_out) for s in found.stages] == [("final", ["c0"], ())]


@pytest.mark.parametrize("count", [2, 5, 7])
def test_few_cases_are_each_measured_once_by_a_run_that_did_not_learn_from_them(count):
    found = split(cases(count, "spleen"))
    assert found.kind == "two folds"
    first, second, final = found.stages
    for fold in (first, second):
        assert not set(ids(fold.held_out)) & set(ids(fold.learnt))
        assert set(ids(fold.held_out)) | set(ids(fold.learnt)) == set(ids(final.learnt))
    assert sorted(ids(first.held_out) + ids(second.held_out)) == [f"c{i}" for i in range(count)]
    assert abs(len(first.held_out) - len(second.held_out)) <= 1
    assert len(final.learnt) == count and final.held_out == ()
    assert sum(stage.share for stage in found.stages) == 1


def test_from_eight_cases_on_a_quarter_is_never_learnt_from():
    found = split(cases(9, "spleen"))
    assert found.kind == "hold-out" and len(found.stages) == 1
    final = found.stages[0]
    assert ids(final.held_out) == ["c3", "c7"] and len(final.learnt) == 7
    assert "2 of 9" in found.sentence()


def test_the_split_does_not_depend_on_the_order_of_the_cases():
    given = cases(6, "spleen")
    assert split(given).described() == split(given[::-1]).described()


def test_two_cases_of_one_prompt_do_not_fall_into_one_half():
    given = [
        corrected("a", "liver"),
        corrected("b", "spleen"),
        corrected("c", "liver"),
        corrected("d", "liver", "spleen"),
    ]
    first, second, _ = split(given).stages
    for prompt in ("liver", "spleen"):
        assert any(prompt in c.prompts for c in first.learnt)
        assert any(prompt in c.prompts for c in second.learnt)


def watch_at(monkeypatch, total, used):
    watch = Watch(total)
    monkeypatch.setattr(Watch, "used", property(lambda self: used))
    return watch


def test_room_for_measuring_is_left_before_learning_begins(monkeypatch):
    plan = make_plan(watch_at(monkeypatch, 900, 60), {"a": 7, "b": 7, "c": 7}, ["a", "b"], ["c"])
    assert plan.measuring == pytest.approx(1.2 * 21)
    assert plan.training == pytest.approx(900 - 60 - 2 * 1.2 * 21 - 18)
    assert plan.training + plan.reserve == pytest.approx(900 - 60)


def test_costly_scans_are_compared_less(monkeypatch):
    costs = dict.fromkeys("abcd", 60.0)
    plan = make_plan(watch_at(monkeypatch, 600, 240), costs, ["a"], ["b", "c", "d"])
    assert plan.compared == ["b"] and plan.training >= 0.3 * 600


def test_a_time_in_which_nothing_can_be_learnt_is_refused_with_one_that_can(monkeypatch):
    with pytest.raises(InputError, match=r"1 minutes are too short: .* give --minutes 4 or more"):
        make_plan(watch_at(monkeypatch, 60, 60), dict.fromkeys("ab", 40.0), ["a", "b"], [])


def test_a_pause_holds_the_run_and_does_not_count():
    control = Control()
    watch = Watch(60, control=control)
    control.pause()
    begun, before = time.monotonic(), watch.used
    threading.Timer(0.3, control.resume).start()
    watch.go_on()
    held = time.monotonic() - begun
    assert held >= 0.3
    assert watch.used - before < held - 0.25


def test_cancelling_ends_a_run_that_is_paused():
    control = Control()
    control.pause()
    threading.Timer(0.05, control.cancel).start()
    with pytest.raises(Cancelled, match="as they were"):
        Watch(60, control=control).go_on()
    assert control.given_up


def test_what_earlier_starts_used_counts():
    watch = Watch(100)
    watch.went_before(40)
    assert watch.used >= 40 and watch.left <= 60
