"""A run from settings to a measured pack, on scans made here."""

from __future__ import annotations

import csv
import json
from dataclasses import replace

import pytest
import torch

from versemi.cli import main
from versemi.errors import InputError
from versemi.learning.configuration import load_settings
from versemi.learning.data import SampleDataset
from versemi.learning.run import train
from versemi.learning.sources import build_sources
from versemi.learning.trainer import PromptedTraining, run
from versemi.modelpack import ModelPack
from versemi.network import build_network


def losses(folder):
    rows = list(csv.DictReader(next(folder.glob("csv/**/metrics.csv")).open()))
    return [float(row["loss"]) for row in rows if row["loss"]]


def weights(module):
    each = [learner.network for learner in module.learners.each()]
    return torch.cat([p.detach().flatten() for network in each for p in network.parameters()])


def without(part, settings):
    return replace(settings, method=replace(settings.method, without=(part,)))


def start(settings, data, cache, kind=PromptedTraining):
    torch.manual_seed(settings.seed)
    dataset = SampleDataset(
        build_sources(settings.sources, data, cache, unlabelled=True),
        settings.prompts,
        steps=settings.steps,
        samples=settings.samples,
        seed=settings.seed,
        synthetic=0.5,
        unlabelled=True,
    )
    network = build_network(settings.network)
    module = kind(
        network,
        settings.method,
        steps=settings.steps,
        described=settings.described(),
        groups=("ct", "lge_mr"),
    )
    return module, dataset


@pytest.mark.parametrize("part", ["prompt", "group-networks"])
def test_a_run_that_was_stopped_goes_on_to_the_same_weights(
    small_data, small_config, tmp_path, part
):
    """With a network for each group, and with one for all."""
    settings = without(part, load_settings(small_config))
    cache = tmp_path / "cache"
    whole, dataset = start(settings, small_data, cache)
    run(whole, dataset, tmp_path / "whole", epoch=2, workers=0, device="cpu")

    class Stopped(Exception):
        pass

    class Stopping(PromptedTraining):
        def training_step(self, batch, index):
            if self.global_step >= 5:
                raise Stopped
            return super().training_step(batch, index)

    half, _ = start(settings, small_data, cache, Stopping)
    with pytest.raises(Stopped):
        run(half, dataset, tmp_path / "halved", epoch=2, workers=0, device="cpu")
    resumed, _ = start(settings, small_data, cache)
    run(resumed, dataset, tmp_path / "halved", epoch=2, workers=0, device="cpu")
    assert resumed.trainer.global_step == whole.trainer.global_step == 6
    # oneDNN sums in no fixed order on two threads; the course is the same up to that.
    assert torch.allclose(weights(resumed), weights(whole), atol=2e-3)


def test_a_step_moves_the_network_of_its_group_alone(small_data, small_config, tmp_path):
    settings = replace(load_settings(small_config), steps=10, samples=1)
    seen = []

    class Watched(PromptedTraining):
        def on_train_batch_end(self, outputs, batch, index):
            super().on_train_batch_end(outputs, batch, index)
            learners = [self.learners.of(group) for group in ("ct", "lge_mr")]
            rows = [
                (one.network.rows.detach().clone(), one.average.rows.clone()) for one in learners
            ]
            seen.append((batch.group, rows))

    module, dataset = start(settings, small_data, tmp_path / "cache", Watched)
    run(module, dataset, tmp_path / "run", workers=0, device="cpu")
    assert {group for group, _ in seen[1:]} == {"ct", "lge_mr"}
    for (_, before), (group, after) in zip(seen, seen[1:], strict=False):
        for name, then, now in zip(("ct", "lge_mr"), before, after, strict=True):
            # Weights and moving average, both or neither.
            moved = [not torch.equal(a, b) for a, b in zip(then, now, strict=True)]
            assert moved == [name == group] * 2
    networks = module.averages()
    assert networks.of("ct") is not networks.of("lge_mr") and len(networks.each()) == 2
    assert torch.equal(networks.of("lge_mr").rows, seen[-1][1][1][1])


