"""How the time of a run is divided, once it is known what measuring costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from versemi.errors import InputError
from versemi.learning.finetuning.watch import Watch

# The fine-tuned weights take as long to measure as the parent's did, give or take.
_CAUTION = 1.2
# Writing packs, starting runs.
_BESIDE = 0.02
# Less of the time than this for learning is not worth the measuring.
_LEAST = 0.3
_WORTH_A_SECOND = 0.6


@dataclass(frozen=True)
class Plan:
    """The division, in seconds.

    Attributes:
        training: for all stages of training together.
        measuring: what it takes to measure one set of weights.
        reserve: what is left free for measuring and writing after training.
        compared: the scans on which the other prompts are compared with the parent's answers.
    """

    training: float
    measuring: float
    reserve: float
    compared: list[str]

    def to_json(self) -> dict[str, Any]:
        """Plain data; `Plan(**data)` reads it."""
        return asdict(self)


def make_plan(
    watch: Watch, costs: Mapping[str, float], held: Sequence[str], compared: Sequence[str]
) -> Plan:
    """Divide what is left of the time.

    Room for measuring a second set of weights, halfway to the parent, is left where that still
    gives training most of the time. Where training would get too little, fewer scans are compared
    with the parent's answers.

    Args:
        watch: the run's clock.
        costs: seconds that measuring a scan takes, by identifier.
        held: the held-out cases, each of which is measured.
        compared: scans to compare on, best first.

    Raises:
        InputError: measuring leaves too little to learn in; the message says what would do.
    """
    total = watch.seconds
    counts = sorted({len(compared), min(2, len(compared)), min(1, len(compared))}, reverse=True)
    training = measuring = 0.0
    for count in counts:
        scans = {*held, *compared[:count]}
        measuring = _CAUTION * sum(costs[id] for id in scans)
        for attempts, least in ((2, _WORTH_A_SECOND), (1, _LEAST)):
            reserve = attempts * measuring + _BESIDE * total
            training = watch.left - reserve
            if training >= least * total:
                return Plan(training, measuring, reserve, list(compared[:count]))
    raise too_short(watch, measuring)


def too_short(watch: Watch, measuring: float) -> InputError:
    """What to say where measuring leaves too little to learn in.

    Args:
        watch: the run's clock.
        measuring: seconds that measuring what was learnt is going to take.
    """
    needed = (watch.used + measuring) / (1 - _LEAST - _BESIDE) / 60
    return InputError(
        f"{watch.seconds / 60:g} minutes are too short: measuring the parent took"
        f" {watch.used / 60:.1f}, and measuring what was learnt takes about"
        f" {measuring / 60:.1f}; give --minutes {_rounded(needed)} or more."
    )


def _rounded(minutes: float) -> str:
    """Up to the next whole minute, or the next tenth where it is less than one."""
    return f"{-(-minutes // 1):.0f}" if minutes > 1 else f"{-(-minutes * 10 // 1) / 10:.1f}"
