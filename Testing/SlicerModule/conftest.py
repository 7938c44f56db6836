"""What the module's tests share: a clean scene, volumes, and a logic over the stand-in worker."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from stand_in import StandIn  # noqa: E402

from SlicerRuntime import start  # noqa: E402

slicer = start()


@pytest.fixture(autouse=True)
def scene() -> Iterator[Any]:
    """An empty scene for every test."""
    slicer.mrmlScene.Clear(0)
    yield slicer.mrmlScene
    slicer.mrmlScene.Clear(0)


@pytest.fixture(autouse=True)
def no_model_of_the_users_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whoever runs the tests may have chosen a model."""
    monkeypatch.setenv("VERSEMI_MODELS", str(tmp_path / "no models"))


@pytest.fixture
def model() -> Any:
    """All prompts of the registry, as a pack that knows them all would give them."""
    from versemi.tasks import FOREGROUND, TASKS
    from VerSemiSlicerLib.ModelInUse import Model, ModelInUse

    tasks = tuple(t for t in TASKS.values() if t.id != FOREGROUND)
    made = ModelInUse(lambda: Model(Path("pack"), "versemi-base", "1.0.0", tasks))
    made.refresh()
    return made


@pytest.fixture
def catalog(model: Any) -> Any:
    return model.catalog


@pytest.fixture
def stand_in() -> Iterator[StandIn]:
    starter = StandIn()
    yield starter
    for worker in starter.workers:
        worker.stop()


@pytest.fixture
def logic(catalog: Any, stand_in: StandIn, tmp_path: Path) -> Iterator[Any]:
    from VerSemiSlicerLib.SegmentationLogic import SegmentationLogic
    from VerSemiSlicerLib.WorkerLink import WorkerLink

    folder = tmp_path / "Zwischenablage für Bilder"
    folder.mkdir()
    made = SegmentationLogic(catalog, WorkerLink(stand_in), str(folder))
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


@pytest.fixture(scope="session")
def qt_application() -> Any:
    """Real Qt, offscreen, with Slicer's widgets in it."""
    from SlicerRuntime import widgets

    return widgets.install()


@pytest.fixture
def desk(qt_application: Any, model: Any, logic: Any) -> Iterator[Any]:
    from desk import Desk

    made = Desk(model, logic, qt_application)
    yield made
    made.panel.cleanup()
    made.widget.deleteLater()


@pytest.fixture
def desk_with_scan(add_volume: Any, desk: Any) -> Any:
    desk.parameters.inputVolume = add_volume()
    return desk


@pytest.fixture
def bench(catalog: Any, tmp_path: Path) -> Any:
    from export_bench import Bench

    return Bench(catalog, tmp_path)


@pytest.fixture
def segments(add_volume: Any) -> Callable[..., tuple[Any, Any]]:
    """Makes a volume with segments to export."""
    from export_bench import make_segments

    return functools.partial(make_segments, add_volume)