@pytest.mark.parametrize("parts, groups", [(["group-networks"], ("ct", "lge_mr")), ([], ("ct",))])
def test_one_network_serves_all_groups_where_that_is_asked_for_and_a_lone_group_always(
    small_config, parts, groups
):
    settings = load_settings(small_config)
    method = replace(settings.method, without=tuple(parts))
    module = PromptedTraining(build_network(settings.network), method, steps=4, groups=groups)
    assert module.averages().each() == (module.teacher,)
    assert all(module.learners.of(group).network is module.network for group in groups)


def test_the_rate_starts_anew_where_the_unlabelled_part_begins(small_config):
    settings = load_settings(small_config)

    def shares(**changes):
        method = replace(settings.method, begin=0.5, **changes)
        module = PromptedTraining(build_network(settings.network), method, steps=1000)
        return [module.rate_share(step) for step in (100, 499, 500, 750, 999)]

    assert shares() == pytest.approx([1.0, 0.59, 0.59, 0.18, 0.0], abs=0.01)
    assert shares(restart=True) == pytest.approx([1.0, 0.0, 1.0, 0.5, 0.0], abs=0.01)
    parts = ("consistency", "pseudo-labels")
    assert shares(restart=True, without=parts) == shares()  # there is no such part


@pytest.mark.parametrize("fast, precision", [(True, "bf16-mixed"), (False, "32-true")])
def test_a_cpu_without_bf16_trains_in_float32(
    small_data, small_config, tmp_path, monkeypatch, fast, precision
):
    monkeypatch.setattr("versemi.inference.device._cpu_is_fast_at_bf16", lambda: fast)
    settings = replace(load_settings(small_config), steps=1, samples=1)
    module, dataset = start(settings, small_data, tmp_path / "cache")
    run(module, dataset, tmp_path / "run", workers=0, device="cpu")
    assert module.trainer.precision == precision
    assert module.trainer.global_step == 1


def test_training_lowers_the_loss_on_an_easy_problem(small_data, small_config, tmp_path):
    settings = replace(load_settings(small_config), steps=40, rate=0.003)
    train(settings, small_data, tmp_path, cache=tmp_path / "cache", workers=0, device="cpu")
    course = losses(tmp_path)
    assert len(course) == 4
    assert sum(course[-2:]) < 0.9 * sum(course[:2])


def test_a_gradient_that_stays_infinite_ends_the_run_with_a_sentence(
    small_data, small_config, tmp_path, monkeypatch
):
    from versemi.errors import VersemiError
    from versemi.learning import trainer

    monkeypatch.setattr(trainer, "_MOST_LEFT_OUT", 1)

    class Diverging(PromptedTraining):
        def on_after_backward(self):
            for learner in self.learners.each():
                if learner.network.rows.grad is not None:
                    learner.network.rows.grad.fill_(float("inf"))

    settings = load_settings(small_config)
    module, dataset = start(settings, small_data, tmp_path / "cache", Diverging)
    with pytest.raises(VersemiError, match="not finite for 2 steps in a row"):
        run(module, dataset, tmp_path / "run", workers=0, device="cpu")


def test_a_loss_that_is_no_number_ends_the_run_and_names_the_scans(
    small_data, small_config, tmp_path
):
    from versemi.errors import VersemiError

    class Poisoned(PromptedTraining):
        def on_train_batch_start(self, batch, index):
            if self.global_step == 4:
                for learner in self.learners.each():
                    torch.nn.init.constant_(learner.network.rows, float("nan"))

    settings = load_settings(small_config)
    module, dataset = start(settings, small_data, tmp_path / "cache", Poisoned)
    with pytest.raises(VersemiError, match=r"nan at step 4, sample 8 \((ct|mr)_\d"):
        run(module, dataset, tmp_path / "run", epoch=2, workers=0, device="cpu")
    kept = torch.load(tmp_path / "run" / "last.ckpt", weights_only=False)
    assert kept["global_step"] == 4
    assert all(torch.isfinite(v).all() for v in kept["state_dict"].values())


