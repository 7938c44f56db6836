"""The benchmark's plan, its runs, and the page about them."""

from __future__ import annotations

import csv
import json
import shutil

import pytest

from versemi.cli import main
from versemi.learning.benchmark import plan
from versemi.learning.benchmark.execution import (
    flatness,
    loss_curve,
    mean_dice,
    task_mean,
    thinned,
)
from versemi.learning.benchmark.plan import Configuration, doubted, strongest_rival, whole_plan
from versemi.learning.benchmark.progress import course, seconds_to
from versemi.learning.benchmark.verdicts import targets, worth


def test_the_plan_holds_what_a_reader_wants_to_know_and_nothing_twice():
    every = whole_plan("cps")
    names = [c.folder for c in every]
    assert len(set(names)) == len(names)
    assert {c.method for c in every if c.fraction == 10 and not c.without} == set(plan.METHODS)
    for method in ("versemi", "cps"):
        assert {c.seed for c in every if c.method == method and not c.without} == {0, 1, 2}
    assert {c.without for c in every if c.without} == {(part,) for part in plan.PARTS}
    assert {c.method for c in every if c.fraction == 20} == {"versemi", "supervised", "cps"}


def test_a_part_that_is_left_out_by_default_is_put_back_for_its_ablation():
    every = whole_plan("cps", ["consistency"])
    assert {c.folder for c in every if c.extra} == {
        f"10-versemi-with-consistency-{seed}" for seed in (0, 1, 2)
    }
    assert ("consistency",) not in {c.without for c in every}
    added = next(c for c in every if c.extra)
    assert added.variant == "versemi with consistency" and not added.followed
    before = {"fraction": 10, "method": "versemi", "without": [], "seed": 0}
    assert Configuration.of({**before, "with": ["consistency"]}) == added
    assert Configuration.of(before) == Configuration(10, "versemi")


def test_a_part_that_lives_on_one_left_out_is_judged_where_both_are_back():
    left_out = ["consistency", "foreground"]
    names = [c.folder for c in whole_plan("cps", left_out)]
    for seed in (0, 1, 2):
        assert f"10-versemi-with-foreground-{seed}" in names
        assert f"10-versemi-with-foreground-with-consistency-{seed}" in names
    assert "10-versemi-with-foreground-without-synthetic-0" in names
    assert len(set(names)) == len(names) and "10-versemi-without-prompt-0" in names
    every = plan.everything(left_out)
    assert set(names) < {c.folder for c in every} and len(set(every)) == len(every)

    back = (Configuration(10, "versemi", (), 0, ("foreground",)), 0.4)
    costly = (Configuration(10, "versemi", ("synthetic",), 0, ("foreground",)), 0.45)
    default = (Configuration(10, "versemi"), 0.5)
    assert [c.folder for c in doubted([default, back, costly], left_out)] == [
        "10-versemi-with-foreground-without-synthetic-1",
        "10-versemi-with-foreground-without-synthetic-2",
    ]
    assert not doubted([default, (costly[0], 0.35), back], left_out)


def test_the_strongest_rival_is_the_one_with_the_best_mean():
    means = [
        (Configuration(10, m), v) for m, v in (("versemi", 0.9), ("single", 0.6), ("cps", 0.7))
    ]
    assert strongest_rival(means) == "cps"


def test_a_part_that_costs_with_the_first_seed_is_left_out_with_the_others_too():
    default = (Configuration(10, "versemi"), 0.5)
    without = [(Configuration(10, "versemi", (p,)), 0.49) for p in plan.PARTS if p != "foreground"]
    costly = (Configuration(10, "versemi", ("foreground",)), 0.51)
    assert not doubted([default, *without])
    assert [c.folder for c in doubted([default, *without, costly])] == [
        "10-versemi-without-foreground-1",
        "10-versemi-without-foreground-2",
    ]
    assert not doubted([costly])  # with nothing to compare it with


def test_a_mean_leaves_out_what_is_undefined():
    rows = [
        {"task": "liver", "dice": 0.5, "hd95_mm": None},
        {"task": "liver", "dice": None, "hd95_mm": None},
        {"task": "spleen", "dice": 0.9, "hd95_mm": 3.0},
        {"task": "aorta", "dice": None, "hd95_mm": None},
    ]
    result = {"cases": rows}
    assert task_mean(result, "liver", "dice") == 0.5
    assert task_mean(result, "liver", "hd95_mm") is None
    assert mean_dice(result) == pytest.approx(0.7)
    assert mean_dice({"cases": rows[-1:]}) is None


