"""Running configurations: train, measure, keep what came out; what is done is not done again."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from versemi.errors import InputError
from versemi.evaluation import evaluate, find_cases, mean_of_known
from versemi.export import write_text
from versemi.inference import Segmenter
from versemi.learning.benchmark.plan import Configuration
from versemi.learning.benchmark.progress import Snapshots, measured_along
from versemi.learning.protocol import Protocol, runs_of
from versemi.learning.release import release
from versemi.learning.run import TRAINED, train
from versemi.modelpack import ModelPack

RESULT = "result.json"
_POINTS = 60


def execute(
    protocol: Protocol,
    configuration: Configuration,
    out: Path,
    *,
    scale: Mapping[str, Any],
    cache: Path,
    device: str = "auto",
    tell: Callable[[str], None] = lambda sentence: None,
) -> dict[str, Any]:
    """Train and measure one configuration, or go on where it was stopped.

    Args:
        protocol: tasks and cases.
        configuration: what to run.
        out: folder of the benchmark's runs.
        scale: as :func:`versemi.learning.protocol.scale_settings` reads it.
        cache: folder for prepared scans.
        device: as for :class:`Segmenter`.
        tell: told what is being done.

    Returns:
        The result, which lies in ``result.json`` of the configuration's folder.
    """
    folder = out / configuration.folder
    if (folder / RESULT).is_file():
        return dict(json.loads((folder / RESULT).read_text(encoding="utf-8")))
    runs = runs_of(
        protocol,
        fraction=configuration.fraction,
        method=configuration.method,
        without=configuration.without,
        extra=configuration.extra,
        seed=configuration.seed,
        scale=scale,
    )
    trained, rows = [], []
    for name, settings in runs.items():
        place = folder / name
        if not (place / "pack").is_dir():
            tell(f"{configuration.folder}: training {name}, {settings.steps} steps")
            snapshots = Snapshots(settings, protocol.folder, place / "snapshots")
            network = train(
                settings,
                protocol.folder,
                place,
                cache=cache,
                device=device,
                callbacks=(snapshots,) if configuration.followed else (),
            )
            release(settings, network, protocol.folder, place / "pack")
        tell(f"{configuration.folder}: measuring {name}")
        found = _measured(protocol, place / "pack", device)
        rows += found
        along = measured_along(
            place / "snapshots", lambda pack: _means(_measured(protocol, pack, device))
        )
        timed = json.loads((place / TRAINED).read_text(encoding="utf-8"))
        curve = loss_curve(place / "csv" / "metrics.csv")
        trained.append(
            {
                "run": name,
                **timed,
                "flatness": flatness(curve),
                "losses": thinned(curve),
                "progress": [
                    *along,
                    {k: timed[k] for k in ("steps", "seconds")} | {"dice": _means(found)},
                ],
            }
        )
    result = {
        "fraction": configuration.fraction,
        "method": configuration.method,
        "without": list(configuration.without),
        "with": list(configuration.extra),
        "seed": configuration.seed,
        "runs": trained,
        "cases": rows,
    }
    write_text(json.dumps(result, indent=1, allow_nan=False) + "\n", folder / RESULT)
    return result


def _measured(protocol: Protocol, folder: Path, device: str) -> list[dict[str, Any]]:
    """Every measuring case of the tasks that a pack knows; tasks of the same scans in one look."""
    pack = ModelPack.load(folder)
    segmenter = Segmenter(pack, device)
    together: dict[tuple[str, tuple[str, ...]], dict[str, int]] = {}
    for task in protocol.tasks:
        if task.prompt in pack.task_ids:
            scans = (task.dataset, tuple(sorted(task.devtest)))
            together.setdefault(scans, {})[task.prompt] = task.label
    rows: list[dict[str, Any]] = []
    for (dataset, names), labels in together.items():
        rows += evaluate(segmenter, find_cases(protocol.folder / dataset, names), labels)["cases"]
    order = [task.prompt for task in protocol.tasks]
    return sorted(rows, key=lambda row: order.index(row["task"]))


def _means(rows: list[dict[str, Any]]) -> dict[str, float | None]:
    """Mean Dice of each task."""
    result = {"cases": rows}
    return {task: task_mean(result, task, "dice") for task in tasks_of(result)}


def mean_dice(result: dict[str, Any]) -> float | None:
    """Mean over tasks of the mean Dice over cases, 0..1, of all in which it is defined."""
    return mean_of_known([task_mean(result, task, "dice") for task in tasks_of(result)])


def tasks_of(result: dict[str, Any]) -> list[str]:
    """The tasks that a result measures, in the protocol's order."""
    return list(dict.fromkeys(str(row["task"]) for row in result["cases"]))


def task_mean(result: dict[str, Any], task: str, metric: str) -> float | None:
    """Mean of a metric over a task's cases; None where it is undefined in all of them."""
    return mean_of_known([row[metric] for row in result["cases"] if row["task"] == task])


def flatness(curve: Sequence[tuple[int, float]]) -> float | None:
    """How much the training loss still fell at the end: its mean over the last tenth of the steps
    against that of the tenth before, as a share of the latter; 0 is flat, None a run too short.
    """
    tenth = len(curve) // 10
    if not tenth:
        return None
    last = [loss for _, loss in curve[-tenth:]]
    before = [loss for _, loss in curve[-2 * tenth : -tenth]]
    return (sum(before) - sum(last)) / sum(before)


def thinned(curve: Sequence[tuple[int, float]]) -> list[list[float]]:
    """At most 60 points ``[step, mean loss]`` of a curve, each the mean of as many that follow."""
    width = max(1, -(-len(curve) // _POINTS))
    parts = [curve[start : start + width] for start in range(0, len(curve), width)]
    return [[part[-1][0], round(sum(v for _, v in part) / len(part), 5)] for part in parts]


def loss_curve(log: Path) -> list[tuple[int, float]]:
    """Step and loss from a run's CSV log; empty for a run too short to have logged any.

    Raises:
        InputError: it cannot be read.
    """
    if not log.is_file():
        return []
    try:
        with log.open(encoding="utf-8", newline="") as file:
            rows: Sequence[dict[str, str]] = list(csv.DictReader(file))
    except OSError as error:
        raise InputError(f"The log {log} cannot be read ({error.strerror}).") from None
    return [(int(row["step"]), float(row["loss"])) for row in rows if row.get("loss")]
