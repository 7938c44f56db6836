"""Which corrected cases a run may learn from, and which it is measured on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from versemi.learning.finetuning.material import Corrected

#: From this many corrected cases of a prompt on, a quarter is held out of one run.
HOLD_OUT_FROM = 8
_EVERY = 4
#: The name of the run whose weights are delivered.
FINAL = "final"

Kind = Literal["none", "two folds", "hold-out"]


@dataclass(frozen=True)
class Stage:
    """One run of training.

    Attributes:
        name: of its folder.
        learnt: the corrected cases that it learns from.
        held_out: the corrected cases that it is measured on.
        share: of the time for training.
    """

    name: str
    learnt: tuple[Corrected, ...]
    held_out: tuple[Corrected, ...]
    share: float


@dataclass(frozen=True)
class Split:
    """How the corrected cases are divided; a function of their identifiers and coverage alone.

    Attributes:
        kind: ``"none"``: one corrected case, nothing can be held out. ``"two folds"``: each half
            is measured with a run on the other, and the final run learns from all.
            ``"hold-out"``: a quarter is never learnt from, not by the final run either.
        stages: in order, the final one last.
    """

    kind: Kind
    stages: tuple[Stage, ...]

    def sentence(self) -> str:
        """What was done, in words."""
        count = len(self.stages[-1].learnt)
        if self.kind == "none":
            return "One corrected case, so none could be held out."
        if self.kind == "hold-out":
            held = len(self.stages[-1].held_out)
            return (
                f"{held} of {count + held} corrected cases (every fourth in the order of what their"
                " labels cover and of their identifiers) were held out, and never learnt from."
            )
        first, second = (len(stage.held_out) for stage in self.stages[:2])
        return (
            f"Two-fold cross-validation: {count} corrected cases, dealt in the order of their"
            f" identifiers into {first} and {second}; each part was measured with a run on the"
            " other, and the pack that is delivered learnt from all."
        )

    def described(self) -> dict[str, object]:
        """Plain data: kind, sentence, and the identifiers held out of each run."""
        return {
            "kind": self.kind,
            "sentence": self.sentence(),
            "held_out": {s.name: [c.case.id for c in s.held_out] for s in self.stages},
        }


def split(corrected: Sequence[Corrected]) -> Split:
    """Divide the corrected cases by how many there are of the prompt that has most.

    Args:
        corrected: at least one case.
    """
    everything = tuple(sorted(corrected, key=lambda c: c.case.id))
    prompts = {p for c in everything for p in c.prompts}
    most = max(sum(p in c.prompts for c in everything) for p in prompts)
    if len(everything) == 1:
        return Split("none", (Stage(FINAL, everything, (), 1.0),))
    if most >= HOLD_OUT_FROM:
        ordered = sorted(everything, key=lambda c: (c.prompts, c.case.id))
        held = {c.case.id for c in ordered[_EVERY - 1 :: _EVERY]}
        learnt = tuple(c for c in everything if c.case.id not in held)
        out = tuple(c for c in everything if c.case.id in held)
        return Split("hold-out", (Stage(FINAL, learnt, out, 1.0),))
    first, second = _dealt(everything)
    return Split(
        "two folds",
        (
            Stage("fold-1", second, first, 0.25),
            Stage("fold-2", first, second, 0.25),
            Stage(FINAL, everything, (), 0.5),
        ),
    )


def _dealt(cases: Sequence[Corrected]) -> tuple[tuple[Corrected, ...], tuple[Corrected, ...]]:
    """Two parts, each case to the one that has fewer of its prompts so far."""
    parts: tuple[list[Corrected], list[Corrected]] = ([], [])
    for case in cases:

        def crowded(part: list[Corrected], case: Corrected = case) -> tuple[int, int]:
            return sum(len(set(case.prompts) & set(other.prompts)) for other in part), len(part)

        min(parts, key=crowded).append(case)
    return tuple(parts[0]), tuple(parts[1])