def test_flatness_is_the_share_by_which_the_loss_still_fell(tmp_path):
    log = tmp_path / "metrics.csv"
    losses = [1.0] * 80 + [0.5] * 10 + [0.4] * 10
    log.write_text("step,loss\n" + "".join(f"{i},{v}\n" for i, v in enumerate(losses)))
    assert flatness(loss_curve(log)) == pytest.approx(0.2)
    assert flatness(loss_curve(tmp_path / "none.csv")) is None


def test_a_course_comes_to_a_dice_on_the_straight_line_between_its_points():
    points = [(100.0, 0.2), (200.0, 0.6), (300.0, 0.5)]
    assert seconds_to(points, 0.1) == pytest.approx(50)
    assert seconds_to(points, 0.4) == pytest.approx(150)
    assert seconds_to(points, 0.6) == pytest.approx(200)
    assert seconds_to(points, 0.7) is None and seconds_to([], 0.1) is None


def test_models_of_one_task_stand_at_the_same_share_of_their_steps():
    def run(task: str, *points: tuple[float, float]) -> dict:
        return {"progress": [{"seconds": s, "dice": {task: d}} for s, d in points]}

    result = {"runs": [run("liver", (10, 0.2), (20, 0.4)), run("spleen", (5, 0.6), (9, 1.0))]}
    assert course(result) == [(15, pytest.approx(0.4)), (29, pytest.approx(0.7))]


def test_a_thinned_curve_ends_where_the_run_did_and_keeps_its_mean():
    curve = [(10 * i, float(i)) for i in range(1, 241)]
    thin = thinned(curve)
    assert len(thin) == 60 and thin[-1][0] == 2400
    assert sum(v for _, v in thin) / 60 == pytest.approx(sum(v for _, v in curve) / 240)
    assert thinned([]) == []


def test_the_command_runs_resumes_and_writes_its_page(
    protocol_file, scale, tmp_path, monkeypatch, capsys
):
    from versemi.learning import configuration, protocol

    round_ = [Configuration(10, "versemi"), Configuration(10, "single")]
    for module in (protocol, configuration):
        monkeypatch.setattr(module, "shipped", lambda name: {**scale, "steps": 12})
    monkeypatch.setattr(plan, "first_round", lambda: round_)
    monkeypatch.setattr(
        plan, "whole_plan", lambda rival, _: [*round_, Configuration(10, "versemi", ("synthetic",))]
    )
    monkeypatch.setattr(plan, "doubted", lambda *_: [])
    out, docs = tmp_path / "runs", tmp_path / "docs"
    command = ["benchmark", "--protocol", str(protocol_file), "--out", str(out), "--device", "cpu"]

    def go(*more: str) -> int:
        with pytest.raises(SystemExit) as ended:
            main([*command, "--docs", str(docs), *more])
        return ended.value.code

    assert go("--only", "10-versemi-without-synthetic-0") == 0
    assert [result.parent.name for result in out.rglob("result.json")] == [
        "10-versemi-without-synthetic-0"
    ]
    assert go() == 0
    page = (docs / "benchmark.md").read_text()
    assert "versemi without synthetic" in page and "Left atrium" in page
    summary = json.loads((docs / "benchmark.json").read_text())
    assert [r["method"] for r in summary["results"]] == ["versemi", "single", "versemi"]
    assert all(r["runs"][0]["seconds"] > 0 for r in summary["results"])
    rows = list(csv.DictReader((docs / "benchmark-cases.csv").open()))
    assert {row["case"] for row in rows} == {"ct_2", "mr_2"} and len(rows) == 6
    for run in (run for result in summary["results"][:2] for run in result["runs"]):
        points = run["progress"]
        assert [p["steps"] for p in points] == [round(run["steps"] * n / 4) for n in range(1, 5)]
        assert points[-1]["seconds"] == run["seconds"] > points[0]["seconds"] > 0
    # Only whole methods with the first seed are followed along their runs.
    (ablated,) = summary["results"][2]["runs"]
    assert [p["steps"] for p in ablated["progress"]] == [ablated["steps"]]
    versemi, single = (course(result) for result in summary["results"][:2])
    assert versemi[-1][1] == pytest.approx(summary["results"][0]["mean_dice"])
    assert len(single) == 4
    for picture in ("benchmark-dice.png", "benchmark-losses.png", "benchmark-progress.png"):
        assert (docs / "pictures" / picture).stat().st_size > 1000

    before = (out / "10-versemi-0" / "result.json").stat().st_mtime_ns
    capsys.readouterr()
    assert go("--report") == 0
    assert "training" not in capsys.readouterr().err
    assert (out / "10-versemi-0" / "result.json").stat().st_mtime_ns == before

    # Another machine: the page is all that it has.
    shutil.rmtree(out)
    assert go() == 0
    assert not any(out.rglob("pack"))
    assert json.loads((docs / "benchmark.json").read_text()) == summary

    assert go("--only", "10-nothing-0") == 2
    assert "no configuration 10-nothing-0" in capsys.readouterr().err

    summary["scale"]["steps"] = 13
    (docs / "benchmark.json").write_text(json.dumps(summary))
    assert go() == 2
    assert "another protocol or scale" in capsys.readouterr().err

    summary["scale"]["steps"] = 12
    del summary["results"][0]["runs"][0]["hardware"]
    (docs / "benchmark.json").write_text(json.dumps(summary))
    assert go() == 2
    assert "cannot be used (KeyError('hardware')); move it away" in " ".join(
        capsys.readouterr().err.split()
    )


