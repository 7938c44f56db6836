"""Whether VerSemi was worth it: its targets, and what each of its parts adds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from versemi.evaluation import mean_of_known
from versemi.learning.benchmark.execution import mean_dice, task_mean
from versemi.learning.benchmark.plan import RIVALS, Configuration
from versemi.learning.methods import PARTS

Result = dict[str, Any]
_FRACTION = 10
#: Points of Dice between VerSemi and the best rival, the least that it has to show: the paper's
#: margin over the second best method, on average over four data sets.
_MARGIN = 2.69
#: A task with a target of its own, and the Dice that VerSemi is to reach.
_ATRIUM, _ATRIUM_DICE = "left_atrium", 0.87


def targets(results: Sequence[Result], tasks: Sequence[str]) -> list[str]:
    """The targets with what was reached, as a table in Markdown.

    Args:
        results: of :func:`versemi.learning.benchmark.execution.execute`.
        tasks: the protocol's prompts.
    """
    found = {method: _of(results, method) for method in ("versemi", *RIVALS)}
    means = {m: mean_of_known([mean_dice(r) for r in group]) for m, group in found.items()}
    lines = [f"| target, with {_FRACTION}% of the labels | met | found |", "|---|---|---|"]
    lines.append(_margin(means))
    if _ATRIUM in tasks:
        dice = mean_of_known([task_mean(r, _ATRIUM, "dice") for r in found["versemi"]])
        wanted = f"versemi's left atrium has at least Dice {100 * _ATRIUM_DICE:.0f}"
        reached = "not run yet" if dice is None else f"{100 * dice:.1f}"
        met = None if dice is None else dice >= _ATRIUM_DICE
        lines.append(_row(wanted, met, reached))
    return lines


def worth(results: Sequence[Result]) -> list[str]:
    """What VerSemi loses without each of its parts, as a table in Markdown; same seed, one run."""
    whole = next((r for r in _of(results, "versemi") if not r["seed"]), None)
    full = mean_dice(whole) if whole else None
    lines = ["| without | mean Dice | the part is worth, in points |", "|---|---|---|"]
    lines += [f"| nothing | {_points(full)} | |"]
    for part in PARTS:
        runs = [r for r in _of(results, "versemi", (part,)) if not r["seed"]]
        dice = mean_of_known([mean_dice(r) for r in runs])
        gain = "-" if dice is None or full is None else f"{100 * (full - dice):+.1f}"
        lines.append(f"| {part} | {_points(dice)} | {gain} |")
    return lines


def _margin(means: dict[str, float | None]) -> str:
    own = means["versemi"]
    wanted = f"versemi's mean is at least {_MARGIN} points of Dice over the best rival's"
    rivals = {m: dice for m in RIVALS if (dice := means[m]) is not None}
    missing = [m for m in RIVALS if m not in rivals]
    if own is None or not rivals:
        return _row(wanted, None, "not run yet")
    best = max(rivals, key=lambda method: rivals[method])
    gap = 100 * (own - rivals[best])
    words = f"{100 * own:.1f} against {100 * rivals[best]:.1f} of {best}: {gap:+.1f}"
    if missing:
        words += f"; not run yet: {', '.join(missing)}"
    # A rival that was not run can only take the target away.
    return _row(wanted, None if missing and gap >= _MARGIN else gap >= _MARGIN, words)


def _of(results: Sequence[Result], method: str, without: tuple[str, ...] = ()) -> list[Result]:
    """The runs of a method at the fraction that the targets are about, all seeds."""
    every = [(Configuration.of(result), result) for result in results]
    return [
        r
        for c, r in every
        if (c.fraction, c.method, c.without) == (_FRACTION, method, tuple(without))
    ]


def _row(target: str, met: bool | None, found: str) -> str:
    words = {True: "met", False: "**not met**", None: "not run"}
    return f"| {target} | {words[met]} | {found} |"


def _points(dice: float | None) -> str:
    return "-" if dice is None else f"{100 * dice:.1f}"
