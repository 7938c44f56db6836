"""A stand-in for the engine, and what to say to a worker that has it."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import SimpleITK as sitk

from versemi.errors import Cancelled
from versemi.tasks import TASKS


class StandIn:
    """Speaks like a Segmenter and finds the upper half of the scan."""

    pack = SimpleNamespace(name="stand-in", version="1.2", tasks=(TASKS["spleen"], TASKS["liver"]))
    device = "cpu"

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []
        self.started = threading.Event()
        self.wait_for_cancel = False
        self.error: Exception | None = None

    def segment(self, image, tasks, *, roi, modality, progress, cancel):
        self.calls.append({"tasks": tasks, "roi": roi, "modality": modality})
        self.started.set()
        if self.error:
            raise self.error
        for step in range(100):
            progress(step / 100, "Looking")
            while self.wait_for_cancel and not cancel():
                time.sleep(0.005)
            if cancel():
                raise Cancelled("Cancelled.")
        values = np.zeros(image.GetSize()[::-1], np.uint8)
        values[values.shape[0] // 2 :] = TASKS[tasks[0]].label
        labels = sitk.GetImageFromArray(values)
        labels.CopyInformation(image)
        return SimpleNamespace(
            tasks=tuple(TASKS[task] for task in tasks),
            label_map=labels,
            uncertainty=lambda: sitk.Cast(labels, sitk.sitkFloat32),
            volumes_ml=dict.fromkeys(tasks, 1.5),
            warnings=["mind the gap"],
            timings={"fine": 0.1},
            device="cpu",
        )


def write_scan(folder: Path) -> Path:
    """A scan of noise, under a name that holds letters of several alphabets."""
    values = np.random.default_rng(0).normal(0, 100, (6, 7, 8)).astype(np.float32)
    image = sitk.GetImageFromArray(values)
    image.SetSpacing([0.8, 0.9, 2.5])
    path = folder / "größe 漢.nii.gz"
    sitk.WriteImage(image, str(path))
    return path


def order(scan: Path, id: int = 1, **changes: Any) -> dict[str, Any]:
    request = {
        "id": id,
        "command": "segment",
        "image": str(scan),
        "tasks": ["spleen"],
        "output": str(scan.parent / "out é"),
    }
    return {**request, **changes}
