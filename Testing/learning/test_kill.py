"""A run that is killed at any moment goes on to where it would have come to."""

from __future__ import annotations

import csv
import os
import random
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from versemi.learning import run as module
from versemi.learning.configuration import load_settings
from versemi.learning.run import train
from versemi.network import GroupNetworks

STEPS, BETWEEN_CHECKPOINTS = 24, 4

CODE = """
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)
import test_kill

if __name__ == "__main__":
    test_kill.go(*map(Path, sys.argv[1:]))
"""


def go(config: Path, data: Path, out: Path, cache: Path) -> GroupNetworks:
    """A short run with many checkpoints."""
    threads, whole = torch.get_num_threads(), module.run
    torch.set_num_threads(1)
    module.run = partial(whole, epoch=BETWEEN_CHECKPOINTS)
    try:
        settings = replace(load_settings(config), steps=STEPS)
        return train(settings, data, out, cache=cache, workers=0, device="cpu")
    finally:
        module.run = whole
        torch.set_num_threads(threads)


def flat(networks: GroupNetworks) -> torch.Tensor:
    each = [p for network in networks.each() for p in network.parameters()]
    return torch.cat([p.detach().flatten() for p in each])


def logged(out: Path) -> dict[int, float]:
    path = out / "csv" / "metrics.csv"
    if not path.is_file():
        return {}
    with path.open() as file:
        lines = [line for line in file if line.endswith("\n")]
    return {int(r["step"]): float(r["loss"]) for r in csv.DictReader(lines) if r["loss"]}


def kill(process: subprocess.Popen[bytes], out: Path) -> None:
    """Once a checkpoint is written that knows of a logged step, at a random moment."""
    seen = None
    while process.poll() is None:
        if logged(out):
            written = (out / "last.ckpt").stat().st_mtime_ns
            seen = seen or written
            if written != seen:
                break
        time.sleep(0.01)
    time.sleep(random.uniform(0, 0.5))
    process.kill()
    process.wait()


def test_a_run_that_is_killed_goes_on_with_its_log_and_comes_to_the_same_end(
    small_data, small_config, tmp_path
):
    cache, out = tmp_path / "cache", tmp_path / "killed"
    script = tmp_path / "go.py"
    script.write_text(CODE)
    process = subprocess.Popen(
        [sys.executable, script, small_config, small_data, out, cache],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    kill(process, out)
    before = logged(out)
    assert before and (out / "last.ckpt").is_file()
    assert not (out / "training.json").exists(), "it was killed too late"

    resumed = go(small_config, small_data, out, cache)
    whole = go(small_config, small_data, tmp_path / "whole", cache)
    course = logged(tmp_path / "whole")
    assert list(course) == [9, 19]
    assert logged(out) == pytest.approx(course, rel=0.02)
    mine, theirs = (flat(network) for network in (resumed, whole))
    # In bf16 the same sums differ from run to run by some thousandths.
    assert (mine - theirs).norm() < 0.02 * theirs.norm()
    assert not list(out.glob("earlier.csv")) and not list(out.glob(".*"))

    # Done is done: once more changes nothing.
    again = go(small_config, small_data, out, cache)
    assert logged(out) == pytest.approx(course, rel=0.02)
    assert torch.equal(flat(again), mine)
