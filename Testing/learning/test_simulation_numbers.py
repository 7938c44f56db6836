"""From results to targets that are met or not, and what the page says."""

from __future__ import annotations

import copy

import pytest
from simulated import SETTINGS, made_up, result, row

from versemi.learning.simulation import settings as simulation
from versemi.learning.simulation.numbers import Results, changes, judged, mean_dice
from versemi.learning.simulation.plan import Run
from versemi.learning.simulation.report import write_report
from versemi.learning.simulation.settings import Settings, load_settings

KEPT = {"others": {"liver": {"dice": 0.9, "cases": 4}}}


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setattr(simulation, "shipped", lambda name: copy.deepcopy(SETTINGS))
    return load_settings()


def verdicts(settings: Settings, *results: dict) -> dict[str, tuple[bool | None, str]]:
    names = ("recovered", "organ", "kept", "helped", "chosen")
    found = judged(settings, Results(results))
    return {name: (j.met, j.found) for name, j in zip(names, found, strict=True)}


def base(dice: float, unshifted: float) -> dict:
    return result(Run("shift", "base"), [dice], unshifted=[row("case 0", unshifted)], **KEPT)


def tuned(dice: float, way: str = "versemi", corrections: int = 2, **more) -> dict:
    return result(Run("shift", way, corrections), [dice], **{**KEPT, **more})


def test_nothing_is_judged_that_has_not_been_run(settings):
    assert {met for met, _ in verdicts(settings).values()} == {None}
    assert verdicts(settings, base(0.6, 0.8))["recovered"] == (None, "not run yet")


def test_half_of_what_the_shift_cost_has_to_come_back(settings):
    met, found = verdicts(settings, base(0.6, 0.8), tuned(0.7001))["recovered"]
    assert met is True and found.endswith("50% recovered")
    met, found = verdicts(settings, base(0.6, 0.8), tuned(0.65))["recovered"]
    assert met is False and found.endswith("25% recovered")
    met, found = verdicts(settings, base(0.8, 0.8), tuned(0.9))["recovered"]
    assert met is False and "cost nothing" in found
    # Another number of corrections is not the one that the target speaks of.
    assert verdicts(settings, base(0.6, 0.8), tuned(0.8, corrections=1))["recovered"][0] is None


def test_a_new_organ_is_judged_by_its_own_dice(settings):
    for dice, met in ((0.8, True), (0.799, False)):
        made = result(Run("new-prompt", "versemi", 2, like="foreground"), [dice])
        assert verdicts(settings, made)["organ"] == (met, f"Dice {dice:.3f}")


def test_one_prompt_that_lost_more_than_a_point_is_enough_to_fail(settings):
    less = {"others": {"liver": {"dice": 0.895, "cases": 4}}}
    worse = {"others": {"liver": {"dice": 0.88, "cases": 4}}}
    assert verdicts(settings, base(0.6, 0.8), tuned(0.7, **less))["kept"][0] is True
    met, found = verdicts(
        settings, base(0.6, 0.8), tuned(0.7, **less), tuned(0.7, corrections=1, **worse)
    )["kept"]
    assert met is False
    assert "1 of 2" in found and "-0.020 (liver, shift-versemi-1)" in found


def test_a_prompt_that_is_undefined_before_or_after_has_no_change():
    empty = {"others": {"liver": {"dice": None, "cases": 4}}}
    assert changes(tuned(0.7, **empty), base(0.6, 0.8)) == {}
    assert changes(tuned(0.7), {**base(0.6, 0.8), **empty}) == {}


def test_unlabelled_scans_help_only_if_they_do_in_every_story(settings):
    better = [tuned(0.75), tuned(0.7, way="labels-only")]
    met, found = verdicts(settings, *better)["helped"]
    assert met is True and "they help: shift +0.050 of Dice, better in 1 of 1" in found
    elsewhere = [
        result(Run("new-prompt", way, 2, like="foreground"), [dice])
        for way, dice in (("versemi", 0.7), ("labels-only", 0.8))
    ]
    met, found = verdicts(settings, *better, *elsewhere)["helped"]
    assert met is False and found.startswith("they do not help everywhere")
    met, found = verdicts(settings, *elsewhere)["helped"]
    assert met is False and found.startswith("they do not help:")


def test_ranked_order_is_judged_when_every_random_one_is_there(settings):
    def ordered(order: str, corrections: int, dice: float) -> dict:
        return result(Run("shift", "versemi", corrections, order), [dice])

    ranked = ordered("ranked", 1, 0.7)
    random = [ordered(f"random-{seed}", 2, dice) for seed, dice in ((0, 0.6), (1, 0.78))]
    assert verdicts(settings, ranked, random[0])["chosen"][0] is None
    met, found = verdicts(settings, ranked, *random)["chosen"]
    assert met is True and found.startswith("it does: Dice 0.700 against 0.690")
    met, found = verdicts(settings, ordered("ranked", 1, 0.68), *random)["chosen"]
    assert met is False and found.startswith("it does not")


def test_runs_of_another_order_or_start_are_no_part_of_the_curve(settings):
    usual = tuned(0.7)
    ordered = result(Run("shift", "versemi", 2, "random-0"), [0.1])
    like = [
        result(Run("new-prompt", "versemi", 1, like="foreground"), [0.5]),
        result(Run("new-prompt", "versemi", 1, like="nothing", compared=True), [0.4]),
    ]
    found = Results([usual, ordered, *like])
    assert found.usual("shift", "versemi") == {2: usual}
    assert found.usual("new-prompt", "versemi") == {1: like[0]}
    assert found.like("new-prompt", 1) == {"foreground": like[0], "nothing": like[1]}


def test_a_mean_leaves_out_what_is_undefined():
    made = result(Run("shift", "versemi", 1), [0.5])
    made["cases"].append(row("case 1", None))
    assert mean_dice(made) == 0.5 and mean_dice(None) is None


def test_the_page_tells_every_number_from_the_results(settings, tmp_path):
    results = made_up(settings)
    page = write_report(settings, results, tmp_path).read_text()
    for made in results:
        if made["order"] == "arrival":
            assert f"{mean_dice(made):.3f}" in page
    runs = len(results)
    assert f"{runs} of {runs} runs have been done; on 2 cores of a machine." in page
    assert "| met |" in page and "not run" not in page
    assert page.count("](pictures/") == 4
    for name in ("shift", "new-prompt", "others", "choice"):
        assert (tmp_path / "pictures" / f"learning-{name}.png").is_file()
