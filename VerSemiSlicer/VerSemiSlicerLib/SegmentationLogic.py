"""One run of the engine on a volume, from the request to nodes in the scene.

Works without Qt: whoever owns the logic calls `poll` now and then, from a timer under the panel,
from `waitUntilDone` in a script.
"""

import enum
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import slicer

from . import Locations, RoiConversion, SegmentImport, VolumeInput
from .Errors import UserError
from .PromptCatalog import PromptCatalog
from .SegmentationResult import SegmentationRequest, SegmentationResult
from .Signal import Signal
from .WorkerCommand import WorkerCommand
from .WorkerProcess import ENDED, Worker, WorkerProcess

WorkerFactory = Callable[[str], Worker]
"""Starts a worker for a device ("auto", "cpu", "cuda", "mps")."""


class State(enum.Enum):
    IDLE = "idle"
    RUNNING = "running"
    CANCELLING = "cancelling"


def startShippedWorker(device: str) -> Worker:
    """The real worker with the pack in use."""
    command = WorkerCommand()
    return WorkerProcess(command.line(Locations.packFolder(), device), command.fullEnvironment())


class SegmentationLogic:
    """Runs one request at a time, and keeps the worker warm for the next.

    Signals: `progressed(fraction, sentence)`, `finished(SegmentationResult)`, `failed(sentence,
    detail)`, `cancelled()`. Until `finished` the scene is not touched, so a run that fails or is
    cancelled leaves it as it was.
    """

    cancelPatience = 5.0
    """Seconds that the worker has to answer a cancel before it is ended."""

    def __init__(
        self,
        catalog: PromptCatalog,
        startWorker: WorkerFactory = startShippedWorker,
        temporaryFolder: str | None = None,
    ) -> None:
        self.catalog = catalog
        self.progressed = Signal()
        self.finished = Signal()
        self.failed = Signal()
        self.cancelled = Signal()
        self._startWorker = startWorker
        self._temporaryFolder = temporaryFolder
        self._worker: Worker | None = None
        self._workerDevice = ""
        self._state = State.IDLE
        self._requestNumber = 0
        self._request: SegmentationRequest | None = None
        self._geometry: np.ndarray | None = None
        self._folder: Path | None = None
        self._cancelDeadline = 0.0
        self._unheard: dict[str, Any] | None = None

    @property
    def isRunning(self) -> bool:
        return self._state is not State.IDLE

    @property
    def worker(self) -> Worker | None:
        """The worker that is kept warm, if there is one."""
        return self._worker

    def problem(self, request: SegmentationRequest) -> str:
        """Why the request cannot be run, in one sentence; "" where it can."""
        try:
            self._check(request)
        except UserError as error:
            return str(error)
        return ""

    def start(self, request: SegmentationRequest) -> None:
        """Begins a run; UserError says why it cannot, with nothing begun."""
        if self.isRunning:
            raise UserError("A segmentation is running; wait for it, or cancel it.")
        roi = self._check(request)
        assert request.volumeNode is not None
        folder = Path(tempfile.mkdtemp(prefix="VerSemi-", dir=self._temporaryFolder))
        try:
            image = folder / "volume.nrrd"
            VolumeInput.writeVolume(request.volumeNode, image)
            warm = self._worker
            worker = self._warmWorker(request.device)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        self._folder, self._request = folder, request
        self._geometry = VolumeInput.ijkToRas(request.volumeNode)
        self._requestNumber += 1
        self._state = State.RUNNING
        message = {
            "id": self._requestNumber,
            "command": "segment",
            "image": str(image),
            "tasks": self.catalog.inOrder(request.prompts),
            "roi": roi,
            "modality": request.modality,
            "uncertainty": request.wantsUncertainty,
            "output": str(folder),
        }
        # A worker that has died since the last run may not be known to be dead yet.
        self._unheard = message if worker is warm else None
        worker.send(message)

    def poll(self) -> None:
        """Takes in what the worker has said since the last call, and tells the signals."""
        worker = self._worker
        if worker is None:
            return
        for event in worker.poll():
            if event["event"] == ENDED:
                self._onEnded(event)
                return
            # What belongs to an earlier, cancelled run has nothing to say to this one; what
            # belongs to no run (no id) says something about the worker itself.
            if self.isRunning and event.get("id") in (None, self._requestNumber):
                self._unheard = None
                self._onEvent(event)
        if self._state is State.CANCELLING and time.monotonic() > self._cancelDeadline:
            self._dropWorker()
            self._finish(self.cancelled)

    def cancel(self) -> None:
        """Asks the run to stop; `cancelled` follows from `poll`, within `cancelPatience`."""
        if self._state is not State.RUNNING or self._worker is None:
            return
        self._state = State.CANCELLING
        self._cancelDeadline = time.monotonic() + self.cancelPatience
        self._worker.send(
            {"id": -self._requestNumber, "command": "cancel", "request": self._requestNumber}
        )

    def waitUntilDone(self, timeout: float = 3600.0, interval: float = 0.02) -> None:
        """Polls until the run has ended; for scripts, which have no timer."""
        deadline = time.monotonic() + timeout
        while self.isRunning:
            if time.monotonic() > deadline:
                raise TimeoutError(f"The segmentation did not end within {timeout:g} s.")
            self.poll()
            time.sleep(interval)

    def segment(self, request: SegmentationRequest) -> SegmentationResult:
        """Runs the request to its end and returns the result; for scripts.

        Raises UserError where the run fails.
        """
        outcome: list[Any] = []
        self.finished.connect(outcome.append)
        onFailed = lambda sentence, detail: outcome.append(UserError(sentence))  # noqa: E731
        self.failed.connect(onFailed)
        try:
            self.start(request)
            self.waitUntilDone()
        finally:
            self.finished.disconnect(outcome.append)
            self.failed.disconnect(onFailed)
        if not outcome:
            raise UserError("The segmentation was cancelled.")
        if isinstance(outcome[0], UserError):
            raise outcome[0]
        return outcome[0]

    def close(self) -> None:
        """Ends the worker, and with it any run, which ends as cancelled."""
        wasRunning = self.isRunning
        self._dropWorker()
        if wasRunning:
            self._finish(self.cancelled)

    # -- checks --------------------------------------------------------------------------------

    def _check(self, request: SegmentationRequest) -> dict[str, Any] | None:
        """Raises UserError, or returns the ROI as the worker takes it."""
        VolumeInput.checkVolume(request.volumeNode)
        assert request.volumeNode is not None
        if not request.prompts:
            raise UserError("Choose at least one task prompt.")
        unknown = [prompt for prompt in request.prompts if prompt not in self.catalog]
        if unknown:
            raise UserError(
                f"The model pack '{self.catalog.packName}' does not know the prompt "
                f"'{unknown[0]}'; choose another one, or a pack that knows it."
            )
        if request.segmentationNode is not None:
            SegmentImport.checkSegmentation(request.segmentationNode)
        if request.wantsUncertainty and request.uncertaintyNode is request.volumeNode:
            raise UserError(
                "The uncertainty would overwrite the input volume; choose another volume for it."
            )
        if request.roiNode is None:
            return None
        return RoiConversion.roiToJson(request.roiNode, request.volumeNode)

    # -- the worker ----------------------------------------------------------------------------

    def _warmWorker(self, device: str) -> Worker:
        if self._worker is not None and (
            self._workerDevice != device or not self._worker.isRunning()
        ):
            self._dropWorker()
        if self._worker is None:
            self.progressed.emit(0.0, "Starting the segmentation engine")
            try:
                self._worker = self._startWorker(device)
            except OSError as error:
                raise UserError(f"The segmentation engine could not be started: {error}.") from None
            self._workerDevice = device
        return self._worker

    def _dropWorker(self) -> None:
        if self._worker is not None:
            worker, self._worker = self._worker, None
            worker.stop()

    # -- events --------------------------------------------------------------------------------

    def _onEvent(self, event: Mapping[str, Any]) -> None:
        kind = event["event"]
        if kind == "progress" and self._state is State.RUNNING:
            self.progressed.emit(float(event["fraction"]), str(event["message"]))
        elif kind == "ready" and self._state is State.RUNNING:
            self.progressed.emit(0.0, f"Reading the volume ({event['device']})")
        elif kind == "cancelled" or (
            kind in ("result", "error") and self._state is State.CANCELLING
        ):
            self._finish(self.cancelled)
        elif kind == "error":
            detail = self._errorOutput() if event.get("kind") == "internal" else ""
            self._finish(self.failed, str(event["message"]), detail)
        elif kind == "result":
            self._onResult(event)

    def _onEnded(self, event: Mapping[str, Any]) -> None:
        detail = self._errorOutput()
        unheard, self._unheard = self._unheard, None
        self._dropWorker()
        if self._state is State.CANCELLING:
            self._finish(self.cancelled)
        elif self._state is State.RUNNING and unheard is not None and self._request is not None:
            self._warmWorker(self._request.device).send(unheard)
        elif self._state is State.RUNNING:
            code = event.get("exit_code")
            self._finish(
                self.failed,
                f"The segmentation engine ended unexpectedly (exit code {code}), perhaps for want "
                "of memory; close other programs or choose an ROI, and press Segment to start it "
                "again.",
                detail,
            )

    def _onResult(self, event: Mapping[str, Any]) -> None:
        assert self._request is not None
        try:
            result = self._importResult(self._request, event)
        except UserError as error:
            self._finish(self.failed, str(error), "")
            return
        self._finish(self.finished, result)

    def _importResult(
        self, request: SegmentationRequest, event: Mapping[str, Any]
    ) -> SegmentationResult:
        volumeNode = request.volumeNode
        if volumeNode is None or not _inScene(volumeNode):
            raise UserError(
                "The input volume was removed from the scene while it was being segmented; "
                "nothing was added."
            )
        assert self._geometry is not None
        if not np.allclose(VolumeInput.ijkToRas(volumeNode), self._geometry):
            raise UserError(
                "The geometry of the input volume was changed while it was being segmented; "
                "segment it again."
            )
        tasks = [self.catalog.task(p) for p in self.catalog.inOrder(request.prompts)]
        segmentationNode, rows = SegmentImport.importSegments(
            Path(event["label_map"]),
            tasks,
            event["labels"],
            event["volumes_ml"],
            volumeNode,
            _inScene(request.segmentationNode),
        )
        uncertaintyNode = None
        if request.wantsUncertainty and event.get("uncertainty"):
            uncertaintyNode = SegmentImport.importUncertainty(
                Path(event["uncertainty"]), volumeNode, _inScene(request.uncertaintyNode)
            )
        return SegmentationResult(
            segmentationNode,
            uncertaintyNode,
            rows,
            tuple(event.get("warnings", ())),
            dict(event.get("timings", {})),
            str(event.get("device", "")),
        )

    def _finish(self, signal: Signal, *arguments: Any) -> None:
        """Back to idle first: a slot may well start the next run."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
        self._state = State.IDLE
        self._request = self._geometry = self._folder = None
        signal.emit(*arguments)

    def _errorOutput(self) -> str:
        return self._worker.errorOutput() if self._worker is not None else ""


def _inScene(node: Any) -> Any:
    """The node, or None where it is None or has been removed from the scene meanwhile."""
    return node if node is not None and slicer.mrmlScene.IsNodePresent(node) else None
