"""The engine as a child process: ``python -m versemi.worker [--pack DIR] [--device auto]``.

Requests come in on stdin and events go out on stdout, one JSON object a line, UTF-8::

    {"id": 1, "command": "segment", "image": PATH, "tasks": ["spleen"], "roi": {...} | null,
     "modality": "CT" | "MR" | null, "uncertainty": false, "output": DIR}
    {"id": 2, "command": "cancel", "request": 1}
    {"id": 3, "command": "list_tasks"}
    {"id": 4, "command": "quit"}

    {"event": "ready", "pack": NAME, "version": VERSION, "device": DEVICE}
    {"event": "progress", "id": 1, "fraction": 0.31, "message": SENTENCE}
    {"event": "result", "id": 1, "label_map": PATH, "uncertainty": PATH | null, "labels": {...},
     "volumes_ml": {...}, "warnings": [...], "timings": {...}, "device": DEVICE}
    {"event": "result", "id": 3, "tasks": [{"id": ..., "name": ..., ...}]}
    {"event": "error", "id": 1 | null, "kind": "input" | "pack" | "output" | "internal",
     "message": SENTENCE}
    {"event": "cancelled", "id": 1}
    {"event": "bye"}

Requests run one after the other. A bad one is answered with an error and forgotten; a bad pack
ends the process with code 2. ``quit`` cancels what runs, and so does the end of stdin, which
means that the parent is gone. Only the standard library is imported before the pipes are safe:
whatever a library prints to stdout goes to stderr.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from versemi.errors import Cancelled, InputError, OutputError, PackError, VersemiError

if TYPE_CHECKING:
    from versemi.inference import Segmenter

#: A parent that is gone is not waited for longer than this, in seconds, whatever still computes.
ORPHAN_GRACE = 10.0
_PROGRESS_INTERVAL = 0.1
_READING_SHARE, _WRITING_SHARE = 0.05, 0.05
_KINDS = ((InputError, "input"), (PackError, "pack"), (OutputError, "output"))

Request = dict[str, Any]


class Worker:
    """Answers requests from one stream with events on another.

    Args:
        requests: binary stream of JSON lines; its end ends the worker.
        events: binary stream that takes the answers.
        make_segmenter: called once, after requests are already being listened to.
        on_orphaned: called `ORPHAN_GRACE` seconds after `requests` has ended, should the worker
            still be there then.
    """

    def __init__(
        self,
        requests: BinaryIO,
        events: BinaryIO,
        make_segmenter: Callable[[], Segmenter],
        on_orphaned: Callable[[], None] | None = None,
    ) -> None:
        self._requests = requests
        self._events = events
        self._make_segmenter = make_segmenter
        self._on_orphaned = on_orphaned
        self._queue: queue.Queue[Request | None] = queue.Queue()
        self._lock = threading.Lock()
        self._waiting: set[int] = set()
        self._cancelled: set[int] = set()
        self._closing = threading.Event()

    def run(self) -> int:
        """Serve until told to quit or left alone; returns the exit code of the process."""
        threading.Thread(target=self._listen, name="requests", daemon=True).start()
        try:
            segmenter = self._make_segmenter()
        except Exception as error:  # whatever it is, the parent has to hear of it
            self._emit(_error_event(None, error))
            return 2 if isinstance(error, VersemiError) else 1
        pack = segmenter.pack
        ready = {"pack": pack.name, "version": pack.version, "device": segmenter.device}
        self._emit({"event": "ready", **ready})
        while (request := self._queue.get()) is not None:
            if request["command"] == "quit":
                self._emit({"event": "bye"})
                return 0
            answer = self._answer(request, segmenter)
            # Before the answer goes out: who has it may use the number again.
            with self._lock:
                self._waiting.discard(request["id"])
                self._cancelled.discard(request["id"])
            self._emit(answer)
            if answer.get("kind") == "pack":
                return 2
        return 0

    # The reader's thread ----------------------------------------------------------------------

    def _listen(self) -> None:
        try:
            for line in self._requests:
                if line.strip():
                    self._accept(line)
        except (OSError, ValueError):
            pass  # a broken pipe says the same as its end
        self._closing.set()
        self._queue.put(None)
        if self._on_orphaned is not None:
            timer = threading.Timer(ORPHAN_GRACE, self._on_orphaned)
            timer.daemon = True
            timer.start()

    def _accept(self, line: bytes) -> None:
        """Queue a request, or act on it at once where it concerns one that runs."""
        id: int | None = None
        try:
            request = _parse(line)
            id = _id(request, "id")
            command = request.get("command")
            if command == "cancel":
                target = _id(request, "request")
                with self._lock:
                    # An answer that has already gone out cannot be cancelled, and needs no word.
                    if target in self._waiting:
                        self._cancelled.add(target)
                return
            if command not in ("segment", "list_tasks", "quit"):
                raise InputError(
                    f"There is no command {command!r}; use segment, cancel, list_tasks or quit."
                )
            with self._lock:
                if id in self._waiting:
                    raise InputError(f"Request {id} is still being worked on; use a new id.")
                self._waiting.add(id)
            if command == "quit":
                self._closing.set()
            self._queue.put(request)
        except InputError as error:
            self._emit(_error_event(id, error))

    # The main thread --------------------------------------------------------------------------

    def _answer(self, request: Request, segmenter: Segmenter) -> dict[str, Any]:
        """The event that ends a request, whatever happens to it."""
        id = request["id"]
        try:
            if request["command"] == "list_tasks":
                tasks = [_describe(task) for task in segmenter.pack.tasks]
                return {"event": "result", "id": id, "tasks": tasks}
            return self._segment(request, segmenter)
        except Cancelled:
            return {"event": "cancelled", "id": id}
        except Exception as error:  # the next request may well be a good one
            return _error_event(id, error)

    def _segment(self, request: Request, segmenter: Segmenter) -> dict[str, Any]:
        from versemi.export import write_volume
        from versemi.geometry import Roi
        from versemi.images import read_image

        id = request["id"]
        image = _field(request, "image", str)
        tasks = _field(request, "tasks", list)
        output = Path(_field(request, "output", str))
        roi = _field(request, "roi", dict, optional=True)
        modality = _field(request, "modality", str, optional=True)
        uncertainty = _field(request, "uncertainty", bool, optional=True)
        if not tasks or not all(isinstance(task, str) for task in tasks):
            raise InputError("Request field 'tasks' has to be a list of one or more prompts.")
        if modality not in (None, "CT", "MR"):
            raise InputError(f"There is no modality {modality!r}; use CT, MR or null.")
        box = Roi.from_json(roi) if roi is not None else None

        def cancel() -> bool:
            return self._closing.is_set() or id in self._cancelled

        report = _Progress(lambda event: self._emit({"event": "progress", "id": id, **event}))

        def progress(fraction: float, message: str) -> None:
            report(_READING_SHARE + (1 - _READING_SHARE - _WRITING_SHARE) * fraction, message)

        if cancel():
            raise Cancelled("Cancelled.")
        report(0.0, "Reading the scan")
        scan = read_image(image)
        result = segmenter.segment(
            scan.image,
            tasks,
            roi=box,
            modality=modality or scan.modality,
            progress=progress,
            cancel=cancel,
        )
        if cancel():
            raise Cancelled("Cancelled.")
        report(1 - _WRITING_SHARE, "Writing the result")
        label_map = write_volume(result.label_map, output / f"label_map_{id}.nrrd")
        uncertainty_map = (
            write_volume(result.uncertainty(), output / f"uncertainty_{id}.nrrd")
            if uncertainty
            else None
        )
        return {
            "event": "result",
            "id": id,
            "label_map": str(label_map),
            "uncertainty": str(uncertainty_map) if uncertainty_map else None,
            "labels": {task.id: task.label for task in result.tasks},
            "volumes_ml": dict(result.volumes_ml),
            "warnings": [*scan.warnings, *result.warnings],
            "timings": dict(result.timings),
            "device": result.device,
        }

    def _emit(self, event: dict[str, Any]) -> None:
        # Escaped to ASCII: a path with undecodable bytes must not break the line.
        line = json.dumps(event).encode("ascii") + b"\n"
        try:
            with self._lock:
                self._events.write(line)
                self._events.flush()
        except (OSError, ValueError):
            self._closing.set()  # nobody listens any more


class _Progress:
    """Passes progress on, never backwards and not more often than a person can read."""

    def __init__(self, emit: Callable[[dict[str, Any]], None]) -> None:
        self._emit = emit
        self._fraction = -1.0
        self._message = ""
        self._time = float("-inf")

    def __call__(self, fraction: float, message: str) -> None:
        fraction = max(self._fraction, min(1.0, fraction))
        now = time.monotonic()
        if message == self._message and now - self._time < _PROGRESS_INTERVAL:
            return
        self._fraction, self._message, self._time = fraction, message, now
        self._emit({"fraction": round(fraction, 3), "message": message})


def serve(make_segmenter: Callable[[], Segmenter]) -> int:
    """Run a worker on this process's own stdin and stdout; returns the exit code.

    The pipes are moved to file descriptors of their own first. What anything else writes to
    stdout goes to stderr, and what anything else reads from stdin is empty.
    """
    requests = os.fdopen(os.dup(0), "rb")
    events = os.fdopen(os.dup(1), "wb")
    sys.stdout.flush()
    os.dup2(2, 1)
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    os.close(empty)
    return Worker(requests, events, make_segmenter, on_orphaned=lambda: os._exit(1)).run()


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line and serve."""
    parser = argparse.ArgumentParser(
        prog="versemi.worker", description="Segment on request; JSON lines on stdin and stdout."
    )
    parser.add_argument("--pack", type=Path, help="model pack; default: the one that ships")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda", "mps"))
    options = parser.parse_args(arguments)

    def make_segmenter() -> Segmenter:
        from versemi.modelpack import ModelPack, default_pack_path

        # Before torch is imported, so that a bad pack is told at once.
        pack = ModelPack.load(options.pack or default_pack_path())
        from versemi.inference import Segmenter

        return Segmenter(pack, device=options.device)

    return serve(make_segmenter)


