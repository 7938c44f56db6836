"""From results to the numbers that the page speaks about, and whether the targets are met."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from versemi.evaluation import mean_of_known
from versemi.learning.simulation.plan import ARRIVAL, BASE, RANKED, Run
from versemi.learning.simulation.settings import Settings, Telling
from versemi.learning.targets import Judged
from versemi.tasks import get_task

Result = dict[str, Any]


class Results:
    """The results that there are, by what they are of.

    Args:
        results: of :func:`versemi.learning.simulation.execution.execute`.
    """

    def __init__(self, results: Sequence[Result]) -> None:
        self.every = list(results)
        self._of = {Run.of(result): result for result in results}

    def base(self, story: str) -> Result | None:
        """The base of a story."""
        return next((r for r in self.every if r["story"] == story and r["way"] == BASE), None)

    def usual(self, story: str, way: str) -> dict[int, Result]:
        """The runs of a way in the order of arrival, by number of corrections, rising."""
        runs = sorted(self._of, key=lambda run: run.corrections)
        return {
            run.corrections: self._of[run]
            for run in runs
            if (run.story, run.way, run.order) == (story, way, ARRIVAL) and not run.compared
        }

    def ordered(self, story: str, order: str, corrections: int) -> list[Result]:
        """The runs of an order, ``"ranked"`` or ``"random"``, with some corrections."""
        return [
            result
            for run, result in self._of.items()
            if run.story == story
            and run.corrections == corrections
            and run.order.split("-")[0] == order
        ]

    def like(self, story: str, corrections: int) -> dict[str, Result]:
        """The runs with some corrections, by what their new prompt started from."""
        usual = self.usual(story, "versemi").get(corrections)
        found = {str(usual["like"]): usual} if usual else {}
        others = {
            run.like: result
            for run, result in self._of.items()
            if run.story == story and run.corrections == corrections and run.compared
        }
        return {**found, **others}


def mean_dice(result: Result | None, of: str = "cases") -> float | None:
    """Mean Dice of the story's prompt over held-out cases, 0..1; None where there is none."""
    return mean_of_known([row["dice"] for row in result.get(of, ())]) if result else None


def changes(result: Result, base: Result) -> dict[str, float]:
    """By how much the mean Dice of each other prompt rose; those that both results have."""
    return {
        prompt: row["dice"] - base["others"][prompt]["dice"]
        for prompt, row in result.get("others", {}).items()
        if row["dice"] is not None and base["others"].get(prompt, {}).get("dice") is not None
    }


def judged(settings: Settings, results: Results) -> list[Judged]:
    """Every target of the settings."""
    found: list[Judged] = []
    for story in settings.stories.values():
        judge = _organ if story.new else _recovered
        found.append(judge(story, settings, results))
    return [
        *found,
        _kept(settings, results),
        _helped(settings, results),
        _chosen(settings, results),
    ]


def _not_run(target: str) -> Judged:
    return Judged(target, None, "not run yet")


def _recovered(story: Telling, settings: Settings, results: Results) -> Judged:
    aims = settings.targets
    target = (
        f"{story.minutes:g} minutes after {aims.corrections} corrections the shifted prompt"
        f" ({_name(story.prompt)}) has recovered at least {aims.recovered:.0%} of what the shift"
        " cost."
    )
    base = results.base(story.name)
    before, unshifted = mean_dice(base), mean_dice(base, "unshifted")
    after = mean_dice(results.usual(story.name, "versemi").get(aims.corrections))
    if before is None or unshifted is None or after is None:
        return _not_run(target)
    cost = unshifted - before
    words = f"Dice {unshifted:.3f} before the shift, {before:.3f} under it, {after:.3f} after"
    if cost <= 0:
        return Judged(target, False, f"{words}; the shift cost nothing, so this says nothing")
    share = (after - before) / cost
    return Judged(target, share >= aims.recovered, f"{words}: {share:.0%} recovered")


def _organ(story: Telling, settings: Settings, results: Results) -> Judged:
    aims = settings.targets
    target = (
        f"{story.minutes:g} minutes after {aims.corrections} corrections a new large organ"
        f" ({_name(story.prompt)}) stands at Dice {aims.organ:.2f}."
    )
    after = mean_dice(results.usual(story.name, "versemi").get(aims.corrections))
    if after is None:
        return _not_run(target)
    return Judged(target, after >= aims.organ, f"Dice {after:.3f}")


def _kept(settings: Settings, results: Results) -> Judged:
    lost = settings.targets.lost
    target = f"No other prompt has lost more than {lost:g} of Dice."
    seen: list[tuple[float, str, str]] = []
    for story in settings.stories:
        base = results.base(story)
        if base is None:
            continue
        for result in results.usual(story, "versemi").values():
            seen += [(c, _name(p), result["run"]) for p, c in changes(result, base).items()]
    if not seen:
        return _not_run(target)
    change, prompt, run = min(seen)
    runs = len({name for _, _, name in seen})
    many = sum(c < -lost for c, _, _ in seen)
    words = (
        f"over {runs} runs of versemi {many} of {len(seen)} measured means fell by more; the lowest"
        f" change is {change:+.3f} ({prompt}, {run})"
    )
    return Judged(target, change >= -lost, words)


def _helped(settings: Settings, results: Results) -> Judged:
    target = "Unlabelled scans help: versemi is better than labels-only."
    parts, every = [], []
    for story in settings.stories:
        pairs = _pairs(results.usual(story, "versemi"), results.usual(story, "labels-only"))
        if pairs:
            mean = sum(pairs) / len(pairs)
            better = sum(pair > 0 for pair in pairs)
            parts.append(
                f"{story} {mean:+.3f} of Dice, better in {better} of {len(pairs)} measured cases"
            )
            every.append(mean)
    if not every:
        return _not_run(target)
    met = all(mean > 0 for mean in every)
    verdict = "they help" if met else "they do not help"
    verdict += " everywhere" if not met and max(every) > 0 else ""
    return Judged(target, met, f"{verdict}: {'; '.join(parts)}")


def _pairs(first: dict[int, Result], second: dict[int, Result]) -> list[float]:
    """Differences of Dice of two ways, a held-out case and a number of corrections each."""
    found = []
    for count in sorted(first.keys() & second.keys()):
        there = {row["case"]: row["dice"] for row in second[count]["cases"]}
        for row in first[count]["cases"]:
            other = there.get(row["case"])
            if row["dice"] is not None and other is not None:
                found.append(row["dice"] - other)
    return found


def _chosen(settings: Settings, results: Results) -> Judged:
    choice = settings.choice
    few, many = min(choice.ranked), max(choice.random)
    target = (
        f"In ranked order {few} corrections reach the Dice that random order reaches with {many}."
    )
    ranked = mean_of_known([mean_dice(r) for r in results.ordered(choice.story, RANKED, few)])
    runs = results.ordered(choice.story, "random", many)
    random = mean_of_known([mean_dice(r) for r in runs])
    if ranked is None or random is None or len(runs) < len(choice.seeds):
        return _not_run(target)
    met = ranked >= random
    words = (
        f"{'it does' if met else 'it does not'}: Dice {ranked:.3f} against {random:.3f}, mean of"
        f" {len(runs)} random orders"
    )
    return Judged(target, met, words)


def _name(prompt: str) -> str:
    return get_task(prompt).name.lower()
