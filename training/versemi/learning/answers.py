"""What the network has said about whole scans; :mod:`versemi.learning.answering` asks it."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from versemi.learning.cache import CachedCase
from versemi.learning.crops import places_in

#: In a map of answers: nobody knows.
DOUBT = 255


class Answers:
    """Maps of answers of a run, in rounds.

    Args:
        folder: of all rounds; each has one named by its step.
        rounds: the steps from which on answers are learnt from, rising.
        trial: an earlier step at which the network answers for comparison alone, if it does.

    Attributes:
        asked: all steps at which the network answers, rising.
    """

    def __init__(self, folder: Path, rounds: Sequence[int], trial: int | None = None) -> None:
        self.folder = folder
        self.rounds = tuple(rounds)
        self.asked = self.rounds if trial is None else (trial, *self.rounds)

    def path(self, case: CachedCase, group: str, step: int) -> Path | None:
        """Where the answers about a case lie that hold at a step; None before the first round."""
        past = [r for r in self.rounds if r <= step]
        return self.folder / str(past[-1]) / _name(case, group) if past else None

    def said(self, case: CachedCase, group: str, step: int) -> Path:
        """Where all that was said about a case at one of the steps `asked` lies."""
        return self.folder / "said" / str(step) / _name(case, group)

    def said_before(self, case: CachedCase, group: str, step: int) -> Path | None:
        """The same for the last of the steps `asked` before `step`; None at the first."""
        past = [a for a in self.asked if a < step]
        return self.said(case, group, past[-1]) if past else None

    def of(
        self, case: CachedCase, group: str, step: int
    ) -> tuple[np.ndarray, dict[int, np.ndarray]] | None:
        """The answers about a case that hold at a step; None before the first round.

        Returns:
            Label values of the registry and `DOUBT`, uint8 ``(z, y, x)``, mapped; and some voxels
            ``(n, 3)`` of every structure in them, by label value.
        """
        path = self.path(case, group, step)
        return None if path is None else (np.load(path, mmap_mode="r"), _places(path))

    def forget_before(self, step: int) -> None:
        """Delete what was said before a step."""
        for past in self.asked:
            if past < step:
                shutil.rmtree(self.folder / str(past), ignore_errors=True)
                shutil.rmtree(self.folder / "said" / str(past), ignore_errors=True)


def _name(case: CachedCase, group: str) -> str:
    return f"{case.folder.name}-{group}.npy"


# The maps themselves are opened each time: a process may not hold many files open.
@lru_cache(maxsize=256)
def _places(path: Path) -> dict[int, np.ndarray]:
    values = np.load(path)
    return places_in(np.where(values == DOUBT, 0, values))


def trial_of(begin: float, steps: int) -> int | None:
    """The step of a first answer that nothing is learnt from: half way to the first round."""
    step = round(begin * steps / 2)
    return step if 0 < step < round(begin * steps) else None


def rounds_of(begin: float, every: float, steps: int) -> list[int]:
    """The steps at which answers are given: at a share of the run, and so often from there on."""
    found, share = [], begin
    while round(share * steps) < steps:
        found.append(round(share * steps))
        if every <= 0:
            break
        share += every
    return found
