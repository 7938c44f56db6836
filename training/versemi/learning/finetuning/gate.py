"""Whether a fine-tuned pack may be used: from measured numbers to a decision and its reason."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from versemi.evaluation import mean_of_known
from versemi.modelstore.entry import Standing

#: Mean Dice with the parent that the prompts which are not learnt must keep.
AGREEMENT = 0.95
#: Dice that a new prompt has to reach on held-out cases.
FLOOR = 0.5
RULE = (
    "Gate: on held-out corrected cases the mean Dice of each learnt prompt must not be below the"
    f" parent's on the same cases, and that of a new prompt must be at least {FLOOR:g}. On whole"
    " scans of the library the answers under all other prompts of their groups must agree with the"
    f" parent's with a mean Dice of at least {AGREEMENT:g} over scans and prompts; where neither"
    " finds a structure they agree (1), where only one does they do not (0). The mean of a learnt"
    " prompt is over the held-out cases whose label has it; in those whose label says that it is"
    " not there, it must not be found more often than by the parent. Prompts of groups that are not"
    " learnt keep the parent's network and its answers."
)


@dataclass(frozen=True)
class HeldOut:
    """One learnt prompt on one corrected case that was not learnt from.

    Attributes:
        case: identifier.
        prompt: identifier.
        there: whether the label has it.
        parent: the parent's Dice, 0..1; None where label and answer are both empty.
        tuned: that of the fine-tuned weights.
    """

    case: str
    prompt: str
    there: bool
    parent: float | None
    tuned: float | None


@dataclass(frozen=True)
class Agreed:
    """One other prompt on one scan: Dice of the parent's and the new answer, 1 for two empty."""

    case: str
    prompt: str
    dice: float


@dataclass(frozen=True)
class Verdict:
    """The decision.

    Attributes:
        standing: of the pack in the model store: ``"candidate"`` passed, ``"provisional"`` could
            not be measured in full and has failed nothing, ``"aside"`` did not pass.
        reason: why, in sentences; also what was reached where it passed.
        dice: for each learnt prompt ``parent`` and ``tuned``, means over the held-out cases whose
            label has it, the number of those ``cases``, and ``false_positives`` in the others.
        agreement: ``mean`` over scans and prompts, None if there was nothing to measure, and for
            each prompt its mean over scans.
    """

    standing: Standing
    reason: str
    dice: Mapping[str, Mapping[str, Any]]
    agreement: Mapping[str, Any]

    @property
    def passed(self) -> bool:
        """Whether nothing has failed."""
        return self.standing != "aside"


def judge(
    prompts: Sequence[str],
    new: Collection[str],
    held_out: Sequence[HeldOut],
    agreed: Sequence[Agreed],
) -> Verdict:
    """Decide.

    Args:
        prompts: what was learnt.
        new: those that the parent was never taught.
        held_out: what was measured on corrected cases.
        agreed: what was measured of the other prompts.
    """
    failures, unmeasured, reached = [], [], []
    dice = {prompt: _means(prompt, held_out) for prompt in prompts}
    for prompt, found in dice.items():
        before, after = found["parent"], found["tuned"]
        false = found["false_positives"]
        if false["tuned"] > false["parent"]:
            failures.append(
                f"{prompt}: found in {false['tuned']} held-out cases that do not have it, by the"
                f" parent in {false['parent']}"
            )
        if after is None or before is None:
            unmeasured.append(prompt)
            continue
        number = found["cases"]
        words = f"{prompt}: Dice {after:.3f} on {number} held-out case{'s' * (number > 1)}"
        if prompt in new and after < FLOOR:
            failures.append(f"{words}, where a new prompt has to reach {FLOOR:g}")
        elif after < before:
            failures.append(f"{words}, where the parent has {before:.3f}")
        else:
            reached.append(f"{words} (parent {before:.3f})")
    others = {prompt: _mean_of(prompt, agreed) for prompt in sorted({a.prompt for a in agreed})}
    mean = mean_of_known([a.dice for a in agreed])
    if mean is not None and mean < AGREEMENT:
        least = min(others, key=lambda prompt: others[prompt])
        failures.append(
            f"the other prompts agree with the parent with a mean Dice of {mean:.3f}, less than"
            f" {AGREEMENT:g} (least: {least}, {others[least]:.3f})"
        )
    elif mean is not None:
        reached.append(f"agreement of the other prompts with the parent {mean:.3f}")
    agreement = {"mean": mean, "prompts": others}
    if failures:
        return Verdict("aside", f"Did not pass the gate: {'; '.join(failures)}.", dice, agreement)
    sentence = f"Passed: {'; '.join(reached)}." if reached else ""
    if unmeasured:
        lacking = (
            f"Not measured on held-out cases, for there are too few: {', '.join(unmeasured)}."
            " Look at its answers before you take it into use."
        )
        if mean is None:
            lacking += " There was no other prompt to compare with the parent either."
        return Verdict("provisional", f"{lacking} {sentence}".strip(), dice, agreement)
    return Verdict("candidate", sentence, dice, agreement)


def _means(prompt: str, held_out: Sequence[HeldOut]) -> dict[str, Any]:
    """Means of a prompt over the cases whose label has it, and false positives in the others."""
    rows = [h for h in held_out if h.prompt == prompt]
    there = [h for h in rows if h.there]
    empty = [h for h in rows if not h.there]
    return {
        "parent": mean_of_known([h.parent for h in there]),
        "tuned": mean_of_known([h.tuned for h in there]),
        "cases": len(there),
        "false_positives": {
            "parent": sum(h.parent is not None for h in empty),
            "tuned": sum(h.tuned is not None for h in empty),
            "cases": len(empty),
        },
    }


def _mean_of(prompt: str, agreed: Sequence[Agreed]) -> float:
    values = [a.dice for a in agreed if a.prompt == prompt]
    return sum(values) / len(values)
