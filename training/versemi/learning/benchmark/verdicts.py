"""Whether VerSemi was worth it: its targets, and what each of its parts adds."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from versemi.evaluation import mean_of_known
from versemi.learning.benchmark.execution import mean_dice, task_mean
from versemi.learning.benchmark.plan import (
    RIVALS,
    Configuration,
    ablations,
    further_seeds,
    reference,
)
from versemi.learning.methods import PARTS
from versemi.learning.protocol import left_out_by
from versemi.learning.targets import Judged, target_table
from versemi.tasks import get_task

Result = dict[str, Any]
_FRACTION = 10
#: Points of Dice between VerSemi and the best rival, the least that it has to show: the paper's
#: margin over the second best method, on average over four data sets.
_MARGIN = 2.69
#: A task with a target of its own, and the Dice that VerSemi is to reach.
_ATRIUM, _ATRIUM_DICE = "left_atrium", 0.87


def targets(results: Sequence[Result], tasks: Sequence[str]) -> list[str]:
    """The targets with what was reached, as a table in Markdown; means over seeds.

    Args:
        results: of :func:`versemi.learning.benchmark.execution.execute`.
        tasks: the protocol's prompts.
    """
    judged = [_margin(results)]
    if _ATRIUM in tasks:
        own = _every_seed(results, "versemi")
        dice = mean_of_known([task_mean(result, _ATRIUM, "dice") for result in own])
        judged.append(
            Judged(
                f"versemi's left atrium has at least Dice {100 * _ATRIUM_DICE:.0f}",
                None if dice is None else dice >= _ATRIUM_DICE,
                "not run yet" if dice is None else _points(dice),
            )
        )
    return target_table(judged, f"target, with {_FRACTION}% of the labels")


def worth(results: Sequence[Result], tasks: Sequence[str], scale: Mapping[str, Any]) -> list[str]:
    """What each of VerSemi's parts adds to a run of the same seed, as a table in Markdown.

    Args:
        results: of :func:`versemi.learning.benchmark.execution.execute`.
        tasks: the protocol's prompts.
        scale: says which parts VerSemi is without by default.
    """
    by = {Configuration.of(result): result for result in results}
    left_out = left_out_by(scale)
    plain = {result["seed"]: result for result in _every_seed(results, "versemi")}
    names = [get_task(task).name for task in tasks]
    lines = [
        f"| versemi | seed | {' | '.join(names)} | mean | the part is worth, in points |",
        f"|---|---|{'---|' * (len(tasks) + 2)}",
        *(f"| by default | {s} | {' | '.join(_row(plain[s], tasks))} | |" for s in sorted(plain)),
    ]
    for part in PARTS:
        for changed in _changes(part, left_out, by):
            pair = (by.get(reference(part, left_out, changed.seed)), by.get(changed))
            here, there = (mean_dice(result) if result else None for result in pair)
            sign = -100 if part in left_out else 100
            gain = "-" if here is None or there is None else f"{sign * (here - there):+.1f}"
            cells = [changed.change, str(changed.seed), *_row(pair[1], tasks), gain]
            lines.append(f"| {' | '.join(cells)} |")
    return lines


def _changes(
    part: str, left_out: Collection[str], run: Collection[Configuration]
) -> list[Configuration]:
    """A part's ablations that are planned, and those with further seeds that were run."""
    return [*ablations(part, left_out), *(c for c in further_seeds(part, left_out) if c in run)]


def _row(result: Result | None, tasks: Sequence[str]) -> list[str]:
    """Dice of each task and their mean."""
    if result is None:
        return ["-"] * (len(tasks) + 1)
    return [
        *(_points(task_mean(result, task, "dice")) for task in tasks),
        _points(mean_dice(result)),
    ]


def _margin(results: Sequence[Result]) -> Judged:
    target = f"versemi's mean is at least {_MARGIN} points of Dice over the best rival's"
    means = {
        method: mean_of_known([mean_dice(result) for result in _every_seed(results, method)])
        for method in ("versemi", *RIVALS)
    }
    own = means.pop("versemi")
    rivals = {method: dice for method, dice in means.items() if dice is not None}
    if own is None or not rivals:
        return Judged(target, None, "not run yet")
    best = max(rivals, key=lambda method: rivals[method])
    gap = 100 * (own - rivals[best])
    found = f"{_points(own)} against {_points(rivals[best])} of {best}: {gap:+.1f}"
    missing = [method for method in RIVALS if method not in rivals]
    if missing:
        found += f"; not run yet: {', '.join(missing)}"
    met = gap >= _MARGIN
    # A rival that was not run can only take the target away.
    return Judged(target, None if met and missing else met, found)


def _every_seed(results: Sequence[Result], method: str) -> list[Result]:
    """The runs of a whole method at the fraction that the targets are about."""
    wanted = Configuration(_FRACTION, method)
    return [r for r in results if replace(Configuration.of(r), seed=wanted.seed) == wanted]


def _points(dice: float | None) -> str:
    return "-" if dice is None else f"{100 * dice:.1f}"
