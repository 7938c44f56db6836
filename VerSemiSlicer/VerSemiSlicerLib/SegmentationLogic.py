"""One run of the engine on a volume, from the request to nodes in the scene.

Works without Qt: whoever owns the logic calls `poll` now and then, from a timer under the panel,
from `waitUntilDone` in a script.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import slicer

from . import RoiConversion, SegmentImport, Segments, VolumeInput
from .Errors import UserError
from .PromptCatalog import PromptCatalog
from .SegmentationResult import SegmentationRequest, SegmentationResult
from .WorkerClient import WorkerClient
from .WorkerLink import WorkerLink
from .WorkerProcess import Worker


class SegmentationLogic(WorkerClient):
    """Runs one request at a time, and keeps the worker warm for the next.

    Signals: `progressed(fraction, sentence)`, `finished(SegmentationResult)`, `failed(sentence,
    detail)`, `cancelled()`. Until `finished` the scene is not touched, so a run that fails or is
    cancelled leaves it as it was.
    """

    def __init__(
        self, catalog: PromptCatalog, link: WorkerLink, temporaryFolder: str | None = None
    ) -> None:
        super().__init__(link, temporaryFolder)
        self.catalog = catalog
        self._request: SegmentationRequest | None = None
        self._geometry: np.ndarray | None = None

    @property
    def isRunning(self) -> bool:
        return self._request is not None

    @property
    def worker(self) -> Worker | None:
        """The worker that is kept warm, if there is one."""
        return self.link.worker

    def start(self, request: SegmentationRequest) -> None:
        """Begins a run; UserError says why it cannot, with nothing begun."""
        if self.link.isBusy:
            raise UserError("A segmentation is running; wait for it, or cancel it.")
        roi = self._check(request)
        assert request.volumeNode is not None
        folder = self._newFolder()
        self._request = request
        try:
            image = VolumeInput.writeVolume(request.volumeNode, folder)
            self._geometry = VolumeInput.ijkToRas(request.volumeNode)
            message = {
                "command": "segment",
                "image": str(image),
                "tasks": self.catalog.inOrder(request.prompts),
                "roi": roi,
                "modality": request.modality,
                "uncertainty": request.wantsUncertainty,
                "output": str(folder),
            }
            self.link.start(message, self, request.device)
        except BaseException:
            self._clear()
            raise

    def poll(self) -> None:
        """Takes in what the worker has said since the last call, and tells the signals."""
        self.link.poll()

    def cancel(self) -> None:
        """Asks the run to stop; `cancelled` follows from `poll`."""
        if self.isRunning:
            self.link.cancel()

    def waitUntilDone(self, timeout: float = 3600.0, interval: float = 0.02) -> None:
        """Polls until the run has ended; for scripts, which have no timer."""
        self.link.waitUntilIdle(timeout, interval)

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
        self.link.close()

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
            Segments.checkIsOfVoxels(request.segmentationNode)
        if request.wantsUncertainty and request.uncertaintyNode is request.volumeNode:
            raise UserError(
                "The uncertainty would overwrite the input volume; choose another volume for it."
            )
        if request.roiNode is None:
            return None
        return RoiConversion.roiToJson(request.roiNode, request.volumeNode)

    # -- the result ----------------------------------------------------------------------------

    def _take(self, event: Mapping[str, Any]) -> SegmentationResult:
        assert self._request is not None
        return self._importResult(self._request, event)

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
            f"{self.catalog.packName} {self.catalog.packVersion}".strip(),
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

    def _clear(self) -> None:
        super()._clear()
        self._request = self._geometry = None


def _inScene(node: Any) -> Any:
    """The node, or None where it is None or has been removed from the scene meanwhile."""
    return node if node is not None and slicer.mrmlScene.IsNodePresent(node) else None
