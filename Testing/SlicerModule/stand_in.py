"""Starting workers that stand in for the real one."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from SlicerRuntime import MODULE_FOLDER

STAND_IN = MODULE_FOLDER / "Testing" / "Python" / "StandInWorker.py"


class StandIn:
    """Starts stand-in workers, in the manner set, and remembers them."""

    def __init__(self) -> None:
        self.manner = ""
        self.devices: list[str] = []
        self.workers: list[Any] = []

    def __call__(self, device: str) -> Any:
        from VerSemiSlicerLib.WorkerCommand import WorkerCommand
        from VerSemiSlicerLib.WorkerProcess import WorkerProcess

        command = WorkerCommand(
            python=sys.executable,
            script=(str(STAND_IN),),
            environment={"VERSEMI_STAND_IN": self.manner},
        )
        worker = WorkerProcess(command.line(Path("pack"), device), command.fullEnvironment())
        self.devices.append(device)
        self.workers.append(worker)
        return worker
