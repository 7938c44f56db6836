"""A run from settings to a measured pack, on scans made here."""

from __future__ import annotations

import csv
import json

import pytest
import torch

from versemi.cli import main
from versemi.learning.configuration import build_sources, load_settings
from versemi.learning.data import StepDataset
from versemi.learning.run import train
from versemi.learning.trainer import PromptedTraining, run
from versemi.modelpack import ModelPack
from versemi.network import build_network


def losses(folder):
    rows = list(csv.DictReader(next(folder.glob("csv/**/metrics.csv")).open()))
    return [float(row["loss"]) for row in rows if row["loss"]]


def weights(module):
    return torch.cat([p.detach().flatten() for p in module.network.parameters()])


def start(settings, data, cache):
    torch.manual_seed(settings.seed)
    dataset = StepDataset(
        build_sources(settings, data, cache), steps=settings.steps, seed=settings.seed, mix=0.5
    )
    module = PromptedTraining(build_network(settings.network), steps=settings.steps)
    return module, dataset


def test_a_run_that_was_stopped_goes_on_to_the_same_weights(small_data, small_config, tmp_path):
    settings = load_settings(small_config)
    cache = tmp_path / "cache"
    whole, dataset = start(settings, small_data, cache)
    run(whole, dataset, tmp_path / "whole", epoch=2, workers=0, accelerator="cpu")

    class Stopped(Exception):
        pass

    class Stopping(PromptedTraining):
        def training_step(self, batch, index):
            if self.global_step >= 5:
                raise Stopped
            return super().training_step(batch, index)

    half, _ = start(settings, small_data, cache)
    half.__class__ = Stopping
    with pytest.raises(Stopped):
        run(half, dataset, tmp_path / "halved", epoch=2, workers=0, accelerator="cpu")
    resumed, _ = start(settings, small_data, cache)
    run(resumed, dataset, tmp_path / "halved", epoch=2, workers=0, accelerator="cpu")
    assert resumed.trainer.global_step == whole.trainer.global_step == 6
    # oneDNN sums in no fixed order on two threads; the course is the same up to that.
    assert torch.allclose(weights(resumed), weights(whole), atol=2e-3)


def test_training_lowers_the_loss_on_an_easy_problem(small_data, small_config, tmp_path):
    from dataclasses import replace

    settings = replace(load_settings(small_config), steps=60, rate=0.003, mix=0.0)
    train(settings, small_data, tmp_path, cache=tmp_path / "cache", workers=0, accelerator="cpu")
    course = losses(tmp_path)
    assert len(course) == 6
    assert sum(course[-2:]) < 0.9 * sum(course[:2])


def test_a_gradient_that_stays_infinite_ends_the_run_with_a_sentence(
    small_data, small_config, tmp_path, monkeypatch
):
    from versemi.errors import VersemiError
    from versemi.learning import trainer

    monkeypatch.setattr(trainer, "_MOST_LEFT_OUT", 1)
    settings = load_settings(small_config)
    module, dataset = start(settings, small_data, tmp_path / "cache")
    with torch.no_grad():
        module.network.rows.fill_(float("nan"))
    with pytest.raises(VersemiError, match="not finite for 2 steps in a row"):
        run(module, dataset, tmp_path / "run", workers=0, accelerator="cpu")


def test_the_command_line_trains_and_measures_a_pack(small_data, small_config, tmp_path, capsys):
    out = tmp_path / "run"
    arguments = ["--data", str(small_data), "--config", str(small_config), "--device", "cpu"]
    with pytest.raises(SystemExit) as ended:
        main(["train", *arguments, "--out", str(out)])
    assert ended.value.code == 0
    pack = ModelPack.load(out / "pack")
    assert pack.task_ids == ("left_atrium", "liver", "right_kidney")
    report = tmp_path / "report.json"
    with pytest.raises(SystemExit) as ended:
        main(["measure", str(out / "pack"), *arguments, "--json", str(report)])
    assert ended.value.code == 0
    measured = ModelPack.load(out / "pack")
    assert all(p.dice is not None for p in measured.manifest.prompts)
    cases = {
        row["case"] for part in json.loads(report.read_text()).values() for row in part["cases"]
    }
    assert cases == {"ct_2", "mr_2"}
    card = (out / "pack" / "README.md").read_text()
    assert "Left atrium" in card and "not a medical device" in card
    assert (out / "pack" / "LICENSE").is_file()


def test_a_missing_data_folder_is_one_sentence(tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["train", "--data", str(tmp_path / "none"), "--out", str(tmp_path / "run")])
    assert ended.value.code == 2
    assert "There is no folder" in capsys.readouterr().err
