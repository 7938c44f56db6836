"""The worker's life: started, kept warm, cancelled, killed, revived, ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import slicer
from stand_in import STAND_IN

from VerSemiSlicerLib.Errors import UserError
from VerSemiSlicerLib.SegmentationResult import SegmentationRequest


def exists(pid: int) -> bool:
    """Whether the process runs; one that waits to be reaped does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def wait_for(condition: Callable[[], bool], what: str, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        time.sleep(0.01)


class Ear:
    """Hears what the logic says."""

    def __init__(self, logic: Any) -> None:
        self.progress: list[tuple[float, str]] = []
        self.outcomes: list[tuple[Any, ...]] = []
        logic.progressed.connect(lambda *a: self.progress.append(a))
        logic.finished.connect(lambda *a: self.outcomes.append(("finished", *a)))
        logic.failed.connect(lambda *a: self.outcomes.append(("failed", *a)))
        logic.cancelled.connect(lambda *a: self.outcomes.append(("cancelled", *a)))


def scene_contents() -> list[tuple[str, str, int]]:
    scene = slicer.mrmlScene
    nodes = [scene.GetNthNode(i) for i in range(scene.GetNumberOfNodes())]
    # The subject hierarchy is made by whoever looks for it first.
    return [
        (n.GetID(), n.GetName(), n.GetMTime())
        for n in nodes
        if not n.IsA("vtkMRMLSubjectHierarchyNode")
    ]


def start_and_wait_for_progress(logic: Any, request: SegmentationRequest) -> Ear:
    ear = Ear(logic)
    logic.start(request)

    def moving() -> bool:
        logic.poll()
        return any(fraction > 0 for fraction, _ in ear.progress)

    wait_for(moving, "the run makes progress")
    return ear


def test_progress_is_a_growing_fraction_with_a_sentence(logic: Any, add_volume: Any) -> None:
    ear = Ear(logic)
    logic.segment(SegmentationRequest(add_volume(), ["liver"]))

    fractions = [fraction for fraction, _ in ear.progress]
    assert fractions == sorted(fractions)
    assert 0 < max(fractions) <= 1
    assert ear.progress[0] == (0.0, "Starting the segmentation engine")
    assert "Window 7 of 20" in [sentence for _, sentence in ear.progress]


def test_the_worker_is_kept_warm_between_runs(logic: Any, add_volume: Any, stand_in: Any) -> None:
    volume = add_volume()
    for prompt in ("liver", "spleen", "aorta"):
        logic.segment(SegmentationRequest(volume, [prompt]))
    assert len(stand_in.workers) == 1


def test_another_device_takes_another_worker_and_ends_the_first(
    logic: Any, add_volume: Any, stand_in: Any
) -> None:
    volume = add_volume()
    logic.segment(SegmentationRequest(volume, ["liver"], device="auto"))
    logic.segment(SegmentationRequest(volume, ["liver"], device="cpu"))
    assert stand_in.devices == ["auto", "cpu"]
    assert not exists(stand_in.workers[0].pid)


def test_temporary_files_are_gone_after_a_run(logic: Any, add_volume: Any, tmp_path: Path) -> None:
    logic.segment(SegmentationRequest(add_volume(), ["liver"], wantsUncertainty=True))
    assert [p for p in tmp_path.rglob("*") if "VerSemi" in p.name] == []


def test_neither_starting_nor_polling_waits_for_the_result(
    logic: Any, add_volume: Any, stand_in: Any
) -> None:
    stand_in.manner = "slow"
    logic.start(SegmentationRequest(add_volume(), ["liver"]))
    polls = 0
    while logic.isRunning:
        logic.poll()
        polls += 1
        time.sleep(0.01)
    # The run takes two seconds; on a busy computer fewer polls fit in than the 200 there might be.
    assert polls > 20


def test_a_cancelled_run_leaves_the_scene_as_it_was_and_the_worker_warm(
    logic: Any, add_volume: Any, stand_in: Any
) -> None:
    stand_in.manner = "slow"
    volume = add_volume()
    kept = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Kept")
    before = scene_contents()
    request = SegmentationRequest(volume, ["liver"], segmentationNode=kept, wantsUncertainty=True)
    ear = start_and_wait_for_progress(logic, request)

    logic.cancel()
    logic.waitUntilDone(timeout=60)

    assert ear.outcomes == [("cancelled",)]
    assert scene_contents() == before
    assert stand_in.workers[0].isRunning()
    assert logic.segment(SegmentationRequest(volume, ["liver"])).rows
    assert len(stand_in.workers) == 1


def test_a_worker_that_does_not_hear_the_cancel_is_ended(
    logic: Any, add_volume: Any, stand_in: Any
) -> None:
    stand_in.manner = "deaf"
    logic.link.cancelPatience = 0.2
    ear = start_and_wait_for_progress(logic, SegmentationRequest(add_volume(), ["liver"]))

    logic.cancel()
    logic.waitUntilDone(timeout=60)

    assert ear.outcomes == [("cancelled",)]
    assert not exists(stand_in.workers[0].pid)


def test_a_second_run_cannot_begin_beside_the_first(
    logic: Any, add_volume: Any, stand_in: Any
) -> None:
    stand_in.manner = "slow"
    volume = add_volume()
    logic.start(SegmentationRequest(volume, ["liver"]))
    with pytest.raises(UserError, match="A segmentation is running"):
        logic.start(SegmentationRequest(volume, ["spleen"]))


def test_a_worker_killed_in_the_middle_is_reported_and_the_next_run_starts_another(
    logic: Any, add_volume: Any, stand_in: Any
) -> None:
    stand_in.manner = "slow"
    volume = add_volume()
    before = scene_contents()
    ear = start_and_wait_for_progress(logic, SegmentationRequest(volume, ["liver"]))

    os.kill(stand_in.workers[0].pid, signal.SIGKILL)
    logic.waitUntilDone(timeout=60)

    ((kind, sentence, _),) = ear.outcomes
    assert kind == "failed"
    assert "ended unexpectedly (exit code -9)" in sentence
    assert "try again: it will be started anew" in sentence
    assert scene_contents() == before
    stand_in.manner = ""
    assert logic.segment(SegmentationRequest(volume, ["liver"])).rows
    assert len(stand_in.workers) == 2


def test_a_worker_that_dies_by_itself_leaves_its_last_words_for_the_details(
    logic: Any, add_volume: Any, stand_in: Any
) -> None:
    stand_in.manner = "die"
    ear = Ear(logic)
    logic.start(SegmentationRequest(add_volume(), ["liver"]))
    logic.waitUntilDone(timeout=60)
    ((kind, sentence, detail),) = ear.outcomes
    assert kind == "failed"
    assert "exit code 3" in sentence
    assert "the stand-in was told to die" in detail


def test_a_worker_killed_between_runs_goes_unnoticed(
    logic: Any, add_volume: Any, stand_in: Any
) -> None:
    volume = add_volume()
    logic.segment(SegmentationRequest(volume, ["liver"]))
    os.kill(stand_in.workers[0].pid, signal.SIGKILL)
    wait_for(lambda: not exists(stand_in.workers[0].pid), "the worker has ended")
    assert logic.segment(SegmentationRequest(volume, ["spleen"])).rows


def test_an_error_of_the_engine_is_passed_on_in_its_own_words(
    logic: Any, add_volume: Any, stand_in: Any
) -> None:
    stand_in.manner = "fail"
    with pytest.raises(UserError, match="^The image is of one constant value.$"):
        logic.segment(SegmentationRequest(add_volume(), ["liver"]))
    assert stand_in.workers[0].isRunning()


def test_the_engine_knows_the_volume_by_its_name_whatever_that_is(
    logic: Any, add_volume: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from VerSemiSlicerLib.WorkerProcess import WorkerProcess

    send, sent = WorkerProcess.send, []

    def recording(worker: WorkerProcess, message: Any) -> None:
        sent.append(message)
        send(worker, message)

    monkeypatch.setattr(WorkerProcess, "send", recording)
    for name, called in (
        ("CT Abdomen: größe 漢", "CT Abdomen_ größe 漢.nrrd"),
        ("label_map_2", "label_map_2.nrrd"),
        ("../..", "volume.nrrd"),
        ("ä" * 300, "ä" * 40 + ".nrrd"),
    ):
        logic.segment(SegmentationRequest(add_volume(name=name), ["liver"]))
        assert Path(sent[-1]["image"]).name == called
        assert Path(sent[-1]["image"]).parent != Path(sent[-1]["output"])


def test_a_program_that_cannot_be_started_is_a_sentence(catalog: Any, add_volume: Any) -> None:
    from VerSemiSlicerLib.SegmentationLogic import SegmentationLogic
    from VerSemiSlicerLib.WorkerLink import WorkerLink
    from VerSemiSlicerLib.WorkerProcess import WorkerProcess

    link = WorkerLink(lambda device: WorkerProcess(["/no/such/python"], {}))
    logic = SegmentationLogic(catalog, link)
    with pytest.raises(UserError, match="could not be started"):
        logic.start(SegmentationRequest(add_volume(), ["liver"]))
    assert not logic.isRunning


def test_a_volume_removed_in_the_middle_ends_the_run_with_a_sentence(
    logic: Any, add_volume: Any
) -> None:
    ear = Ear(logic)
    volume = add_volume()
    logic.start(SegmentationRequest(volume, ["liver"]))
    slicer.mrmlScene.RemoveNode(volume)
    logic.waitUntilDone(timeout=60)
    assert [outcome[:2] for outcome in ear.outcomes] == [
        (
            "failed",
            "The input volume was removed from the scene while it was being segmented; "
            "nothing was added.",
        )
    ]
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 0


def test_a_volume_moved_in_the_middle_is_not_given_a_misplaced_result(
    logic: Any, add_volume: Any
) -> None:
    ear = Ear(logic)
    volume = add_volume()
    logic.start(SegmentationRequest(volume, ["liver"]))
    volume.SetOrigin(50.0, 0.0, 0.0)
    logic.waitUntilDone(timeout=60)
    assert ear.outcomes[0][0] == "failed"
    assert "geometry of the input volume was changed" in ear.outcomes[0][1]


def test_a_target_removed_in_the_middle_makes_way_for_a_new_one(
    logic: Any, add_volume: Any
) -> None:
    ear = Ear(logic)
    target = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Target")
    logic.start(SegmentationRequest(add_volume(), ["liver"], segmentationNode=target))
    slicer.mrmlScene.RemoveNode(target)
    logic.waitUntilDone(timeout=60)
    assert ear.outcomes[0][0] == "finished"
    assert slicer.mrmlScene.IsNodePresent(ear.outcomes[0][1].segmentationNode)


def test_closing_ends_the_worker_with_all_that_it_started_and_cancels_the_run(
    logic: Any, add_volume: Any, stand_in: Any
) -> None:
    stand_in.manner = "slow child"
    ear = Ear(logic)
    children: list[int] = []
    logic.start(SegmentationRequest(add_volume(), ["liver"]))
    worker = stand_in.workers[0]

    def child_is_known() -> bool:
        for event in worker.poll():
            if str(event.get("message", "")).startswith("child "):
                children.append(int(event["message"].split()[1]))
        return bool(children)

    wait_for(child_is_known, "the worker has a child")
    assert exists(children[0])

    logic.close()

    assert ear.outcomes == [("cancelled",)]
    wait_for(lambda: not exists(worker.pid), "the worker has ended")
    wait_for(lambda: not exists(children[0]), "its child has ended")


@pytest.mark.parametrize("ending", ["exit", "kill"])
def test_no_worker_outlives_the_program_that_started_it(ending: str, tmp_path: Path) -> None:
    """Also where Slicer crashes and nothing of the module runs any more."""
    script = textwrap.dedent(
        f"""
        import os, signal, sys
        sys.path.insert(0, {str(STAND_IN.parents[2])!r})
        from VerSemiSlicerLib.WorkerProcess import WorkerProcess
        worker = WorkerProcess([sys.executable, {str(STAND_IN)!r}], dict(os.environ))
        print(worker.pid, flush=True)
        if {ending!r} == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    parent = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False
    )
    worker = int(parent.stdout)
    wait_for(lambda: not exists(worker), "the worker has ended")