def test_a_checkpoint_of_other_settings_is_refused(small_data, small_config, tmp_path):
    settings = load_settings(small_config)
    module, dataset = start(settings, small_data, tmp_path / "cache")
    run(module, dataset, tmp_path / "run", epoch=3, workers=0, device="cpu")
    other, dataset = start(replace(settings, rate=0.5), small_data, tmp_path / "cache")
    with pytest.raises(InputError, match="rate was 0.001 and is 0.5"):
        run(other, dataset, tmp_path / "run", epoch=3, workers=0, device="cpu")


def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before(
    small_data, small_config, tmp_path, monkeypatch
):
    import errno

    from versemi.errors import OutputError
    from versemi.learning import callbacks

    settings = load_settings(small_config)
    module, dataset = start(settings, small_data, tmp_path / "cache")
    rename = callbacks.os.replace
    done = []

    def full_after_one(source, target):
        if done:
            raise OSError(errno.ENOSPC, "No space left on device")
        done.append(target)
        rename(source, target)

    monkeypatch.setattr(callbacks.os, "replace", full_after_one)
    with pytest.raises(OutputError, match="No space left"):
        run(module, dataset, tmp_path / "run", epoch=2, workers=0, device="cpu")
    assert [p.name for p in (tmp_path / "run").glob("*.ckpt*")] == ["last.ckpt"]
    kept = torch.load(tmp_path / "run" / "last.ckpt", weights_only=False)
    assert kept["global_step"] == 2


def test_two_processes_follow_the_course_of_one(small_data, small_config, tmp_path):
    """Each takes one of a step's two samples; gloo averages their gradients."""
    import subprocess
    import sys

    code = (
        "import sys, torch; torch.set_num_threads(1)\n"
        "from pathlib import Path\n"
        "from dataclasses import replace\n"
        "from versemi.learning.configuration import load_settings\n"
        "from versemi.learning.run import train\n"
        "data, config, out, cache = map(Path, sys.argv[1:5])\n"
        "settings = replace(load_settings(config), steps=10)\n"
        "if __name__ == '__main__':\n"
        "    train(settings, data, out, cache=cache, workers=0, device='cpu',\n"
        "          devices=int(sys.argv[5]))\n"
    )
    script = tmp_path / "go.py"
    script.write_text(code)
    cache = tmp_path / "cache"
    for devices in (1, 2):
        out = tmp_path / f"ranks{devices}"
        subprocess.run(
            [sys.executable, script, small_data, small_config, out, cache, str(devices)],
            check=True,
            capture_output=True,
            timeout=240,
        )
    one, two = (losses(tmp_path / f"ranks{n}") for n in (1, 2))
    assert len(one) == len(two) == 1
    assert two == pytest.approx(one, rel=0.02)


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


def test_a_run_can_start_from_a_pack_and_names_it_as_parent(
    small_data, small_config, tmp_path, capsys
):
    arguments = ["train", "--data", str(small_data), "--config", str(small_config)]
    arguments += ["--device", "cpu", "--steps", "2", "--cache", str(tmp_path / "cache")]

    def go(*more: str) -> int:
        with pytest.raises(SystemExit) as ended:
            main([*arguments, *more])
        return ended.value.code

    assert go("--out", str(tmp_path / "first")) == 0
    first = tmp_path / "first" / "pack"
    assert go("--out", str(tmp_path / "second"), "--from", str(first)) == 0
    second = ModelPack.load(tmp_path / "second" / "pack")
    assert second.manifest.parent == "small 0.1"
    assert [bool(second.network_of(group)) for group in ("ct", "lge_mr")] == [False, True]
    together = ["--from", str(first), "--without", "group-networks"]
    assert go("--out", str(tmp_path / "together"), *together) == 2
    assert "have networks of their own, and this run" in capsys.readouterr().err
    assert not (tmp_path / "together").exists()  # told before any scan is prepared
    without = ["--from", str(first), "--without", "foreground"]
    assert go("--out", str(tmp_path / "third"), *without) == 2
    assert "The pack to start from knows" in capsys.readouterr().err


def test_a_missing_data_folder_is_one_sentence(tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["train", "--data", str(tmp_path / "none"), "--out", str(tmp_path / "run")])
    assert ended.value.code == 2
    assert "There is no folder" in capsys.readouterr().err