def _parse(line: bytes) -> Request:
    try:
        request = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError):
        raise InputError("A request has to be one line of JSON in UTF-8.") from None
    if not isinstance(request, dict):
        raise InputError("A request has to be a JSON object with 'id' and 'command'.")
    return request


def _id(request: Request, key: str) -> int:
    value = request.get(key)
    if not isinstance(value, int) or isinstance(value, bool):
        raise InputError(f"Request field '{key}' has to be a whole number, not {value!r}.")
    return value


def _field(request: Request, key: str, type_: type, *, optional: bool = False) -> Any:
    value = request.get(key)
    if (value is None and optional) or isinstance(value, type_):
        return value
    if value is None:
        raise InputError(f"Request field '{key}' is missing.")
    raise InputError(f"Request field '{key}' cannot be {value!r}.")


def _error_event(id: int | None, error: Exception) -> dict[str, Any]:
    kind = next((kind for type_, kind in _KINDS if isinstance(error, type_)), "internal")
    message = str(error)
    if isinstance(error, MemoryError):
        message = "The memory of this computer is not enough; choose a smaller region."
    elif kind == "internal":
        traceback.print_exception(error, file=sys.stderr)
        message = f"Something unexpected went wrong ({type(error).__name__}: {error})."
    return {"event": "error", "id": id, "kind": kind, "message": message}


def _describe(task: Any) -> dict[str, Any]:
    keys = ("id", "name", "label", "color", "modality", "group", "region", "terminology")
    return {key: getattr(task, key) for key in keys}


if __name__ == "__main__":
    try:
        code = main()
    except KeyboardInterrupt:
        code = 130
    # The reader's thread waits in a read that nothing can interrupt: leave without it.
    sys.stderr.flush()
    os._exit(code)
