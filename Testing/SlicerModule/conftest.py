"""What the module's tests share: a clean scene, volumes, and a logic over the stand-in worker."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from SlicerRuntime import MODULE_FOLDER, start

slicer = start()

STAND_IN = MODULE_FOLDER / "Testing" / "Python" / "StandInWorker.py"


@pytest.fixture(autouse=True)
def scene() -> Iterator[Any]:
    """An empty scene for every test."""
    slicer.mrmlScene.Clear(0)
    yield slicer.mrmlScene
    slicer.mrmlScene.Clear(0)


@pytest.fixture
def catalog() -> Any:
    """All prompts of the registry, as a pack that knows them all would give them."""
    from versemi.tasks import FOREGROUND, TASKS
    from VerSemiSlicerLib.PromptCatalog import PromptCatalog

    return PromptCatalog([t for t in TASKS.values() if t.id != FOREGROUND], "test pack", "1")


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


@pytest.fixture
def stand_in() -> Iterator[StandIn]:
    starter = StandIn()
    yield starter
    for worker in starter.workers:
        worker.stop()


@pytest.fixture
def logic(catalog: Any, stand_in: StandIn, tmp_path: Path) -> Iterator[Any]:
    from VerSemiSlicerLib.SegmentationLogic import SegmentationLogic

    folder = tmp_path / "Zwischenablage für Bilder"
    folder.mkdir()
    made = SegmentationLogic(catalog, stand_in, str(folder))
    yield made
    made.close()


def ball(shape: tuple[int, int, int] = (14, 18, 20)) -> np.ndarray:
    """(k, j, i) of int16: -1000 around a ball off the centre, -200 in it, 200 in its core."""
    k, j, i = np.indices(shape)
    center = np.array(shape) * [0.45, 0.4, 0.6]
    radius = np.sqrt((k - center[0]) ** 2 + (j - center[1]) ** 2 + (i - center[2]) ** 2)
    values = np.full(shape, -1000, np.int16)
    values[radius < 5] = -200
    values[radius < 2.5] = 200
    return values


@pytest.fixture
def add_volume(scene: Any) -> Callable[..., Any]:
    """Makes a scalar volume node with the ball in it, on the grid of `ijk_to_ras` (4, 4)."""

    def add(ijk_to_ras: np.ndarray | None = None, name: str = "Scan", values: Any = None) -> Any:
        node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
        slicer.util.updateVolumeFromArray(node, ball() if values is None else values)
        if ijk_to_ras is not None:
            node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(ijk_to_ras))
        node.CreateDefaultDisplayNodes()
        return node

    return add
