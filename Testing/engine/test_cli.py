"""The command line, with a stand-in engine and, where it says so, the real one."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from commands import one_sentence
from versemi.cli import evaluate as evaluate_command
from versemi.cli import segment as segment_command
from versemi.cli import tasks as tasks_command
from versemi.errors import PackError
from versemi.manifest import Manifest, PromptSettings
from versemi.modelpack import ModelPack
from versemi.tasks import TASKS

PROMPTS = (
    PromptSettings(TASKS["left_atrium"]),
    PromptSettings(TASKS["spleen"], dice=0.9),
    PromptSettings(TASKS["portal_and_splenic_veins"]),
)
MANIFEST = Manifest(name="stand-in", version="1.2", network={}, prompts=PROMPTS, groups={})
PACK = ModelPack(Path("packs/stand-in"), MANIFEST, digest="")


class StandIn:
    """Calls spleen what is brighter than 100 and finds nothing else."""

    pack = PACK
    device = "cpu"

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []

    def segment(self, image, tasks, *, roi=None, modality=None, progress=None, cancel=None):
        self.calls.append({"tasks": list(tasks), "roi": roi, "modality": modality})
        if progress:
            progress(0.5, "Looking")
        values = (sitk.GetArrayFromImage(image) > 100) * np.uint8(TASKS["spleen"].label)
        labels = sitk.GetImageFromArray(values.astype(np.uint8))
        labels.CopyInformation(image)
        return SimpleNamespace(
            tasks=tuple(TASKS[task] for task in tasks),
            label_map=labels,
            uncertainty=lambda: sitk.Cast(labels, sitk.sitkFloat32),
            volumes_ml={task: 12.345 if task == "spleen" else 0.0 for task in tasks},
            warnings=["The scan looks odd."],
        )


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    engine = StandIn()
    for module in (segment_command, evaluate_command, tasks_command):
        monkeypatch.setattr(module, "load_pack", lambda path: PACK)
    for module in (segment_command, evaluate_command):
        monkeypatch.setattr(module, "make_segmenter", lambda pack, device: engine)
    return engine


def save(path: Path, values: np.ndarray, spacing: float = 1.0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(values.astype(np.int16))
    image.SetSpacing([spacing] * 3)
    sitk.WriteImage(image, str(path))
    return path


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    values = np.zeros((6, 7, 8)) - 900
    values[2:4, 2:5, 2:6] = 200
    return save(tmp_path / "in é" / "my.scan.nii.gz", values)


def test_tasks_lists_what_the_pack_knows_with_codes_and_notes(engine, run):
    code, out, _ = run("tasks")
    assert code == 0
    line = next(line for line in out.splitlines() if line.startswith("spleen"))
    assert " ".join(line.split()) == "spleen Spleen 3 CT ct abdomen 0.900 78961009 Spleen"
    assert "liver" not in out and "* portal_and_splenic_veins: One prompt for two veins" in out
    assert "stand-in 1.2" in out


def test_segment_writes_every_file_and_prints_volumes(engine, run, scan, tmp_path):
    code, out, err = run("segment", scan, "-t", "spleen", "-t", "left_atrium", "-o", tmp_path / "o")
    assert code == 0
    assert sorted(path.name for path in (tmp_path / "o").iterdir()) == [
        "my.scan.seg.nrrd",
        "my.scan_label_map.labels.csv",
        "my.scan_label_map.nii.gz",
        "my.scan_uncertainty.nii.gz",
    ]
    assert [line.split() for line in out.splitlines()[1:3]] == [
        ["spleen", "3", "12.35"],
        ["left_atrium", "1", "nothing", "found"],
    ]
    assert str(tmp_path / "o" / "my.scan.seg.nrrd") in out.splitlines()
    assert "Warning: The scan looks odd." in err.splitlines()
    assert engine.calls == [{"tasks": ["spleen", "left_atrium"], "roi": None, "modality": None}]


def test_options_reach_the_engine(engine, run, scan, tmp_path):
    roi = "--roi=-45,-12,-48,-2,-32,6"
    more = ("--modality", "MR", "--no-uncertainty", "-o", tmp_path)
    assert run("segment", scan, "-t", "spleen", "-t", "spleen", roi, *more)[0] == 0
    call = engine.calls[0]
    assert call["tasks"] == ["spleen"] and call["modality"] == "MR"
    assert tuple(call["roi"].size) == (33, 46, 38)
    assert not list(tmp_path.glob("*uncertainty*"))


def test_all_takes_the_prompts_of_the_guessed_or_given_modality(engine, run, scan, tmp_path):
    _, _, err = run("segment", scan, "--all", "-o", tmp_path)
    assert "The scan is CT (guessed" in err and "2 prompts of the group ct" in err
    _, _, err = run("segment", scan, "--all", "--modality", "MR", "-o", tmp_path)
    assert "The scan is MR: 1 prompts of the group lge_mr" in err
    assert [call["tasks"] for call in engine.calls] == [
        ["spleen", "portal_and_splenic_veins"],
        ["left_atrium"],
    ]
    assert [call["modality"] for call in engine.calls] == ["CT", "MR"]


def test_bad_input_is_one_sentence_and_code_2(engine, run, scan, tmp_path):
    to = ("-o", tmp_path / "out")
    assert "There is no file" in one_sentence(run("segment", tmp_path / "no", "-t", "spleen", *to))
    assert "either -t PROMPT" in one_sentence(run("segment", scan, *to))
    assert "either -t" in one_sentence(run("segment", scan, "-t", "spleen", "--all", *to))
    for prompt in ("liver", "brain"):
        sentence = one_sentence(run("segment", scan, "-t", prompt, *to))
        assert f"does not know the prompt '{prompt}'" in sentence
    sentence = one_sentence(run("segment", scan, "-t", "foreground", *to))
    assert "never enters a label map" in sentence
    assert "region '1,2'" in one_sentence(run("segment", scan, "--all", "--roi", "1,2", *to))
    assert "empty" in one_sentence(run("segment", scan, "--all", "--roi", "1,1,1,2,1,2", *to))
    assert not (tmp_path / "out").exists()


def test_an_unwritable_output_folder_is_one_sentence_before_anything_is_computed(
    engine, run, scan, tmp_path, monkeypatch
):
    for folder in (scan, scan / "below" / "a file"):
        sentence = one_sentence(run("segment", scan, "-t", "spleen", "-o", folder))
        assert "is a file" in sentence and "choose another folder" in sentence
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path)
    sentence = one_sentence(run("segment", scan, "-t", "spleen", "-o", tmp_path / "a" / "b"))
    assert f"written in {tmp_path};" in sentence
    assert engine.calls == [] and not (tmp_path / "a").exists()


def test_a_disk_that_is_full_for_some_library_is_one_sentence_too(engine, run, scan, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "events.out")

    monkeypatch.setattr(segment_command, "_one", full)
    sentence = one_sentence(run("segment", scan, "-t", "spleen", "-o", scan.parent / "out"))
    assert sentence.startswith("The disk or quota is full in writing events.out; make room")


def test_a_command_line_that_makes_no_sense_is_one_sentence_too(run, scan, tmp_path):
    to = ("-o", tmp_path / "out")
    sentence = one_sentence(run("segment", scan, "-t", "spleen"))
    assert "--output" in sentence and "see 'versemi segment --help'" in sentence
    for wrong in (("--device", "tpu"), ("--modality", "PT"), ("--tasks", "spleen")):
        assert wrong[0] in one_sentence(run("segment", scan, "--all", *to, *wrong))
    assert "'--label'" in one_sentence(run("evaluate", tmp_path, "-t", "spleen", "--label", "x"))
    assert "dance" in one_sentence(run("dance"))


def test_no_arguments_at_all_give_help(run):
    code, out, _ = run()
    assert code == 0 and "segment" in out and "evaluate" in out


def test_a_bad_pack_is_one_sentence_and_code_2(engine, run, scan, tmp_path, monkeypatch):
    def refuse(path):
        raise PackError("The pack is damaged.")

    monkeypatch.setattr(segment_command, "load_pack", refuse)
    assert "damaged" in one_sentence(run("segment", scan, "-t", "spleen", "-o", tmp_path / "out"))


@pytest.fixture
def library(tmp_path: Path) -> Path:
    for name, size in (("a", 4), ("b", 2)):
        image, label = np.zeros((10, 10, 10)), np.zeros((10, 10, 10))
        image[2:6, 2:6, 2:6] = 200
        label[2:6, 2:6, 2 : 2 + size] = 7
        save(tmp_path / "imagesTr" / f"{name}.nii.gz", image)
        save(tmp_path / "labelsTr" / f"{name}.nii.gz", label)
    return tmp_path


def test_evaluate_prints_a_table_and_writes_json(engine, run, library):
    file = library / "r" / "report.json"
    code, out, err = run("evaluate", library, "-t", "spleen", "--label", 7, "--json", file)
    assert code == 0
    line = next(line for line in out.splitlines() if line.startswith("spleen"))
    assert line.split()[1] == "0.833" and line.split()[5] == "2"
    report = json.loads(file.read_text())
    assert report["mean"]["dice"] == pytest.approx((1 + 2 / 3) / 2)
    assert [case["case"] for case in report["cases"]] == ["a", "b"]
    assert engine.calls[0]["modality"] == "CT"
    assert "Warning: a: The scan looks odd." in err


def test_evaluate_takes_several_prompts_in_one_go_and_a_choice_of_cases(engine, run, library):
    pairs = ("-t", "spleen", "--label", 7, "-t", "left_atrium", "--label", 7)
    (library / "names.txt").write_text("b\n\n")
    code, out, _ = run("evaluate", library, *pairs, "--cases", library / "names.txt")
    assert code == 0 and len(engine.calls) == 1
    assert "1 missed" in out and out.splitlines()[-1].split()[:2] == ["mean", "0.333"]
    (library / "names.json").write_text('["a", "b"]')
    run("evaluate", library, *pairs, "--cases", library / "names.json", "--cases", "a")
    assert len(engine.calls) == 3


def test_what_was_measured_is_not_lost_where_the_report_cannot_be_written(
    engine, run, library, monkeypatch
):
    from versemi import evaluation
    from versemi.errors import OutputError

    pair = ("-t", "spleen", "--label", 7)
    file = library / "imagesTr" / "a.nii.gz" / "report.json"
    assert "is a file" in one_sentence(run("evaluate", library, *pair, "--json", file))
    assert engine.calls == []

    def full(report, path):
        raise OutputError("The disk is full.")

    monkeypatch.setattr(evaluation, "write_report", full)
    code, out, err = run("evaluate", library, *pair, "--json", library / "report.json")
    assert code == 2 and "The disk is full." in err
    assert any(line.startswith("spleen") and "0.833" in line for line in out.splitlines())


def test_evaluate_refuses_what_does_not_fit(engine, run, library):
    pair = ("-t", "spleen", "--label", 7)
    assert "2 label values" in one_sentence(run("evaluate", library, *pair, "--label", 8))
    assert "given twice" in one_sentence(run("evaluate", library, *pair, *pair))
    assert "no folder imagesTr" in one_sentence(run("evaluate", library / "imagesTr", *pair))
    assert "no case z" in one_sentence(run("evaluate", library, *pair, "--cases", "z"))
    (library / "list.json").write_text("[1, 2]")
    sentence = one_sentence(run("evaluate", library, *pair, "--cases", library / "list.json"))
    assert "not a list of cases" in sentence
    sentence = one_sentence(run("evaluate", library, "-t", "spleen", "--label", 9))
    assert "value 9" in sentence


@pytest.mark.parametrize("command", ["segment", "evaluate", "tasks"])
def test_help_of_each_command_teaches(run, command):
    code, out, _ = run(command, "--help")
    assert code == 0 and "--pack" in out
    assert command == "tasks" or f"versemi {command} " in out


def test_the_real_engine_segments_and_is_measured(tiny_pack, run, tmp_path):
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        save(tmp_path / "imagesTr" / f"{name}.nii.gz", rng.normal(-50, 200, (30, 32, 34)), 4.0)
        save(tmp_path / "labelsTr" / f"{name}.nii.gz", rng.integers(0, 3, (30, 32, 34)), 4.0)
    own = ("--pack", tiny_pack, "--device", "cpu")
    image = tmp_path / "imagesTr" / "a.nii.gz"
    code, out, err = run("segment", image, "--all", "-o", tmp_path / "out", *own)
    assert code == 0, err
    assert "14 prompts of the groups ct, ct_fine" in err
    assert len(list((tmp_path / "out").iterdir())) == 4
    pairs = ("-t", "spleen", "--label", 1, "-t", "liver", "--label", 2)
    code, out, err = run("evaluate", tmp_path, *pairs, "--json", tmp_path / "r.json", *own)
    assert code == 0, err
    report = json.loads((tmp_path / "r.json").read_text())
    assert len(report["cases"]) == 4 and report["pack"]["name"] == "tiny"
    assert 0 <= report["mean"]["dice"] <= 1


def test_a_pack_with_a_changed_byte_is_one_sentence_and_code_2(tiny_pack, run, scan, tmp_path):
    pack = shutil.copytree(tiny_pack, tmp_path / "pack")
    weights = pack / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    to = ("-o", tmp_path / "out", "--pack", pack)
    assert "damaged" in one_sentence(run("segment", scan, "-t", "spleen", *to))
