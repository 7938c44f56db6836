"""The engine's own commands in the test's process: what the worker does but for the pipes.

Only those that need no network; nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from versemi.errors import Cancelled, VersemiError
from versemi.tasks import FOREGROUND, TASKS
from versemi.worker.commands import COMMANDS, Job
from versemi.worker.requests import error_event


class InProcessWorker:
    """Answers a request while it is sent; the answers wait for `poll`."""

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self.cancelled: set[int] = set()
        self.running = True
        self._events: list[dict[str, Any]] = [
            {"event": "ready", "pack": "test pack", "version": "1", "device": "cpu"}
        ]
        tasks = tuple(task for task in TASKS.values() if task.id != FOREGROUND)
        self._segmenter: Any = SimpleNamespace(pack=SimpleNamespace(tasks=tasks))

    def __call__(self, device: str) -> InProcessWorker:
        """As a factory of workers, which there is one of."""
        return self

    def isRunning(self) -> bool:
        return self.running

    def send(self, message: Mapping[str, Any]) -> None:
        request = dict(message)
        self.requests.append(request)
        id = int(request["id"])

        def report(fraction: float, sentence: str) -> None:
            progress = {"event": "progress", "id": id, "fraction": fraction, "message": sentence}
            self._events.append(progress)

        job = Job(request, self._segmenter, report, lambda: id in self.cancelled)
        try:
            answer = {"event": "result", "id": id, **COMMANDS[request["command"]](job)}
        except Cancelled:
            answer = {"event": "cancelled", "id": id}
        except VersemiError as error:
            answer = error_event(id, error)
        self._events.append(answer)

    def poll(self) -> list[dict[str, Any]]:
        events, self._events = self._events, []
        return events

    def errorOutput(self) -> str:
        return ""

    def stop(self, patience: float = 0.0) -> None:
        self.running = False
