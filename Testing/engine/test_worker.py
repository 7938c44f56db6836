"""The worker's protocol, spoken in memory with a stand-in engine."""

from __future__ import annotations

import io
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from standin import StandIn, order, write_scan

from versemi.errors import InputError, PackError
from versemi.tasks import TASKS
from versemi.worker import Worker


class Conversation:
    """A worker in a thread, at the other end of two pipes."""

    def __init__(self, make_segmenter: Callable[[], Any]) -> None:
        theirs, ours = os.pipe()
        ours_in, theirs_out = os.pipe()
        self._requests = os.fdopen(ours, "wb")
        self._events = os.fdopen(ours_in, "rb")
        self.code: int | None = None
        worker = Worker(os.fdopen(theirs, "rb"), os.fdopen(theirs_out, "wb"), make_segmenter)
        self._thread = threading.Thread(target=self._run, args=(worker,), daemon=True)
        self._thread.start()

    def _run(self, worker: Worker) -> None:
        self.code = worker.run()

    def say(self, **request: Any) -> None:
        self.say_raw(json.dumps(request).encode())

    def say_raw(self, line: bytes) -> None:
        self._requests.write(line + b"\n")
        self._requests.flush()

    def hear(self, *, progress: bool = False) -> dict[str, Any]:
        while True:
            event = json.loads(self._events.readline())
            if progress or event["event"] != "progress":
                return event

    def close(self) -> None:
        self._requests.close()

    def end(self) -> int | None:
        self._thread.join(60)
        assert not self._thread.is_alive()
        return self.code


@pytest.fixture
def engine() -> StandIn:
    return StandIn()


@pytest.fixture
def talk(engine: StandIn):
    conversation = Conversation(lambda: engine)
    assert conversation.hear() == {
        "event": "ready",
        "pack": "stand-in",
        "version": "1.2",
        "device": "cpu",
        "warnings": [],
    }
    yield conversation
    conversation.close()
    conversation.end()


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    return write_scan(tmp_path)


def test_a_segment_request_gives_progress_and_then_files_on_the_scans_grid(talk, scan):
    talk.say(**order(scan, uncertainty=True))
    fractions = []
    while (event := talk.hear(progress=True))["event"] == "progress":
        assert event["id"] == 1 and event["message"]
        fractions.append(event["fraction"])
    assert fractions == sorted(fractions) and fractions[0] == 0 and fractions[-1] < 1
    assert event["event"] == "result" and event["id"] == 1
    assert event["labels"] == {"spleen": 3} and event["volumes_ml"] == {"spleen": 1.5}
    assert event["warnings"] == ["mind the gap"] and event["timings"] == {"fine": 0.1}
    labels = sitk.ReadImage(event["label_map"])
    assert labels.GetSpacing() == pytest.approx((0.8, 0.9, 2.5))
    assert set(np.unique(sitk.GetArrayFromImage(labels))) == {0, 3}
    assert sitk.ReadImage(event["uncertainty"]).GetPixelID() == sitk.sitkFloat32


def test_roi_and_modality_reach_the_engine(talk, engine, scan):
    roi = {"center": [1, 2, 3], "axes": [[1, 0, 0], [0, 1, 0], [0, 0, 1]], "size": [4, 5, 6]}
    talk.say(**order(scan, roi=roi, modality="MR", tasks=["liver", "spleen"]))
    assert talk.hear()["uncertainty"] is None
    call = engine.calls[0]
    assert tuple(call["roi"].size) == (4, 5, 6)
    assert call["modality"] == "MR" and call["tasks"] == ["liver", "spleen"]


def test_list_tasks_tells_all_that_a_panel_needs(talk):
    talk.say(id=3, command="list_tasks")
    event = talk.hear()
    assert event["event"] == "result" and event["id"] == 3
    spleen = event["tasks"][0]
    assert spleen["id"] == "spleen" and spleen["label"] == 3 and spleen["modality"] == "CT"
    assert spleen["color"] == list(TASKS["spleen"].color)
    assert "78961009" in spleen["terminology"] and spleen["group"] == "ct" and spleen["region"]


@pytest.mark.parametrize(
    ("line", "id", "words"),
    [
        (b"not json", None, "one line of JSON"),
        (b"\xff\xfe", None, "UTF-8"),
        (b"[1, 2]", None, "JSON object"),
        (b"[" * 100000, None, "JSON"),
        (b'{"command": "segment"}', None, "'id'"),
        (b'{"id": "one", "command": "quit"}', None, "'id'"),
        (b'{"id": 7, "command": "dance"}', 7, "'dance'"),
        (b'{"id": 7}', 7, "None"),
        (b'{"id": 7, "command": "cancel"}', 7, "'request'"),
    ],
)
def test_a_line_that_is_no_request_is_answered_and_forgotten(talk, scan, line, id, words):
    talk.say_raw(line)
    event = talk.hear()
    assert (event["event"], event["id"], event["kind"]) == ("error", id, "input")
    assert words in event["message"]
    talk.say(**order(scan))
    assert talk.hear()["event"] == "result"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"image": None}, "'image' is missing"),
        ({"image": 5}, "'image' cannot be 5"),
        ({"image": "/nowhere/scan.nii"}, "There is no file"),
        ({"tasks": []}, "one or more prompts"),
        ({"tasks": [1]}, "one or more prompts"),
        ({"tasks": "spleen"}, "'tasks'"),
        ({"output": None}, "'output' is missing"),
        ({"modality": "PT"}, "'PT'"),
        ({"roi": {}}, "center"),
        ({"roi": 3}, "'roi'"),
        ({"uncertainty": "yes"}, "'uncertainty'"),
    ],
)
def test_a_segment_request_that_cannot_be_met_leaves_the_worker_usable(talk, scan, changes, words):
    talk.say(**order(scan, id=8, **changes))
    event = talk.hear()
    assert (event["event"], event["id"], event["kind"]) == ("error", 8, "input")
    assert words in event["message"]
    talk.say(**order(scan, id=9))
    assert talk.hear()["event"] == "result"


