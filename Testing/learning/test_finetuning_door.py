"""Fine-tuning in a child process: its protocol, pausing, cancelling, and the end of its parent."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from finetuning import fill, make_parent

_TRAINING = Path(__file__).resolve().parents[2] / "training"


class Child:
    """A running ``versemi finetune --json-lines``."""

    def __init__(self, folder: Path, **environment: str) -> None:
        arguments = ["--library", "library", "--pack", "parent", "--out", "out", "--minutes", "60"]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "versemi", "finetune", *arguments, "--json-lines"],
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=(folder / "stderr.txt").open("wb"),
            env={
                **os.environ,
                "PYTHONPATH": str(_TRAINING),
                "VERSEMI_MODELS": str(folder / "models"),
                "OMP_NUM_THREADS": "1",
                **environment,
            },
        )

    def say(self, command: str) -> None:
        assert self.process.stdin
        self.process.stdin.write(json.dumps({"command": command}).encode() + b"\n")
        self.process.stdin.flush()

    def hear(self) -> dict:
        assert self.process.stdout
        return json.loads(self.process.stdout.readline())

    def until(self, part: str) -> dict:
        while part not in (event := self.hear()).get("sentence", ""):
            assert event["event"] == "progress", event
        return event

    def ticks(self) -> int:
        """What the process itself has computed, in ticks."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return int(fields[11]) + int(fields[12])


@pytest.fixture
def folder(tmp_path):
    fill(tmp_path / "library", 1)
    make_parent(tmp_path / "parent", steps=0)
    return tmp_path


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_child_pauses_resumes_and_is_cancelled(folder):
    library = {p: p.read_bytes() for p in (folder / "library").rglob("*") if p.is_file()}
    child = Child(folder)
    event = child.until("step 2")
    assert event["loss"] > 0 and 0 <= event["fraction"] < 1
    child.say("jump")
    while child.hear()["event"] != "warning":
        pass
    child.say("pause")
    # It may have to finish a step first; once it computes no more it is given time to go on.
    before = -1
    while before != (before := child.ticks()):
        time.sleep(0.5)
    time.sleep(0.5)
    assert child.ticks() - before <= 2
    child.say("resume")
    number = int(child.until("step")["sentence"].split()[-1])
    child.until(f"step {number + 3}")
    child.say("cancel")
    while (event := child.hear())["event"] == "progress":
        pass
    assert event == {
        "event": "error",
        "kind": "cancelled",
        "sentence": "The fine-tuning was cancelled; library, models and the parent pack are as they"
        " were.",
    }
    assert child.process.wait(60) == 2 and child.process.stdout.read() == b""
    assert not (folder / "out").exists() and not (folder / "out.work").exists()
    assert not (folder / "models").exists()
    assert {p: p.read_bytes() for p in library} == library


def test_a_child_ends_with_its_parent_and_its_work_is_kept(folder):
    child = Child(folder)
    child.until("step 1")
    child.process.stdin.close()
    assert child.process.wait(60) == 2
    assert (folder / "out.work" / "state.json").is_file()


def test_a_bad_library_is_one_event_and_nothing_else(folder):
    (folder / "library" / "library.json").unlink()
    child = Child(folder)
    event = child.hear()
    assert (event["event"], event["kind"]) == ("error", "input")
    assert "is no case library" in event["sentence"]
    assert child.process.stdout.read() == b"" and child.process.wait(60) == 2
