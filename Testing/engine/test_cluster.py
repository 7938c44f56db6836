"""Scans on a Dask cluster: real schedulers and workers on this machine."""

from __future__ import annotations

import functools
import json
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from distributed import Client, KilledWorker, LocalCluster

from commands import Run
from versemi import cluster
from versemi.batch import Outcome, Question, find_cases, pack_facts
from versemi.cases import find_images
from versemi.modelpack import ModelPack

#: Goes into worker processes in place of the engine, and notes what it is asked. A scan is known
#: by its brightest voxel; whoever first gets the scan 203 says so and waits to be killed.
STAND_IN = """
import os, sys, time, types
from pathlib import Path
from types import SimpleNamespace
import numpy as np
import SimpleITK as sitk
from versemi.tasks import TASKS

NOTES = Path(os.environ["NOTES"])

def note(*words):
    with (NOTES / f"{os.getpid()}.txt").open("a") as file:
        print(*words, file=file)

class Segmenter:
    device = "stand-in"

    def __init__(self, pack, device):
        self.pack = pack
        note("load")

    def segment(self, image, tasks, *, roi, modality, progress):
        values = sitk.GetArrayFromImage(image)
        scan = int(values.max())
        note("start", scan)
        if scan == 203 and not (NOTES / "victim").exists():
            (NOTES / "new").write_text(str(os.getpid()))
            (NOTES / "new").rename(NOTES / "victim")
            time.sleep(600)
        time.sleep(0.05)
        labels = sitk.GetImageFromArray((values > 100) * np.uint8(3))
        note("end", scan)
        return SimpleNamespace(
            tasks=(TASKS["spleen"],), label_map=labels, volumes_ml={"spleen": scan / 1000},
            uncertainty=lambda: sitk.Cast(labels, sitk.sitkFloat32), warnings=[],
        )

sys.modules["versemi.inference"] = types.SimpleNamespace(Segmenter=Segmenter)
"""


@pytest.fixture
def run(run: Run) -> Run:
    """Run ``versemi segment``."""
    return functools.partial(run, "segment")


def save(path: Path, value: int, seed: int | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.full((30, 32, 34), -900, np.int16)
    if seed is not None:
        values = np.random.default_rng(seed).normal(-50, 200, values.shape).astype(np.int16)
    values[10:20, 10:20, 10:20] = value
    image = sitk.GetImageFromArray(values)
    image.SetSpacing([4, 4, 4])
    sitk.WriteImage(image, str(path))
    return path


def report_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "segment_report.json").read_text())


