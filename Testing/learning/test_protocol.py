"""Protocols: who may read which label, and what a run of each method is."""

from __future__ import annotations

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk

from commands import one_sentence
from versemi.cli import main
from versemi.cli.options import Scale
from versemi.errors import InputError
from versemi.learning.methods import METHODS
from versemi.learning.protocol import SCALES, Protocol, runs_of, scale_settings, write_split
from versemi.learning.run import train
from versemi.modelpack import ModelPack


def course(folder):
    rows = list(csv.DictReader((folder / "csv" / "metrics.csv").open()))
    return [row["loss"] for row in rows if row["loss"]]


def test_every_scale_can_be_asked_for_and_says_everything():
    assert [scale.value for scale in Scale] == list(SCALES)
    scales = {name: scale_settings(name) for name in SCALES}
    assert len({frozenset(settings) for settings in scales.values()}) == 1


def test_a_scale_like_another_differs_only_where_it_says_so():
    fine, processor = scale_settings("fine"), scale_settings("processor")
    assert "like" not in fine
    assert fine["groups"]["lge_mr"]["whole_windows"] is True
    assert fine["groups"]["lge_mr"]["spacing"] != processor["groups"]["lge_mr"]["spacing"]
    assert fine["method"] == {**processor["method"], "without": ["consistency", "foreground"]}
    crop = {"crop": fine["tasks"]["left_atrium"]["crop"]}
    assert fine["tasks"] == {
        **processor["tasks"],
        "left_atrium": {**processor["tasks"]["left_atrium"], **crop},
    }


def test_every_method_becomes_runs_that_see_a_task_equally_often(protocol_file, scale):
    protocol = Protocol.load(protocol_file)
    for method in METHODS:
        runs = runs_of(protocol, fraction=10, method=method, scale=scale)
        samples = sum(run.steps * run.samples for run in runs.values())
        assert samples == 12
        one_each = method in ("single", "mean-teacher", "cps")
        assert list(runs) == (["liver", "left_atrium"] if one_each else ["all"])
        has_foreground = any("foreground" in run.prompts for run in runs.values())
        assert has_foreground == (method == "versemi")


def test_parts_of_versemi_can_be_left_out_and_foreground_takes_its_own_along(protocol_file, scale):
    protocol = Protocol.load(protocol_file)
    run = runs_of(protocol, fraction=10, method="versemi", without=["foreground"], scale=scale)
    method = run["all"].method
    assert not method.has("synthetic") and not method.has("consistency")
    assert method.has("pseudo-labels") and method.unlabelled
    with pytest.raises(InputError, match="no part 'magic'"):
        runs_of(protocol, fraction=10, method="versemi", without=["magic"], scale=scale)
    assert method.mixed == 0 and replace(method, without=()).mixed == 1
    with pytest.raises(InputError, match="no method 'magic'"):
        runs_of(protocol, fraction=10, method="magic", scale=scale)


def test_a_part_that_the_scale_leaves_out_can_be_put_back(protocol_file, scale):
    protocol = Protocol.load(protocol_file)
    scale = {**scale, "method": {**scale["method"], "without": ["consistency"]}}

    def parts(**more):
        run = runs_of(protocol, fraction=10, method="versemi", scale=scale, **more)
        return run["all"].method.without

    assert parts() == ("consistency",)
    assert parts(without=["prompt"]) == ("consistency", "prompt")
    assert parts(without=["prompt"], extra=["consistency"]) == ("prompt",)
    scale["method"]["without"] = ["consistency", "foreground"]
    assert parts(extra=["consistency", "foreground"]) == ()
    with pytest.raises(InputError, match="consistency lives on foreground, which this run is wi"):
        parts(extra=["consistency"])
    with pytest.raises(InputError, match="no part 'magic' to put back"):
        parts(extra=["magic"])
    with pytest.raises(InputError, match="prompt cannot be both left out and put back"):
        parts(without=["prompt"], extra=["prompt"])


@pytest.mark.parametrize("method", METHODS)
def test_labels_that_a_run_may_not_read_leave_no_trace_in_its_losses(
    protocol_file, scale, tmp_path, method
):
    import torch

    torch.set_num_threads(1)
    data = protocol_file.parent
    curves = []
    for attempt in ("before", "after"):
        if attempt == "after":
            rng = np.random.default_rng(7)
            for folder in ("ct", "mr"):
                for number in (1, 2):
                    path = data / folder / "labelsTr" / f"{folder}_{number}.nii.gz"
                    label = sitk.ReadImage(str(path))
                    noise = rng.integers(0, 2, label.GetSize()[::-1]).astype(np.uint8)
                    noisy = sitk.GetImageFromArray(noise)
                    noisy.CopyInformation(label)
                    sitk.WriteImage(noisy, str(path))
        # Every tenth step is logged: two of one run, or one of each task's.
        steps = 20 if method in ("versemi", "supervised") else 10
        short = {**scale, "steps": steps}
        runs = runs_of(Protocol.load(protocol_file), fraction=10, method=method, scale=short)
        losses = []
        for name, settings in runs.items():
            out = tmp_path / attempt / name
            cache = tmp_path / f"cache-{attempt}"
            train(settings, data, out, cache=cache, workers=0, device="cpu")
            losses += course(out)
        curves.append(losses)
    assert len(curves[0]) >= 2
    assert curves[0] == curves[1]


