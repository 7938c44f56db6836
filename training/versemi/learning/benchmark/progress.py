"""How good a method is after how long: packs of the averaged weights along a run, and their Dice.

They are measured when the run has ended, and nothing is chosen by them.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback

from versemi.evaluation import mean_of_known
from versemi.export import write_text
from versemi.learning.callbacks import TrainingTime
from versemi.learning.configuration import RunSettings
from versemi.learning.release import release
from versemi.learning.trainer import PromptedTraining

#: Shares of a run after which a pack is kept; at the end there is the run's own.
SHARES = (0.25, 0.5, 0.75)
#: Steps, seconds of training, and the mean Dice over the cases of each task.
Point = dict[str, Any]


class Snapshots(Callback):
    """Keeps packs along a run, in folders named after the percent of the steps that are done.

    Args:
        settings: the run's.
        data: folder that holds the data sets' folders.
        folder: gets the packs; each has a file ``NN.json`` beside it with steps and seconds.
    """

    def __init__(self, settings: RunSettings, data: Path, folder: Path) -> None:
        self._settings = settings
        self._data = data
        self._folder = folder
        self._at = {round(share * settings.steps): round(share * 100) for share in SHARES}
        self._last = 0

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        """Write a pack where the run has come to one of the shares.

        Raises:
            OutputError: it cannot be written.
        """
        step = trainer.global_step
        if step not in self._at or step == self._last or not trainer.is_global_zero:
            return
        self._last = step
        assert isinstance(pl_module, PromptedTraining)
        name = str(self._at[step])
        networks = pl_module.averages().mapped(lambda n: copy.deepcopy(n).cpu().eval())
        release(self._settings, networks, self._data, self._folder / name)
        clock = next(c for c in trainer.callbacks if isinstance(c, TrainingTime))  # type: ignore[attr-defined]
        point = {"steps": step, "seconds": clock.seconds}
        write_text(json.dumps(point) + "\n", self._folder / f"{name}.json")


def kept(folder: Path) -> list[tuple[Path, Point]]:
    """The packs that :class:`Snapshots` kept, in the order of the run, with steps and seconds."""
    files = sorted(folder.glob("*.json"), key=lambda path: int(path.stem))
    return [(path.with_suffix(""), json.loads(path.read_text(encoding="utf-8"))) for path in files]


def course(result: Mapping[str, Any]) -> list[tuple[float, float]]:
    """Seconds of training and mean Dice over the tasks, of a result along its run.

    Where a method has a model for each task, all of them stand at the same share of their steps.
    """
    runs = [run.get("progress", []) for run in result["runs"]]
    points = []
    for at in zip(*runs, strict=False):
        dice = mean_of_known([value for point in at for value in point["dice"].values()])
        if dice is not None:
            points.append((sum(point["seconds"] for point in at), dice))
    return points


def seconds_to(points: Sequence[tuple[float, float]], dice: float) -> float | None:
    """When a course first comes to a Dice, by straight lines between its points; None if never.

    Args:
        points: of :func:`course`; it starts with a Dice of 0 after 0 seconds.
        dice: wanted, 0..1.
    """
    before = (0.0, 0.0)
    for now in points:
        if now[1] >= dice:
            share = (dice - before[1]) / (now[1] - before[1]) if now[1] > before[1] else 0.0
            return before[0] + share * (now[0] - before[0])
        before = now
    return None


def measured_along(folder: Path, measure: Callable[[Path], dict[str, float | None]]) -> list[Point]:
    """Measure the packs that were kept.

    Args:
        folder: where :class:`Snapshots` kept them.
        measure: from a pack's folder to the mean Dice of each of its tasks.
    """
    return [{**point, "dice": measure(pack)} for pack, point in kept(folder)]
