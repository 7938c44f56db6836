"""Runs of the simulation: with a learner that answers at once, and once with tiny networks."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable

import pytest
from finetuning import clock_in_steps, tiny_networks
from simulated import StandIn, made_up

from versemi.cli import main
from versemi.errors import InputError
from versemi.learning.callbacks import TrainingTime
from versemi.learning.simulation import learners
from versemi.learning.simulation.execution import check_folder_of, execute
from versemi.learning.simulation.plan import Run, whole_plan
from versemi.learning.simulation.report import write_report
from versemi.learning.simulation.settings import load_settings
from versemi.learning.simulation.stories import tell


@pytest.fixture
def go(small, balls, tmp_path) -> Callable[..., dict]:
    def one(name: str, learner: StandIn, base: str | None = None) -> dict:
        settings = load_settings()
        run = next(run for run in whole_plan(settings) if run.name == name)
        story = tell(settings, run.story, balls)
        return execute(run, story, settings, tmp_path / "out", learner, base=base)

    return one


def test_the_base_is_measured_shifted_unshifted_and_on_the_other_prompts(go):
    found = go("shift-base", StandIn())
    assert {row["dice"] for row in found["cases"]} == {0.6}
    assert {row["dice"] for row in found["unshifted"]} == {0.8}
    assert found["others"] == {p: {"dice": 0.8, "cases": 2} for p in ("liver", "right_kidney")}
    assert found["corrected"] == [] and found["base"] == "d" * 64


def test_a_learning_keeps_the_gates_verdict_and_corrects_as_many_as_it_says(go):
    learner = StandIn()
    found = go("shift-versemi-2", learner)
    assert (found["state"], found["reason"]) == ("available", "Passed: it is better.")
    assert found["corrected"] == ["mr_3", "mr_4"]
    cases = learner.libraries["shift-versemi-2"].cases()
    assert {case.name: bool(case.prompts) for case in cases} == {
        "mr_3": True,
        "mr_4": True,
        "mr_5": False,
    }
    assert {case.parent for case in cases if case.prompts} == {"stand-in base"}


def test_a_fresh_network_has_no_parent_and_no_other_prompt(go):
    learner = StandIn()
    found = go("shift-from-scratch-1", learner)
    assert "others" not in found and found["base"] is None and found["state"] == ""
    assert not any("base" in call for call in learner.calls)
    corrected = [c for c in learner.libraries["shift-from-scratch-1"].cases() if c.prompts]
    assert [case.parent for case in corrected] == [None]


def test_a_new_prompt_is_added_before_it_is_corrected(go):
    learner = StandIn()
    go("new-prompt-versemi-1-like-nothing", learner)
    assert "start nothing" in learner.calls
    assert "tuned new-prompt-versemi-1-like-nothing from like nothing" in learner.calls
    assert go("new-prompt-base", StandIn())["others"].keys() == {"left_atrium", "right_kidney"}


def test_the_ranked_order_is_that_of_the_ranking_and_a_random_one_of_its_seed(go):
    assert go("shift-versemi-1-ranked", StandIn())["corrected"] == ["mr_5"]
    first = go("shift-versemi-1-random-0", StandIn())["corrected"]
    second = go("shift-versemi-2-random-0", StandIn())["corrected"]
    assert second[:1] == first and len(second) == 2


def test_what_is_finished_is_not_done_again(go):
    first = go("shift-labels-only-1", StandIn())
    learner = StandIn()
    assert go("shift-labels-only-1", learner) == first and learner.calls == []


def test_a_run_that_was_stopped_goes_on_with_its_library_and_its_order(go):
    class Stopped(StandIn):
        def tuned(self, *arguments):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        go("shift-versemi-1-ranked", Stopped())
    learner = StandIn()
    assert go("shift-versemi-1-ranked", learner)["corrected"] == ["mr_5"]
    assert "ranked" not in learner.calls
    assert [c.version for c in learner.libraries["shift-versemi-1-ranked"].cases()] == [0, 0, 1]


def test_results_of_another_base_pack_are_not_gone_on_with(go):
    with pytest.raises(InputError, match=r"began with the base pack eeeeeeeeeeee, which is not in"):
        go("shift-versemi-1", StandIn(), base="e" * 64)
    go("shift-base", StandIn())
    with pytest.raises(InputError, match="is dddddddddddd, and the results that stand for 'shift'"):
        go("shift-versemi-1", StandIn(), base="e" * 64)
    assert go("shift-versemi-1", StandIn(), base="d" * 64)["run"] == "shift-versemi-1"


def test_a_folder_of_other_settings_is_not_gone_on_with(small, tmp_path):
    check_folder_of(load_settings(), tmp_path)
    check_folder_of(load_settings(), tmp_path)
    small["stories"]["shift"]["minutes"] = 30
    with pytest.raises(InputError, match="begun with other settings"):
        check_folder_of(load_settings(), tmp_path)


@pytest.fixture
def command(small, balls, tmp_path, monkeypatch) -> Callable[..., int]:
    """The command with a learner that answers at once."""
    monkeypatch.setattr(learners, "Engine", lambda *arguments: StandIn())

    def run(*more: str) -> int:
        arguments = ["--data", str(balls), "--out", str(tmp_path / "out")]
        with pytest.raises(SystemExit) as ended:
            main(["simulate", *arguments, "--docs", str(tmp_path / "docs"), *more])
        return ended.value.code

    return run


def test_the_command_runs_everything_and_goes_on_from_its_page(command, small, tmp_path, capsys):
    small["corrections"] = [2]
    small["choice"] = {"story": "shift", "ranked": [1], "random": [2], "seeds": [0]}
    small["stories"]["new-prompt"]["like_corrections"] = [2]
    out, docs = tmp_path / "out", tmp_path / "docs"
    assert command("--only", "shift-base", "--only", "shift-versemi-2") == 0
    page = (docs / "learning.md").read_text()
    assert "not run" in page and "0% recovered" in page
    names = [r["run"] for r in json.loads((docs / "learning.json").read_text())["results"]]
    assert names == ["shift-base", "shift-versemi-2"]
    assert command() == 0
    data = json.loads((docs / "learning.json").read_text())
    assert [r["run"] for r in data["results"]] == [run.name for run in whole_plan(load_settings())]
    assert "not run" not in (docs / "learning.md").read_text()
    for picture in ("shift", "new-prompt", "others", "choice"):
        assert (docs / "pictures" / f"learning-{picture}.png").stat().st_size > 5000

    # Another machine: the page is all that it has.
    shutil.rmtree(out)
    capsys.readouterr()
    assert command() == 0
    assert "learning" not in capsys.readouterr().err
    assert json.loads((docs / "learning.json").read_text()) == data
    shutil.rmtree(out)
    assert command("--report") == 0 and not out.exists()


def test_bad_input_is_one_sentence_and_code_two(command, small, tmp_path, capsys):
    def told(*more: str) -> str:
        capsys.readouterr()
        assert command(*more) == 2
        sentence = capsys.readouterr().err
        assert sentence.count("\n") == 1 and "Traceback" not in sentence
        return sentence

    assert "no finished run" in told("--report")
    assert "no story or run 'drift'" in told("--only", "drift")
    assert "There is no folder" in told("--data", str(tmp_path / "nowhere"))
    assert command("--only", "shift-base") == 0
    small["stories"]["shift"]["minutes"] = 20
    assert "other settings than this simulation" in told()
    (tmp_path / "docs" / "learning.json").write_text("{")
    assert "cannot be used" in told()


def test_a_page_without_results_says_that_nothing_has_been_run(small, tmp_path):
    page = write_report(load_settings(), [], tmp_path).read_text()
    runs = len(whole_plan(load_settings()))
    assert f"0 of {runs} runs" in page and page.count("| not run | not run yet |") == 5


def one_second(self: TrainingTime, *_: object) -> None:
    self.seconds += 1


def test_the_loop_runs_on_tiny_networks(small, balls, tmp_path, monkeypatch, capsys):
    clock_in_steps(monkeypatch, 4, small["stories"]["new-prompt"]["minutes"])
    # Three batches of a fresh network are its minutes.
    monkeypatch.setattr(TrainingTime, "on_train_batch_start", one_second)
    small["base"]["steps"] = 2
    out = tmp_path / "out"
    only = ["new-prompt-base", "new-prompt-versemi-1", "new-prompt-from-scratch-1"]
    arguments = ["simulate", "--data", str(balls), "--out", str(out), "--device", "cpu"]
    for name in only:
        arguments += ["--only", name]
    with tiny_networks(), pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 0, capsys.readouterr().err
    results = {r["run"]: r for r in json.loads((out / "learning.json").read_text())["results"]}
    assert list(results) == ["new-prompt-base", "new-prompt-versemi-1", "new-prompt-from-scratch-1"]
    for result in results.values():
        assert len(result["cases"]) == 2 and result["steps"] > 0
        assert all(0 <= row["dice"] <= 1 for row in result["cases"])
    assert results["new-prompt-from-scratch-1"]["steps"] == 3
    tuned = results["new-prompt-versemi-1"]
    assert tuned["state"] == "provisional" and "liver" in tuned["reason"]
    assert tuned["others"].keys() == {"left_atrium", "right_kidney"}
    manifest = json.loads((out / "new-prompt-base" / "pack" / "manifest.json").read_text())
    assert [task["id"] for task in manifest["tasks"]] == ["left_atrium", "right_kidney"]


def test_a_run_whose_pack_was_written_is_not_learnt_again(small, balls, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    report = {"seconds": 3.5, "steps": 8, "state": "available", "reason": "Passed."}
    (folder / "pack").mkdir(parents=True)
    (folder / "pack" / "finetuning.json").write_text(json.dumps(report))
    (folder / "pack.work").mkdir()
    monkeypatch.setattr(learners.ModelPack, "load", lambda path: path)
    settings = load_settings()
    engine = learners.Engine(settings, tmp_path / "prepared", "cpu", lambda sentence: None)
    learnt = engine.tuned(tell(settings, "shift", balls), tmp_path, None, "versemi", folder)
    assert (learnt.steps, learnt.state, learnt.pack) == (8, "available", folder / "pack")
    assert not (folder / "pack.work").exists()


def test_made_up_results_cover_the_plan(small):
    settings = load_settings()
    assert [Run.of(r) for r in made_up(settings)] == whole_plan(settings)
