"""What the simulation consists of, and which cases its stories take."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from simulated import write_data

from versemi.errors import InputError
from versemi.learning.simulation.plan import Run, chosen, whole_plan
from versemi.learning.simulation.settings import load_settings
from versemi.learning.simulation.stories import tell

REPOSITORY = Path(__file__).resolve().parents[2]
REAL = Path(os.environ.get("VERSEMI_DATA") or REPOSITORY.parent / "shared" / "data")


def test_the_shipped_plan_compares_three_ways_at_one_two_four_and_eight_corrections():
    plan = whole_plan(load_settings())
    names = [run.name for run in plan]
    assert len(names) == len(set(names))
    for story in ("shift", "new-prompt"):
        assert {
            (run.way, run.corrections)
            for run in plan
            if run.story == story and run.order == "arrival" and not run.compared
        } == {("base", 0)} | {
            (way, count)
            for way in ("versemi", "labels-only", "from-scratch")
            for count in (1, 2, 4, 8)
        }
    assert {(run.corrections, run.like) for run in plan if run.compared} == {
        (count, like) for count in (1, 4) for like in ("spleen", "nothing")
    }
    orders = [(run.order, run.corrections) for run in plan if run.order != "arrival"]
    assert sorted(orders) == sorted(
        [("ranked", 4), *((f"random-{seed}", count) for seed in range(5) for count in (4, 6))]
    )


def test_a_run_can_be_told_from_its_result():
    for run in whole_plan(load_settings()):
        assert Run.of(json.loads(json.dumps(run.described()))) == run


def test_the_name_of_a_story_stands_for_all_its_runs(small):
    settings = load_settings()
    assert {run.story for run in chosen(settings, ["shift"])} == {"shift"}
    assert [run.name for run in chosen(settings, ["new-prompt-versemi-2"])] == [
        "new-prompt-versemi-2"
    ]
    assert chosen(settings, []) == whole_plan(settings)
    with pytest.raises(InputError, match="no story or run 'drift'; the stories are shift, new"):
        chosen(settings, ["drift"])


def test_no_case_has_two_parts_in_a_story(small, balls):
    for name in ("shift", "new-prompt"):
        story = tell(load_settings(), name, balls)
        source = next(s for s in story.base.sources if s["name"] == story.telling.source)
        parts = [
            source["labelled"],
            [case.name for case in story.stream],
            [case.name for case in story.held_out],
        ]
        everyone = [case for part in parts for case in part]
        assert len(everyone) == len(set(everyone)) and all(parts)
        assert source["measure"] == parts[2]


def test_the_base_of_a_new_prompt_knows_all_prompts_but_that_one(small, balls):
    story = tell(load_settings(), "new-prompt", balls)
    assert story.base.prompts == ("left_atrium", "right_kidney", "foreground")
    assert story.hidden == {"ct": {1: "liver"}}
    assert {p for part in story.others for p in part.labels} == {"left_atrium", "right_kidney"}
    shifted = tell(load_settings(), "shift", balls)
    assert shifted.base.prompts == ("left_atrium", "liver", "right_kidney", "foreground")
    assert shifted.hidden == {}
    assert {p for part in shifted.others for p in part.labels} == {"liver", "right_kidney"}


def test_data_without_what_a_story_needs_is_told_in_a_sentence(small, tmp_path):
    with pytest.raises(InputError, match="There is no folder .*nowhere; give the folder"):
        tell(load_settings(), "shift", tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"The protocol .*small.json cannot be used"):
        tell(load_settings(), "shift", tmp_path)
    data = write_data(tmp_path / "balls")
    (data / "mr" / "labelsTr" / "mr_4.nii.gz").unlink()
    with pytest.raises(InputError, match="no label map of the case mr_4"):
        tell(load_settings(), "shift", data)
    small["stories"]["new-prompt"]["cases"]["stream"] = 6
    with pytest.raises(InputError, match=r"needs 2 \+ 6 cases, and the pool .* has 7"):
        tell(load_settings(), "new-prompt", data)
    small["stories"]["new-prompt"]["cases"]["task"] = "left_atrium"
    with pytest.raises(InputError, match="has no task 'left_atrium' on ct"):
        tell(load_settings(), "new-prompt", data)


def test_settings_that_make_no_sense_are_told_in_a_sentence(small):
    small["ways"] = ["versemi", "magic"]
    with pytest.raises(InputError, match="the way 'magic'"):
        load_settings()
    small["ways"] = ["versemi"]
    small["stories"]["shift"]["shift"]["noise"] = [0.3, 0.1]
    with pytest.raises(InputError, match=r"simulation.yaml cannot be used: .*noise.*0.3"):
        load_settings()
    small["stories"]["shift"]["shift"]["noise"] = [0.1, 0.1]
    small["corrections"] = [1, 4]
    with pytest.raises(InputError, match="look at 2 corrections, after which nothing is learnt"):
        load_settings()
    del small["stories"]["shift"]["minutes"]
    with pytest.raises(InputError, match="cannot be used: KeyError"):
        load_settings()


@pytest.mark.skipif(not REAL.is_dir(), reason="the research scans are not here")
def test_the_research_scans_have_what_both_stories_need(registry_as_it_was):
    settings = load_settings()
    shift, new = (tell(settings, name, REAL) for name in ("shift", "new-prompt"))
    assert (len(shift.stream), len(shift.held_out)) == (24, 16)
    assert (len(new.stream), len(new.held_out)) == (8, 4)
    assert new.value == 6 and "liver" not in new.base.prompts
