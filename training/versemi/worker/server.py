"""The loop that takes requests from one stream and answers them on another."""

from __future__ import annotations

import argparse
import json
import os
import queue
import sys
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO

from versemi.errors import Cancelled, InputError, VersemiError
from versemi.worker.commands import COMMANDS, Job, Progress
from versemi.worker.requests import Request, error_event, number, parse

if TYPE_CHECKING:
    from versemi.inference import Segmenter

#: A parent that is gone is not waited for longer than this, in seconds, whatever still computes.
ORPHAN_GRACE = 10.0


class Worker:
    """Answers requests from one stream with events on another.

    Args:
        requests: binary stream of JSON lines; its end ends the worker.
        events: binary stream that takes the answers.
        make_segmenter: called once, after requests are already being listened to.
        warnings: sentences that the parent has to hear at the start; `make_segmenter` may add some.
        on_orphaned: called `ORPHAN_GRACE` seconds after `requests` has ended, should the worker
            still be there then.
    """

    def __init__(
        self,
        requests: BinaryIO,
        events: BinaryIO,
        make_segmenter: Callable[[], Segmenter],
        on_orphaned: Callable[[], None] | None = None,
        warnings: Sequence[str] = (),
    ) -> None:
        self._requests = requests
        self._events = events
        self._make_segmenter = make_segmenter
        self._on_orphaned = on_orphaned
        self._warnings = warnings
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
            self._emit(error_event(None, error))
            return 2 if isinstance(error, VersemiError) else 1
        pack = segmenter.pack
        ready = {"pack": pack.name, "version": pack.version, "device": segmenter.device}
        self._emit({"event": "ready", **ready, "warnings": list(self._warnings)})
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
            request = parse(line)
            id = number(request, "id")
            command = request.get("command")
            if command == "cancel":
                target = number(request, "request")
                with self._lock:
                    # An answer that has already gone out cannot be cancelled, and needs no word.
                    if target in self._waiting:
                        self._cancelled.add(target)
                return
            if command not in (*COMMANDS, "quit"):
                known = ", ".join((*COMMANDS, "cancel"))
                raise InputError(f"There is no command {command!r}; use {known} or quit.")
            with self._lock:
                if id in self._waiting:
                    raise InputError(f"Request {id} is still being worked on; use a new id.")
                self._waiting.add(id)
            if command == "quit":
                self._closing.set()
            self._queue.put(request)
        except InputError as error:
            self._emit(error_event(id, error))

    # The main thread --------------------------------------------------------------------------

    def _answer(self, request: Request, segmenter: Segmenter) -> dict[str, Any]:
        """The event that ends a request, whatever happens to it."""
        id = request["id"]
        report = Progress(lambda event: self._emit({"event": "progress", "id": id, **event}))
        job = Job(
            request, segmenter, report, lambda: self._closing.is_set() or id in self._cancelled
        )
        try:
            return {"event": "result", "id": id, **COMMANDS[request["command"]](job)}
        except Cancelled:
            return {"event": "cancelled", "id": id}
        except Exception as error:  # the next request may well be a good one
            return error_event(id, error)

    def _emit(self, event: dict[str, Any]) -> None:
        # Escaped to ASCII: a path with undecodable bytes must not break the line.
        line = json.dumps(event).encode("ascii") + b"\n"
        try:
            with self._lock:
                self._events.write(line)
                self._events.flush()
        except (OSError, ValueError):
            self._closing.set()  # nobody listens any more


def take_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Take this process's stdin and stdout for a protocol alone; returns them in this order.

    They are moved to file descriptors of their own. What anything else writes to stdout from then
    on goes to stderr, and what anything else reads from stdin is empty.
    """
    requests = os.fdopen(os.dup(0), "rb")
    events = os.fdopen(os.dup(1), "wb")
    sys.stdout.flush()
    os.dup2(2, 1)
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    os.close(empty)
    return requests, events


def serve(make_segmenter: Callable[[], Segmenter], warnings: Sequence[str] = ()) -> int:
    """Run a worker on this process's own stdin and stdout; returns the exit code.

    See `Worker` for the arguments, and `take_pipes` for what becomes of the two streams.
    """
    requests, events = take_pipes()
    return Worker(requests, events, make_segmenter, lambda: os._exit(1), warnings).run()


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line and serve."""
    parser = argparse.ArgumentParser(
        prog="versemi.worker", description="Segment on request; JSON lines on stdin and stdout."
    )
    parser.add_argument(
        "--pack", help="folder of a model pack, NAME@VERSION or 'shipped'; default: the active one"
    )
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda", "mps"))
    options = parser.parse_args(arguments)

    warnings: list[str] = []

    def make_segmenter() -> Segmenter:
        from versemi.modelstore import active_pack, find_pack

        # Before torch is imported, so that a bad pack is told at once.
        if options.pack:
            pack = find_pack(options.pack)
        else:
            pack, warning = active_pack()
            warnings.extend(filter(None, [warning]))
        from versemi.inference import Segmenter

        return Segmenter(pack, device=options.device)

    return serve(make_segmenter, warnings)