# The verdicts -----------------------------------------------------------------------------------


ALL_PARTS = {"method": {"without": []}}


def result_of(method, dice, without=(), seed=0, **more):
    rows = [{"task": "left_atrium", "dice": value} for value in dice]
    of = {"fraction": 10, "method": method, "without": without, "seed": seed, **more}
    return {**of, "cases": rows}


RIVALS_AT_80 = [result_of(m, [0.8]) for m in ("supervised", "single", "mean-teacher", "cps")]


@pytest.mark.parametrize(
    ("dice", "margin", "atrium"), [(0.88, "met", "met"), (0.81, "**not met**", "**not met**")]
)
def test_the_page_says_whether_the_targets_are_met(dice, margin, atrium):
    lines = targets([result_of("versemi", [dice]), *RIVALS_AT_80], ["left_atrium"])
    assert f"| {margin} | {100 * dice:.1f} against 80.0 of" in lines[2]
    assert f"{100 * dice - 80:+.1f} |" in lines[2]
    assert lines[3].endswith(f"| {atrium} | {100 * dice:.1f} |")


def test_a_rival_that_was_not_run_leaves_a_margin_open_and_never_makes_it():
    results = [result_of("versemi", [0.9]), *RIVALS_AT_80[:3]]
    (line,) = targets(results, ["spleen"])[2:]
    assert "| not run |" in line and line.endswith("; not run yet: cps |")
    behind = [result_of("versemi", [0.7]), *RIVALS_AT_80[:3]]
    assert "| **not met** |" in targets(behind, ["spleen"])[2]
    assert "| not run |" in targets([result_of("versemi", [0.9])], ["spleen"])[2]


def test_seeds_are_averaged_for_a_target_and_one_is_compared_for_a_part():
    both = [result_of("versemi", [0.8]), result_of("versemi", [0.9], seed=1)]
    without = result_of("versemi", [0.77], ("consistency",))
    again = result_of("versemi", [0.91], ("foreground",), seed=1)
    results = [*both, without, again, *RIVALS_AT_80]
    assert "85.0 against 80.0" in targets(results, ["left_atrium"])[2]
    lines = worth(results, ["left_atrium"], ALL_PARTS)
    assert "| by default | 0 | 80.0 | 80.0 | |" in lines
    assert "| by default | 1 | 90.0 | 90.0 | |" in lines
    assert "| without consistency | 0 | 77.0 | 77.0 | +3.0 |" in lines
    assert "| without foreground | 1 | 91.0 | 91.0 | -1.0 |" in lines
    assert "| without prompt | 0 | - | - | - |" in lines
    assert not any("without prompt | 1" in line for line in lines)


def test_a_part_that_is_put_back_is_worth_what_it_adds():
    added = result_of("versemi", [0.77], seed=1, **{"with": ["consistency"]})
    both = [result_of("versemi", [0.8]), result_of("versemi", [0.81], seed=1)]
    scale = {"method": {"without": ["consistency"]}}
    lines = worth([*both, added], ["left_atrium"], scale)
    assert "| with consistency | 1 | 77.0 | 77.0 | -4.0 |" in lines
    assert "| with consistency | 0 | - | - | - |" in lines


def test_a_part_that_lives_on_one_put_back_is_compared_with_a_run_that_has_that_one():
    def run(dice, *extra, without=()):
        return result_of("versemi", [dice], without, **{"with": extra})

    results = [
        run(0.8),
        run(0.78, "foreground"),
        run(0.77, "foreground", "consistency"),
        run(0.75, "foreground", without=("synthetic",)),
    ]
    lines = worth(results, ["left_atrium"], {"method": {"without": ["consistency", "foreground"]}})
    assert "| with foreground | 0 | 78.0 | 78.0 | -2.0 |" in lines
    assert "| with foreground with consistency | 0 | 77.0 | 77.0 | -1.0 |" in lines
    assert "| with foreground without synthetic | 0 | 75.0 | 75.0 | +3.0 |" in lines