def wait_for(condition: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


# Two worker processes, one of which is killed ----------------------------------------------------


@pytest.fixture
def start(environment, tmp_path) -> Iterator[Callable[..., subprocess.Popen]]:
    """Start a ``dask`` command; all are ended with the test."""
    started: list[subprocess.Popen] = []
    (tmp_path / "notes").mkdir()
    (tmp_path / "stand_in.py").write_text(STAND_IN)

    def start(*arguments: Any) -> subprocess.Popen:
        process = subprocess.Popen(
            [sys.executable, "-m", "dask", *map(str, arguments)],
            env={**environment, "NOTES": str(tmp_path / "notes")},
            cwd=tmp_path,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_with_a_worker_killed_in_the_middle_nothing_is_lost_and_nothing_is_done_twice(
    start, run, tiny_pack, tmp_path
):
    file = tmp_path / "scheduler.json"
    local = ("--host", "127.0.0.1", "--no-dashboard")
    start("scheduler", "--scheduler-file", file, "--port", 0, *local)
    wait_for(file.exists)
    more = ("--scheduler-file", file, "--nthreads", 1, "--no-nanny", *local)
    workers = [start("worker", "--preload", tmp_path / "stand_in.py", *more) for _ in range(2)]
    values = range(201, 210)
    for value in values:
        save(tmp_path / "images" / f"{value}.nii.gz", value)
    with Client(scheduler_file=str(file), set_as_default=False) as client:
        client.wait_for_workers(2, timeout=120)

    notes, killed = tmp_path / "notes", []

    def kill() -> None:
        wait_for((notes / "victim").exists)
        pid = int((notes / "victim").read_text())
        killed.extend(worker.pid for worker in workers if worker.pid == pid)
        next(worker for worker in workers if worker.pid == pid).kill()

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    out = tmp_path / "out"
    asked = (tmp_path / "images", "-t", "spleen", "-o", out, "--pack", tiny_pack)
    code, printed, err = run(*asked, "--scheduler", file)
    killer.join()
    assert code == 0, err
    assert "9 scans: 9 done" in printed and "Traceback" not in err

    # Nothing is lost: every case is in the report with its own scan's result and all files.
    cases = report_of(out)["cases"]
    assert {case["case"]: case["volumes_ml"]["spleen"] for case in cases} == {
        str(value): value / 1000 for value in values
    }
    files = [path.name for path in out.iterdir() if path.name[0].isdigit()]
    assert len(files) == 9 * 5 and all((out / name).stat().st_size for name in files)

    # Nothing is done twice: the one case whose worker was killed was begun again, and each was
    # finished once. Each process loaded its model once.
    noted = {path.stem: path.read_text().split("\n") for path in notes.glob("*.txt")}
    assert set(noted) == {str(worker.pid) for worker in workers} and len(killed) == 1
    counts = Counter(line for lines in noted.values() for line in lines if line)
    assert counts.pop("load") == 2 and all(lines.count("load") == 1 for lines in noted.values())
    assert counts.pop("start 203") == 2
    assert set(counts.values()) == {1} and len(counts) == 9 + 8
    assert "end 203" not in noted[str(killed[0])]

    # And a second run has nothing to do.
    code, printed, _ = run(*asked, "--scheduler", file)
    assert code == 0 and "9 scans: 9 already done" in printed


# One process ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def local() -> Iterator[LocalCluster]:
    """A scheduler, and a worker of two threads that is this process."""
    with LocalCluster(
        n_workers=1,
        threads_per_worker=2,
        processes=False,
        protocol="tcp://",
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",
    ) as local:
        yield local


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The real engine, counted: how often it was made, and how many scans it had at once."""
    from versemi.inference import Segmenter

    counts, lock = [0, 0, 0], threading.Lock()
    make, segment = Segmenter.__init__, Segmenter.segment

    def making(self, *args, **keywords):
        counts[0] += 1
        make(self, *args, **keywords)

    def segmenting(self, *args, **keywords):
        with lock:
            counts[1] += 1
            counts[2] = max(counts[1], counts[2])
        try:
            return segment(self, *args, **keywords)
        finally:
            with lock:
                counts[1] -= 1

    monkeypatch.setattr(Segmenter, "__init__", making)
    monkeypatch.setattr(Segmenter, "segment", segmenting)
    monkeypatch.setattr(cluster, "_models", {})
    return counts


def test_a_cluster_answers_as_this_machine_does_with_one_model_and_tells_what_failed(
    local, loads, run, tiny_pack, tmp_path
):
    images = tmp_path / "images"
    for number in range(3):
        save(images / f"{number}.nii.gz", 200, seed=number)
    (images / "bad.nii.gz").write_bytes(b"no image")
    asked = (images, "-t", "spleen", "-t", "liver", "--pack", tiny_pack, "--device", "cpu")
    here, there = tmp_path / "here", tmp_path / "there"
    assert run(*asked, "-o", here)[0] == 1
    loads[:] = [0, 0, 0]
    code, printed, err = run(*asked, "-o", there, "--scheduler", local.scheduler_address)
    assert code == 1 and "4 scans: 3 done, 1 failed" in printed, err
    assert "bad.nii.gz is not an image" in " ".join(printed.split())
    assert loads[0] == 1 and loads[2] == 1
    for name in ("0_label_map.nii.gz", "1.seg.nrrd", "2_uncertainty.nii.gz"):
        images_read = [sitk.GetArrayFromImage(sitk.ReadImage(str(f / name))) for f in (here, there)]
        assert np.array_equal(*images_read)
    first, second = (report_of(folder)["cases"] for folder in (here, there))
    for key in ("case", "status", "reason", "volumes_ml", "files", "warnings"):
        assert [case[key] for case in first] == [case[key] for case in second]
    assert socket.gethostname() in second[0]["computed_on"]


def test_the_cases_that_are_left_when_the_scheduler_is_lost_are_told(tiny_pack, tmp_path):
    for value in (201, 202, 203):
        save(tmp_path / "images" / f"{value}.nii.gz", value)
    cases = find_cases(find_images([tmp_path / "images"]), tmp_path / "out")
    pack = ModelPack.load(tiny_pack)
    lost = LocalCluster(
        n_workers=0,
        processes=False,
        protocol="tcp://",
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",
    )
    with cluster.connected(lost.scheduler_address) as client:
        outcomes = cluster.segment_on_cluster(
            client, cases, Question(("spleen",)), tiny_pack, pack_facts(pack), tmp_path, "cpu"
        )
        ender = threading.Timer(0.5, lost.close)
        ender.start()
        told = list(outcomes)
        ender.join()
        assert sorted(outcome.case for outcome in told) == ["201", "202", "203"]
        for outcome in told:
            assert outcome.status == "failed"
            assert outcome.reason.startswith("The connection to the scheduler was lost")
        client.close(timeout=1)


def arguments(tiny_pack: Path, tmp_path: Path) -> dict[str, Any]:
    """What a worker is told of a case."""
    return {
        "case": {"name": "a", "image": str(save(tmp_path / "a.nii.gz", 200, seed=0))},
        "question": Question(("spleen",)).to_json(),
        "pack": str(tiny_pack),
        "facts": pack_facts(ModelPack.load(tiny_pack)),
        "folder": str(tmp_path / "out"),
        "device": "cpu",
    }


def test_a_case_whose_worker_died_after_it_was_done_is_not_computed_again(
    loads, tiny_pack, tmp_path, monkeypatch
):
    told = arguments(tiny_pack, tmp_path)
    first = cluster.segment_on_worker(**told)
    assert first.status == "done" and loads[0] == 1
    # In another process, whose model is not loaded yet.
    monkeypatch.setattr(cluster, "_models", {})
    assert cluster.segment_on_worker(**told) == first and loads[0] == 1


def test_a_worker_that_cannot_load_the_model_names_itself_and_the_reason(
    tiny_pack, tmp_path, monkeypatch
):
    monkeypatch.setattr(cluster, "_models", {})
    told = arguments(tiny_pack, tmp_path)
    missing = cluster.segment_on_worker(**{**told, "pack": str(tmp_path / "none")})
    assert missing.status == "failed" and socket.gethostname() in missing.reason
    assert "There is no model pack" in missing.reason
    other = {**told["facts"], "weights_sha256": "0" * 64}
    foreign = cluster.segment_on_worker(**{**told, "facts": other})
    assert foreign.status == "failed" and "is another one here" in foreign.reason


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (KilledWorker("key", SimpleNamespace(address="tcp://x:1"), 3), "4 worker processes died"),
        (ModuleNotFoundError("No module named 'versemi'"), "No module named 'versemi'"),
    ],
)
def test_what_dask_raises_becomes_the_case_s_reason(tmp_path, error, words):
    def fail() -> Outcome:
        raise error

    case = find_cases([tmp_path / "a.nii.gz"], tmp_path)[0]
    future = SimpleNamespace(result=fail)
    outcome = cluster._outcome(future, case, Question(("spleen",)), {}, tmp_path)
    assert outcome.status == "failed" and words in outcome.reason


# No cluster -------------------------------------------------------------------------------------


@pytest.fixture
def refused(run, tiny_pack, tmp_path):
    """Run with a scheduler that is none; gives the one sentence."""
    image = save(tmp_path / "images" / "a.nii.gz", 200)

    def refused(scheduler: Any) -> str:
        to = ("-t", "spleen", "-o", tmp_path / "out", "--pack", tiny_pack)
        code, out, err = run(image, *to, "--scheduler", scheduler)
        assert code == 2 and out == "" and not (tmp_path / "out").exists()
        assert len(err.splitlines()) == 1
        return err

    return refused


def test_a_scheduler_that_does_not_answer_is_one_sentence_and_code_2(refused):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    begin = time.monotonic()
    sentence = refused(f"tcp://127.0.0.1:{port}")
    assert f"No Dask scheduler answers at 127.0.0.1:{port}" in sentence
    assert time.monotonic() - begin < 10


def test_a_server_that_is_no_scheduler_is_one_sentence_and_code_2(refused, monkeypatch):
    monkeypatch.setattr(cluster, "_PATIENCE", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        assert f"No Dask scheduler answers at {address} (timed out)" in refused(address)
        server.accept()

        def greet() -> None:
            connection = server.accept()[0]
            connection.sendall(b"SSH-2.0-OpenSSH_9.6\r\n")
            connection.close()

        other = threading.Thread(target=greet)
        other.start()
        assert "what is there is no Dask scheduler" in refused(address)
        other.join()


@pytest.mark.parametrize("address", ["node1", "http://node1:80", "node1:port", "a:b:1", "x:99999"])
def test_an_address_that_is_none_is_one_sentence_and_code_2(refused, address):
    assert f"'{address}' is not of the form tcp://HOST:PORT" in refused(address)


def test_a_scheduler_file_that_is_none_is_one_sentence_and_code_2(refused, tmp_path):
    assert "--scheduler-file" in refused(tmp_path / "none.json")
    for content in ("{}", "[]", "no json"):
        (tmp_path / "file.json").write_text(content)
        assert "is not a scheduler file" in refused(tmp_path / "file.json")


def test_without_distributed_one_sentence_says_how_to_get_it(refused, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert "pip install distributed" in refused("tcp://127.0.0.1:8786")