def test_what_the_engine_refuses_and_what_it_trips_over_are_told_apart(talk, engine, scan):
    for error, kind in ((InputError("No such prompt."), "input"), (KeyError("oops"), "internal")):
        engine.error = error
        talk.say(**order(scan))
        event = talk.hear()
        assert event["kind"] == kind and str(error).strip("'\"") in event["message"]
    engine.error = MemoryError()
    talk.say(**order(scan))
    assert "smaller region" in talk.hear()["message"]


def test_an_output_folder_that_cannot_be_written_is_an_output_error(talk, scan):
    talk.say(**order(scan, output=str(scan / "inside a file")))
    assert talk.hear()["kind"] == "output"


def test_cancel_stops_the_running_request_and_the_next_one_runs(talk, engine, scan):
    engine.wait_for_cancel = True
    talk.say(**order(scan))
    assert engine.started.wait(60)
    talk.say(id=2, command="cancel", request=1)
    assert talk.hear() == {"event": "cancelled", "id": 1}
    engine.wait_for_cancel = False
    talk.say(**order(scan, id=3))
    assert talk.hear()["id"] == 3
    talk.say(id=4, command="cancel", request=3)  # too late: no word
    talk.say(id=5, command="list_tasks")
    assert talk.hear()["id"] == 5


def test_a_request_that_still_waits_can_be_cancelled(talk, engine, scan):
    engine.wait_for_cancel = True
    talk.say(**order(scan))
    assert engine.started.wait(60)
    talk.say(**order(scan, id=2))
    talk.say(id=3, command="cancel", request=2)
    talk.say(id=4, command="cancel", request=1)
    assert [talk.hear(), talk.hear()] == [
        {"event": "cancelled", "id": 1},
        {"event": "cancelled", "id": 2},
    ]
    assert len(engine.calls) == 1


def test_an_id_in_use_is_refused(talk, engine, scan):
    engine.wait_for_cancel = True
    talk.say(**order(scan))
    assert engine.started.wait(60)
    talk.say(**order(scan))
    assert "use a new id" in talk.hear()["message"]
    talk.say(id=2, command="cancel", request=1)
    assert talk.hear()["event"] == "cancelled"


def test_quit_cancels_what_runs_and_says_goodbye(talk, engine, scan):
    engine.wait_for_cancel = True
    talk.say(**order(scan))
    assert engine.started.wait(60)
    talk.say(id=2, command="quit")
    assert [talk.hear()["event"], talk.hear()["event"]] == ["cancelled", "bye"]
    assert talk.end() == 0


def test_the_end_of_stdin_cancels_and_ends(talk, engine, scan):
    engine.wait_for_cancel = True
    talk.say(**order(scan))
    assert engine.started.wait(60)
    talk.close()
    assert talk.end() == 0


def test_an_engine_that_does_not_heed_cancel_is_not_waited_for(engine, scan, monkeypatch):
    monkeypatch.setattr("versemi.worker.server.ORPHAN_GRACE", 0.05)
    orphaned = threading.Event()

    theirs, ours = os.pipe()

    def stubborn(*args, **keywords):
        os.close(ours)
        assert orphaned.wait(60)
        raise InputError("At last.")

    engine.segment = stubborn
    os.write(ours, json.dumps(order(scan)).encode() + b"\n")
    requests = os.fdopen(theirs, "rb")
    worker = Worker(requests, io.BytesIO(), lambda: engine, on_orphaned=orphaned.set)
    assert worker.run() == 0 and orphaned.is_set()


def test_nobody_listening_any_more_ends_a_running_request(engine, scan):
    class Deaf(io.BytesIO):
        def write(self, data):
            raise BrokenPipeError

    theirs, ours = os.pipe()
    worker = Worker(os.fdopen(theirs, "rb"), Deaf(), lambda: engine)
    engine.wait_for_cancel = True
    os.write(ours, json.dumps(order(scan)).encode() + b"\n")
    os.close(ours)
    assert worker.run() == 0


def test_a_pack_that_fails_at_the_start_or_later_ends_with_code_2(engine, scan):
    def refuse():
        raise PackError("The pack is damaged.")

    conversation = Conversation(refuse)
    event = conversation.hear()
    assert event["kind"] == "pack" and event["id"] is None
    assert conversation.end() == 2
    engine.error = PackError("The pack is damaged.")
    conversation = Conversation(lambda: engine)
    conversation.hear()
    conversation.say(**order(scan))
    assert conversation.hear()["kind"] == "pack"
    assert conversation.end() == 2
