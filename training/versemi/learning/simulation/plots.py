"""The simulation's plots."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from versemi.learning.simulation.numbers import Result, Results, changes, mean_dice
from versemi.learning.simulation.plan import RANKED
from versemi.learning.simulation.settings import Choice, Settings, Telling
from versemi.tasks import get_task

_COLOURS = {"versemi": "#1b6ca8", "labels-only": "#e07b39", "from-scratch": "#7f7f7f"}
_SHADES = ("#a8cbe3", "#6aa5cd", "#1b6ca8", "#0b3c5d", "#06263b", "#000000")
_LIMIT = "#c0504d"
#: Room between a plot's lowest value and its lower edge.
_ROOM = 0.05


def draw_corrections(story: Telling, settings: Settings, results: Results, path: Path) -> None:
    """Draw Dice on held-out cases against the number of corrections: cases, means and the base.

    Args:
        story: whose runs.
        settings: of the simulation.
        results: what has been run.
        path: PNG.
    """
    figure, axis = _figure(6.4, 4.2)
    places = {count: place for place, count in enumerate(settings.corrections)}
    for number, way in enumerate(settings.ways):
        runs = {c: r for c, r in results.usual(story.name, way).items() if c in places}
        shift = (number - (len(settings.ways) - 1) / 2) * 0.12
        colour = _COLOURS[way]
        for count, result in runs.items():
            values = _dice(result)
            x = np.full(len(values), places[count] + shift)
            axis.scatter(x, values, s=10, color=colour, alpha=0.35, linewidths=0)
        if runs:
            axis.plot(
                [places[count] + shift for count in runs],
                [np.mean(_dice(result)) for result in runs.values()],
                color=colour,
                marker="o",
                linewidth=1.8,
                label=way,
            )
    base = results.base(story.name)
    for of, words, style in (
        ("unshifted", "base, unshifted scans", ":"),
        ("cases", "base", "--"),
    ):
        level = mean_dice(base, of)
        if level is not None:
            axis.axhline(level, color="black", linestyle=style, linewidth=1.2, label=words)
    axis.set_xticks(list(places.values()), [str(count) for count in places])
    axis.set_xlim(-0.4, len(places) - 0.6)
    axis.set_xlabel("corrected cases")
    axis.set_ylabel(f"Dice, {get_task(story.prompt).name.lower()}")
    _finish(axis)
    if axis.get_legend_handles_labels()[0]:
        axis.legend(fontsize=8, loc="lower right")
    _save(figure, path)


def draw_others(settings: Settings, results: Results, path: Path) -> None:
    """Draw by how much versemi changed the mean Dice of every other prompt.

    Args:
        settings: of the simulation.
        results: what has been run.
        path: PNG.
    """
    figure = Figure(figsize=(9, 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(settings.stories), squeeze=False)[0]
    for axis, story in zip(panels, settings.stories.values(), strict=True):
        base = results.base(story.name)
        prompts = sorted(base["others"], key=lambda p: get_task(p).label) if base else []
        for number, count in enumerate(settings.corrections):
            result = results.usual(story.name, "versemi").get(count)
            if result is None or base is None:
                continue
            changed = changes(result, base)
            known = [prompt for prompt in prompts if prompt in changed]
            axis.scatter(
                [changed[prompt] for prompt in known],
                [prompts.index(prompt) for prompt in known],
                s=22,
                color=_SHADES[number % len(_SHADES)],
                label=str(count),
                zorder=3,
            )
        axis.axvline(0, color="black", linewidth=0.8)
        axis.axvline(-settings.targets.lost, color=_LIMIT, linewidth=1.2, linestyle="--")
        axis.set_yticks(range(len(prompts)), [get_task(p).name for p in prompts], fontsize=8)
        axis.invert_yaxis()
        axis.tick_params(axis="x", labelsize=8)
        axis.locator_params(axis="x", nbins=6)
        axis.grid(alpha=0.3)
        axis.set_title(story.name, fontsize=10)
        axis.set_xlabel("change of mean Dice", fontsize=9)
        if axis.get_legend_handles_labels()[0]:
            axis.legend(title="corrections", fontsize=7, title_fontsize=7)
    _save(figure, path)


def draw_choice(choice: Choice, results: Results, path: Path) -> None:
    """Draw the mean Dice of every order of corrections.

    Args:
        choice: which orders are compared.
        results: what has been run.
        path: PNG.
    """
    figure, axis = _figure(4.8, 3.6)
    columns: list[tuple[str, list[float]]] = []
    for order, counts in ((RANKED, choice.ranked), ("random", choice.random)):
        for count in counts:
            runs = results.ordered(choice.story, order, count)
            means = [mean for mean in map(mean_dice, runs) if mean is not None]
            columns.append((f"{order}, {count}", means))
    for place, (name, values) in enumerate(columns):
        colour = _COLOURS["versemi" if name.startswith(RANKED) else "from-scratch"]
        spread = (np.arange(len(values)) - (len(values) - 1) / 2) * 0.06
        axis.scatter(place + spread, values, s=26, color=colour, alpha=0.7, linewidths=0)
        if values:
            axis.hlines(np.mean(values), place - 0.3, place + 0.3, color=colour, linewidth=2.5)
    axis.set_xticks(range(len(columns)), [name for name, _ in columns])
    axis.set_xlim(-0.6, len(columns) - 0.4)
    axis.set_xlabel("order and number of corrections")
    axis.set_ylabel("mean Dice on held-out cases")
    _finish(axis)
    _save(figure, path)


def _dice(result: Result) -> Sequence[float]:
    return [row["dice"] for row in result["cases"] if row["dice"] is not None]


def _finish(axis: Axes) -> None:
    """From a little below the lowest value up to a little above the highest, at most 0 to 1."""
    axis.grid(axis="y", alpha=0.3)
    low, high = axis.dataLim.intervaly
    if np.isfinite([low, high]).all():
        axis.set_ylim(max(0.0, low - _ROOM), min(1.0, high + _ROOM))


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots()


def _save(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, metadata={"Software": None})
