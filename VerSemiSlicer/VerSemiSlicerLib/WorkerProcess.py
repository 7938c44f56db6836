"""The child process that segments: JSON lines to its stdin, JSON lines from its stdout.

Nothing here blocks, so a timer in Slicer's main thread may call it: threads read the pipes, and
`poll` hands over what they have read so far.
"""

import atexit
import collections
import contextlib
import json
import logging
import queue
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import IO, Any, Protocol

from .ProcessTree import killTree, startProcess

ENDED = "ended"
"""Event that `poll` adds itself when the process has ended, with its exit code."""


class Worker(Protocol):
    """What the logic needs of a worker."""

    def isRunning(self) -> bool: ...

    def send(self, message: Mapping[str, Any]) -> None: ...

    def poll(self) -> list[dict[str, Any]]: ...

    def errorOutput(self) -> str: ...

    def stop(self, patience: float = 0.0) -> None: ...


class WorkerProcess:
    """A running worker. It is started by the constructor and ended by `stop`.

    `command` is the program with its arguments, `environment` its whole environment.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._process = startProcess(command, environment)
        self._events: queue.Queue[dict[str, Any]] = queue.Queue()
        self._errorLines: collections.deque[str] = collections.deque(maxlen=200)
        self._stopped = False
        self._outputEnded = False
        assert self._process.stdout is not None and self._process.stderr is not None
        self._errorReader = self._startReader(self._readErrors, self._process.stderr)
        self._eventReader = self._startReader(self._readEvents, self._process.stdout)
        _living.add(self)

    @property
    def pid(self) -> int:
        return self._process.pid

    def isRunning(self) -> bool:
        # While the reader thread waits for the exit code, poll() does not know it yet.
        ended = self._stopped or self._outputEnded
        return not ended and self._process.poll() is None

    def send(self, message: Mapping[str, Any]) -> None:
        """Sends one request. A worker that has ended is reported by `poll`, not here."""
        assert self._process.stdin is not None
        line = json.dumps(message, ensure_ascii=True) + "\n"
        with contextlib.suppress(OSError, ValueError):
            self._process.stdin.write(line.encode("ascii"))
            self._process.stdin.flush()

    def poll(self) -> list[dict[str, Any]]:
        """All events that have arrived since the last call, oldest first."""
        events = []
        while True:
            try:
                events.append(self._events.get_nowait())
            except queue.Empty:
                return events

    def errorOutput(self) -> str:
        """The last lines that the worker wrote to stderr."""
        return "\n".join(self._errorLines)

    def stop(self, patience: float = 0.0) -> None:
        """Ends the worker and all that it started; first asks it to, for `patience` seconds."""
        if self._stopped:
            return
        self._stopped = True
        self.send({"id": 0, "command": "quit"})
        with contextlib.suppress(OSError):
            if self._process.stdin is not None:
                self._process.stdin.close()
        deadline = time.monotonic() + patience
        while self._process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        killTree(self._process)
        for reader in (self._eventReader, self._errorReader):
            reader.join(timeout=2)
        for stream in (self._process.stdout, self._process.stderr):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        _living.discard(self)

    @staticmethod
    def _startReader(read: Callable[[IO[bytes]], None], stream: IO[bytes]) -> threading.Thread:
        thread = threading.Thread(target=read, args=(stream,), daemon=True)
        thread.start()
        return thread

    def _readEvents(self, stream: IO[bytes]) -> None:
        with contextlib.suppress(OSError, ValueError):
            for line in stream:
                try:
                    event = json.loads(line.decode("utf-8"))
                except ValueError:
                    event = None
                if isinstance(event, dict) and "event" in event:
                    self._events.put(event)
                elif line.strip():
                    logging.warning("VerSemi worker wrote what is no event: %r", line[:200])
        self._outputEnded = True
        # What it said last explains why it ended, so that has to be in before the event is.
        self._errorReader.join(timeout=2)
        with contextlib.suppress(Exception):
            self._process.wait(timeout=5)
        self._events.put({"event": ENDED, "exit_code": self._process.returncode})

    def _readErrors(self, stream: IO[bytes]) -> None:
        with contextlib.suppress(OSError, ValueError):
            for line in stream:
                self._errorLines.append(line.decode("utf-8", errors="replace").rstrip())


_living: "weakref.WeakSet[WorkerProcess]" = weakref.WeakSet()


@atexit.register
def _stopAll() -> None:
    """Slicer that ends without closing the module (a script's exit) leaves no worker behind."""
    for worker in list(_living):
        worker.stop()
