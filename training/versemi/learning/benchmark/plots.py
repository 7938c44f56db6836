"""The benchmark's plots."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from versemi.learning.benchmark.plan import Configuration
from versemi.learning.benchmark.progress import course
from versemi.tasks import get_task

Result = dict[str, Any]
_COLOURS = ("#1b6ca8", "#e07b39", "#4c9f70", "#8e5ea2", "#c0504d", "#7f7f7f", "#b8a038", "#5fa8a8")

# Points of a curve of sixty.
_SMOOTHED = 9


def draw_dice(results: Sequence[Result], tasks: Sequence[str], path: Path) -> None:
    """Draw the Dice of every case, and the means, per task and method, for the first fraction.

    Args:
        results: of methods as they are by default; others are not drawn.
        tasks: in the order of the panels.
        path: PNG.
    """
    fraction = min(r["fraction"] for r in results)
    shown = [r for r in results if r["fraction"] == fraction and Configuration.of(r).whole]
    methods = list(dict.fromkeys(str(r["method"]) for r in shown))
    figure = Figure(figsize=(2.6 * len(tasks) + 0.6, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(tasks), sharey=True, squeeze=False)[0]
    for axis, task in zip(axes, tasks, strict=True):
        for place, method in enumerate(methods):
            values = np.array(
                [
                    row["dice"]
                    for result in shown
                    if result["method"] == method
                    for row in result["cases"]
                    if row["task"] == task and row["dice"] is not None
                ]
            )
            # Spread sideways by rank, the same way every time.
            spread = (np.argsort(np.argsort(values)) % 5 - 2) * 0.07
            colour = _COLOURS[place % len(_COLOURS)]
            axis.scatter(place + spread, values, s=12, color=colour, alpha=0.6, linewidths=0)
            if values.size:
                axis.hlines(values.mean(), place - 0.3, place + 0.3, color=colour, linewidth=2.5)
        axis.set_title(get_task(task).name, fontsize=10)
        axis.set_xticks(range(len(methods)), methods, rotation=40, ha="right", fontsize=8)
        axis.set_ylim(0, 1)
        axis.grid(axis="y", alpha=0.3)
    axes[0].set_ylabel(f"Dice, {fraction}% of the labels")
    _save(figure, path)


def draw_losses(results: Sequence[Result], path: Path) -> None:
    """Draw the training loss of each method over the share of its steps, for the first fraction.

    Of a method with a model for each task it is the mean over them. Smoothed: tasks take turns, and
    differ by more than a method's loss falls.

    Args:
        results: of methods as they are by default, with the first seed; others are not drawn.
        path: PNG.
    """
    figure, axis = _chart("share of the run's steps", "training loss, smoothed")
    for number, result in enumerate(_firsts(results)):
        curves = [np.array(run["losses"]).T for run in result["runs"] if run["losses"]]
        if not curves:
            continue
        share = np.linspace(0, 1, 60)
        each = [np.interp(share, steps / steps[-1], losses) for steps, losses in curves]
        padded = np.pad(np.mean(each, axis=0), _SMOOTHED // 2, mode="edge")
        axis.plot(
            share,
            np.convolve(padded, np.full(_SMOOTHED, 1 / _SMOOTHED), mode="valid"),
            color=_COLOURS[number % len(_COLOURS)],
            linewidth=1.5,
            label=result["method"],
        )
    axis.set_ylim(bottom=0)
    _save_chart(figure, axis, path)


def draw_progress(results: Sequence[Result], path: Path) -> None:
    """Draw the mean Dice over the tasks against minutes of training, for the first fraction.

    Args:
        results: of methods as they are by default, with the first seed; others are not drawn.
        path: PNG.
    """
    fraction = min(r["fraction"] for r in results)
    figure, axis = _chart("minutes of training", f"mean Dice, {fraction}% of the labels")
    axis.set_ylim(0, 1)
    for number, result in enumerate(_firsts(results)):
        points = course(result)
        if points:
            axis.plot(
                [seconds / 60 for seconds, _ in points],
                [dice for _, dice in points],
                marker="o",
                markersize=3,
                color=_COLOURS[number % len(_COLOURS)],
                label=result["method"],
            )
    _save_chart(figure, axis, path)


def _firsts(results: Sequence[Result]) -> list[Result]:
    """Whole methods with the first fraction and the first seed."""
    fraction = min(r["fraction"] for r in results)
    return [r for r in results if r["fraction"] == fraction and Configuration.of(r).followed]


def _chart(across: str, up: str) -> tuple[Figure, Axes]:
    """One panel for curves, with what its axes show."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    axis.set_xlabel(across)
    axis.set_ylabel(up)
    axis.grid(alpha=0.3)
    return figure, axis


def _save_chart(figure: Figure, axis: Axes, path: Path) -> None:
    if axis.get_legend_handles_labels()[0]:
        axis.legend(fontsize=7, ncols=2)
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, metadata={"Software": None})
