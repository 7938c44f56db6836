"""The worker and the one request that it works on, whichever part of the module has asked.

Works without Qt: whoever owns the link calls `poll` now and then, from a timer under the panel,
from `waitUntilIdle` in a script.
"""

import enum
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from .Errors import UserError
from .Signal import Signal
from .WorkerProcess import ENDED, Worker

WorkerFactory = Callable[[str], Worker]
"""Starts a worker for a device ("auto", "cpu", "cuda", "mps")."""


class Listener(Protocol):
    """Who has asked; one of the last three calls ends the request, and no other follows."""

    def onProgress(self, fraction: float, sentence: str) -> None: ...

    def onResult(self, event: Mapping[str, Any]) -> None: ...

    def onFailed(self, sentence: str, detail: str) -> None: ...

    def onCancelled(self) -> None: ...


class State(enum.Enum):
    IDLE = "idle"
    RUNNING = "running"
    CANCELLING = "cancelling"


class WorkerLink:
    """Runs one request at a time, and keeps the worker warm for the next.

    Signal: `busyChanged(bool)`.
    """

    cancelPatience = 5.0
    """Seconds that the worker has to answer a cancel before it is ended."""

    def __init__(self, startWorker: WorkerFactory) -> None:
        self.busyChanged = Signal()
        self._startWorker = startWorker
        self._worker: Worker | None = None
        self._device = ""
        self._state = State.IDLE
        self._number = 0
        self._listener: Listener | None = None
        self._cancelDeadline = 0.0
        self._unheard: dict[str, Any] | None = None

    @property
    def isBusy(self) -> bool:
        return self._state is not State.IDLE

    @property
    def worker(self) -> Worker | None:
        """The worker that is kept warm, if there is one."""
        return self._worker

    def start(
        self, message: Mapping[str, Any], listener: Listener, device: str | None = None
    ) -> None:
        """Sends a request, which gets its number here; UserError says why it cannot.

        `device` None takes the worker that is warm, whatever it computes on.
        """
        if self.isBusy:
            raise UserError("Something else is running; wait for it, or cancel it.")
        warm = self._worker
        worker = self._warmWorker(device or self._device or "auto", listener)
        self._number += 1
        numbered = {"id": self._number, **message}
        # A worker that has died since the last run may not be known to be dead yet.
        self._unheard = numbered if worker is warm else None
        self._listener, self._state = listener, State.RUNNING
        worker.send(numbered)
        self.busyChanged.emit(True)

    def poll(self) -> None:
        """Takes in what the worker has said since the last call, and tells the listener."""
        worker = self._worker
        if worker is None:
            return
        for event in worker.poll():
            if event["event"] == ENDED:
                self._onEnded(event)
                return
            # What belongs to an earlier, cancelled run has nothing to say to this one; what
            # belongs to no run (no id) says something about the worker itself.
            if self.isBusy and event.get("id") in (None, self._number):
                self._unheard = None
                self._onEvent(event)
        if self._state is State.CANCELLING and time.monotonic() > self._cancelDeadline:
            self._dropWorker()
            self._finish(lambda listener: listener.onCancelled())

    def cancel(self) -> None:
        """Asks the request to stop; `onCancelled` follows from `poll`, within `cancelPatience`."""
        if self._state is not State.RUNNING or self._worker is None:
            return
        self._state = State.CANCELLING
        self._cancelDeadline = time.monotonic() + self.cancelPatience
        self._worker.send({"id": -self._number, "command": "cancel", "request": self._number})

    def waitUntilIdle(self, timeout: float = 3600.0, interval: float = 0.02) -> None:
        """Polls until the request has ended; for scripts, which have no timer."""
        deadline = time.monotonic() + timeout
        while self.isBusy:
            if time.monotonic() > deadline:
                raise TimeoutError(f"The request did not end within {timeout:g} s.")
            self.poll()
            time.sleep(interval)

    def close(self) -> None:
        """Ends the worker, and with it any request, which ends as cancelled."""
        self._dropWorker()
        if self.isBusy:
            self._finish(lambda listener: listener.onCancelled())

    # -- the worker ----------------------------------------------------------------------------

    def _warmWorker(self, device: str, listener: Listener) -> Worker:
        if self._worker is not None and (self._device != device or not self._worker.isRunning()):
            self._dropWorker()
        if self._worker is None:
            listener.onProgress(0.0, "Starting the segmentation engine")
            try:
                self._worker = self._startWorker(device)
            except OSError as error:
                raise UserError(f"The segmentation engine could not be started: {error}.") from None
            self._device = device
        return self._worker

    def _dropWorker(self) -> None:
        if self._worker is not None:
            worker, self._worker = self._worker, None
            worker.stop()

    # -- events --------------------------------------------------------------------------------

    def _onEvent(self, event: Mapping[str, Any]) -> None:
        kind, listener = event["event"], self._listener
        assert listener is not None
        if kind == "progress" and self._state is State.RUNNING:
            listener.onProgress(float(event["fraction"]), str(event["message"]))
        elif kind == "ready" and self._state is State.RUNNING:
            listener.onProgress(0.0, f"The segmentation engine is ready ({event['device']})")
        elif kind == "cancelled" or (
            kind in ("result", "error") and self._state is State.CANCELLING
        ):
            self._finish(lambda listener: listener.onCancelled())
        elif kind == "error":
            detail = self._errorOutput() if event.get("kind") == "internal" else ""
            self._finish(lambda listener: listener.onFailed(str(event["message"]), detail))
        elif kind == "result":
            self._finish(lambda listener: listener.onResult(event))

    def _onEnded(self, event: Mapping[str, Any]) -> None:
        detail = self._errorOutput()
        unheard, self._unheard = self._unheard, None
        self._dropWorker()
        sentence = (
            f"The segmentation engine ended unexpectedly (exit code {event.get('exit_code')}), "
            "perhaps for want of memory; close other programs or choose an ROI, and try again: it "
            "will be started anew."
        )
        if self._state is State.RUNNING and unheard is not None:
            assert self._listener is not None
            try:
                self._warmWorker(self._device, self._listener).send(unheard)
                return
            except UserError as error:
                sentence = str(error)
        if self._state is State.CANCELLING:
            self._finish(lambda listener: listener.onCancelled())
        elif self._state is State.RUNNING:
            self._finish(lambda listener: listener.onFailed(sentence, detail))

    def _finish(self, tell: Callable[[Listener], None]) -> None:
        """Back to idle first: the listener may well start the next request."""
        listener, self._listener = self._listener, None
        assert listener is not None
        self._state = State.IDLE
        try:
            tell(listener)
        finally:
            self.busyChanged.emit(self.isBusy)

    def _errorOutput(self) -> str:
        return self._worker.errorOutput() if self._worker is not None else ""
