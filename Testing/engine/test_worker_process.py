"""The worker as a process: its pipes, its end, and the real engine in it."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from standin import order, write_scan


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    return write_scan(tmp_path)


NOISY = """
    import os, sys
    from versemi.worker import serve

    def make():
        from standin import StandIn

        class Noisy(StandIn):
            def segment(self, *args, **keywords):
                os.write(1, b"straight to the file descriptor\\n")
                print("through Python", flush=True)
                assert sys.stdin.read() == ""
                return super().segment(*args, **keywords)

        engine = Noisy()
        engine.wait_for_cancel = "wait" in sys.argv
        return engine

    code = serve(make)
    os._exit(code)
"""


def start(environment: dict[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(NOISY)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
    )


def test_what_a_library_prints_never_reaches_the_protocol(scan, environment):
    process = start(environment)
    assert process.stdin and process.stdout
    process.stdin.write(json.dumps(order(scan)).encode() + b"\n")
    process.stdin.flush()
    events = [json.loads(process.stdout.readline())["event"]]
    while events[-1] in ("ready", "progress"):
        events.append(json.loads(process.stdout.readline())["event"])
    assert events[-1] == "result"
    process.stdin.write(b'{"id": 2, "command": "quit"}\n')
    out, errors = process.communicate(timeout=60)
    assert json.loads(out) == {"event": "bye"}
    assert b"straight to the file descriptor" in errors and b"through Python" in errors
    assert process.returncode == 0


@pytest.mark.skipif(sys.platform == "win32", reason="kills with a POSIX signal")
def test_a_worker_ends_when_its_parent_is_killed(scan, environment):
    parent = """
        import subprocess, sys, os
        child = subprocess.Popen(
            [sys.executable, "-c", os.environ["WORKER"], "wait"], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE)
        child.stdin.write(os.environ["ORDER"].encode() + b"\\n")
        child.stdin.flush()
        while b"Looking" not in child.stdout.readline():
            pass
        print(child.pid, flush=True)
        child.wait()
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(parent)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={
            **environment,
            "WORKER": textwrap.dedent(NOISY),
            "ORDER": json.dumps(order(scan)),
        },
    )
    assert process.stdout
    worker = int(process.stdout.readline())
    assert _alive(worker)
    process.kill()
    process.wait()
    deadline = time.monotonic() + 60
    while _alive(worker) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _alive(worker)


def _alive(pid: int) -> bool:
    """Whether a process runs; one that ended and was not waited for does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_a_missing_pack_is_told_at_once_and_ends_with_code_2(tmp_path, environment):
    done = subprocess.run(
        [sys.executable, "-m", "versemi.worker", "--pack", str(tmp_path / "none")],
        input=b"",
        capture_output=True,
        timeout=120,
        env=environment,
    )
    event = json.loads(done.stdout)
    assert event["event"] == "error" and event["kind"] == "pack" and event["id"] is None
    assert done.returncode == 2


def test_starting_imports_nothing_heavy_before_the_pipes_are_safe(environment):
    code = """
        import sys, versemi.worker
        print({"torch", "monai", "SimpleITK", "numpy", "typer", "rich"} & set(sys.modules))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    assert done.stdout.strip() == "set()"


def test_the_real_engine_serves_cancels_and_never_needs_the_command_lines_packages(
    tiny_pack, tmp_path, environment
):
    """One process, because starting torch is what takes the time."""
    values = np.random.default_rng(0).normal(-50, 200, (30, 32, 34)).astype(np.float32)
    image = sitk.GetImageFromArray(values)
    image.SetSpacing([4, 4, 4])
    sitk.WriteImage(image, str(tmp_path / "scan.nrrd"))
    blocked = """
        import sys
        for name in ("typer", "rich", "pydantic", "nibabel", "pydicom", "lightning", "scipy.io"):
            sys.modules[name] = None
        from versemi.worker import main
        import os
        os._exit(main())
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(blocked), "--pack", tiny_pack, "--device", "cpu"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
    )
    assert process.stdin and process.stdout
    requests = [
        order(tmp_path / "scan.nrrd", tasks=["spleen", "left_kidney"], uncertainty=True),
        {"id": 2, "command": "list_tasks"},
        order(tmp_path / "scan.nrrd", id=3, tasks=["foreground"]),
        order(tmp_path / "scan.nrrd", id=4, tasks=["aorta"], modality="MR"),
    ]
    for request in requests:
        process.stdin.write(json.dumps(request).encode() + b"\n")
    process.stdin.flush()
    answers: dict[int | None, dict[str, Any]] = {}
    while set(answers) != {None, 1, 2, 3, 4}:
        event = json.loads(process.stdout.readline())
        if event["event"] != "progress":
            answers[event.get("id")] = event
    assert answers[None]["event"] == "ready" and answers[None]["pack"] == "tiny"
    assert answers[1]["event"] == "result", answers[1]
    assert answers[1]["labels"] == {"spleen": 3, "left_kidney": 7}
    assert set(answers[1]["volumes_ml"]) == {"spleen", "left_kidney"}
    labels = sitk.ReadImage(answers[1]["label_map"])
    assert labels.GetSize() == (34, 32, 30) and labels.GetSpacing() == (4, 4, 4)
    doubt = sitk.GetArrayFromImage(sitk.ReadImage(answers[1]["uncertainty"]))
    assert doubt.shape == (30, 32, 34) and doubt.min() >= 0 and doubt.max() <= 1
    assert len(answers[2]["tasks"]) == 17
    assert answers[3]["kind"] == "input" and "never enters" in answers[3]["message"]
    assert "MR" in answers[4]["warnings"][0]
    process.stdin.close()
    assert process.wait(60) == 0
