"""Fine-tuning as a child process: news as JSON lines on stdout, commands on stdin.

    {"event": "progress", "fraction": 0.4, "sentence": ..., "loss": 0.31, "dice": {"spleen": 0.9}}
    {"event": "result", "pack": PATH, "name": NAME, "version": VERSION, "state": "available" |
     "provisional" | "kept aside", "reason": ..., "sentence": ..., "report": PATH, "dice": {...}}
    {"event": "error", "kind": "input" | "pack" | "output" | "cancelled" | "internal",
     "sentence": ...}
    {"event": "warning", "sentence": ...}

    {"command": "pause"}
    {"command": "resume"}
    {"command": "cancel"}

``loss`` is null and ``dice`` empty until there is one. ``result`` or ``error`` comes last. The end
of stdin means that the parent process is gone: the run ends within seconds, and the same command
goes on with it later. Only the standard library is imported here, so that commands are listened to
at once.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from versemi.errors import Cancelled, InputError
from versemi.learning.finetuning.watch import Control, News
from versemi.worker.requests import error_event, parse
from versemi.worker.server import ORPHAN_GRACE

if TYPE_CHECKING:
    from versemi.learning.finetuning.run import Outcome

_INTERVAL = 0.1


class Door:
    """Speaks for a run, and listens.

    Args:
        commands: binary stream of JSON lines; its end ends the run.
        events: binary stream that takes the news.
        on_orphaned: called some seconds after `commands` has ended, should the process still be
            there then.
    """

    def __init__(
        self, commands: BinaryIO, events: BinaryIO, on_orphaned: Callable[[], None]
    ) -> None:
        self.control = Control()
        self._commands = commands
        self._events = events
        self._on_orphaned = on_orphaned
        self._lock = threading.Lock()
        self._told = float("-inf")

    def listen(self) -> None:
        """Begin to act on commands, in a thread of its own."""
        threading.Thread(target=self._listen, name="commands", daemon=True).start()

    def tell(self, news: News) -> None:
        """Pass news on, not more often than a person can read."""
        now = time.monotonic()
        if now - self._told < _INTERVAL and news.fraction < 1:
            return
        self._told = now
        self._emit(
            {
                "event": "progress",
                "fraction": round(news.fraction, 4),
                "sentence": news.sentence,
                "loss": None if news.loss is None else round(news.loss, 4),
                "dice": {prompt: round(value, 4) for prompt, value in news.dice.items()},
            }
        )

    def result(self, outcome: Outcome, report: Path, sentence: str) -> None:
        """Tell what came out."""
        self._emit(
            {
                "event": "result",
                "pack": str(outcome.pack.path),
                "name": outcome.pack.name,
                "version": outcome.pack.version,
                "state": outcome.state,
                "reason": outcome.reason,
                "sentence": sentence,
                "report": str(report),
                "dice": outcome.report["dice"],
            }
        )

    def error(self, error: Exception) -> None:
        """Tell why nothing came out; what is not meant for the user is logged on stderr."""
        if isinstance(error, Cancelled):
            kind, sentence = "cancelled", str(error)
        else:
            event = error_event(None, error)
            kind, sentence = event["kind"], event["message"]
        self._emit({"event": "error", "kind": kind, "sentence": sentence})

    def _listen(self) -> None:
        actions = {
            "pause": self.control.pause,
            "resume": self.control.resume,
            "cancel": self.control.cancel,
        }
        try:
            for line in self._commands:
                if line.strip():
                    try:
                        command = parse(line).get("command")
                        if command not in actions:
                            raise InputError(
                                f"There is no command {command!r}; use {', '.join(actions)}."
                            )
                        actions[command]()
                    except InputError as error:
                        self._emit({"event": "warning", "sentence": str(error)})
        except (OSError, ValueError):
            pass  # a broken pipe says the same as its end
        self.control.leave()
        timer = threading.Timer(ORPHAN_GRACE, self._on_orphaned)
        timer.daemon = True
        timer.start()

    def _emit(self, event: dict[str, Any]) -> None:
        # Escaped to ASCII: a path with undecodable bytes must not break the line.
        line = json.dumps(event).encode("ascii") + b"\n"
        try:
            with self._lock:
                self._events.write(line)
                self._events.flush()
        except (OSError, ValueError):
            self.control.leave()  # nobody listens any more