def test_a_split_of_the_pool_never_touches_the_measuring_cases(tmp_path):
    names = [f"case_{i}" for i in range(20)]
    task = {
        "dataset": "ct",
        "label": 1,
        "pool": names[:16],
        "labelled_10": names[:2],
        "labelled_20": names[:4],
        "devtest": names[16:],
    }
    path = tmp_path / "p.json"
    path.write_text(json.dumps({"name": "p", "tasks": {"liver": task, "spleen": task}}))
    protocol = Protocol.load(path)
    split = Protocol.load(write_split(protocol, 3, tmp_path / "split.json"))
    assert split.tasks[0].devtest == split.tasks[1].devtest
    for task in split.tasks:
        assert len(task.devtest) == 4 and len(task.pool) == 12
        assert set(task.devtest) | set(task.pool) == set(names[:16])
        assert len(task.labelled[10]) == 2
    again = protocol.split_pool(3)
    assert again == protocol.split_pool(3) != protocol.split_pool(4)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"labelled_10": ["ct_2"]}, "ct_2 labelled for liver, which is not in its pool"),
        ({"labelled_10": []}, "no labelled case for liver"),
        ({"devtest": ["ct_0"]}, "measures liver on ct_0, which is in its pool"),
        ({"pool": None}, "cannot be used"),
    ],
)
def test_a_protocol_that_contradicts_itself_is_refused(protocol_file, change, sentence):
    data = json.loads(protocol_file.read_text())
    data["tasks"]["liver"] |= change
    protocol_file.write_text(json.dumps(data))
    with pytest.raises(InputError, match=sentence):
        Protocol.load(protocol_file)


@pytest.mark.parametrize(
    ("part", "name", "sentence"),
    [
        ("imagesTr", "ct_1", "no scan of the case ct_1"),
        ("labelsTr", "ct_0", "no label map of the case ct_0"),
        # One that is for measuring: not hours later, when the run has ended.
        ("imagesTr", "ct_2", "no scan of the case ct_2"),
        ("labelsTr", "ct_2", "no label map of the case ct_2"),
    ],
)
def test_a_protocol_that_names_a_missing_case_is_one_sentence_and_code_2(
    protocol_file, scale, tmp_path, run, monkeypatch, part, name, sentence
):
    from versemi.learning import protocol

    monkeypatch.setattr(protocol, "shipped", lambda name: scale)
    for folder in ("imagesTr", "labelsTr") if part == "imagesTr" else (part,):
        (protocol_file.parent / "ct" / folder / f"{name}.nii.gz").unlink()
    out = tmp_path / "run"
    told = one_sentence(run("train", "--protocol", protocol_file, "--out", out))
    assert sentence in told and str(protocol_file.parent) in told
    assert not list(out.glob("*.ckpt"))


def test_the_command_line_trains_one_model_a_task(protocol_file, scale, tmp_path, monkeypatch):
    from versemi.learning import protocol

    monkeypatch.setattr(protocol, "shipped", lambda name: scale)
    out = tmp_path / "run"
    arguments = ["--protocol", str(protocol_file), "--method", "cps", "--device", "cpu"]
    with pytest.raises(SystemExit) as ended:
        main(["train", *arguments, "--steps", "2", "--out", str(out)])
    assert ended.value.code == 0
    for name in ("liver", "left_atrium"):
        assert ModelPack.load(out / name / "pack").task_ids == (name,)
        assert (out / name / "settings.yaml").is_file()


def test_a_run_can_be_of_one_task_of_a_protocol(protocol_file, scale, tmp_path, run, monkeypatch):
    from versemi.learning import protocol

    monkeypatch.setattr(protocol, "shipped", lambda name: scale)
    out = tmp_path / "run"
    code, _, _ = run(
        "train", "--protocol", protocol_file, "-t", "left_atrium", "--steps", "2", "--out", out
    )
    assert code == 0
    assert ModelPack.load(out / "pack").task_ids == ("left_atrium",)
    told = one_sentence(run("train", "--protocol", protocol_file, "-t", "aorta", "--out", out))
    assert "has no task aorta" in told and "liver, left_atrium" in told
    told = one_sentence(run("train", "--data", protocol_file.parent, "-t", "liver", "--out", out))
    assert "-t liver" in told and "--protocol" in told
