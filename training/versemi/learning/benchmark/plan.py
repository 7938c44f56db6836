"""Which configurations are run, and in which order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from versemi.learning.methods import METHODS, PARTS

RIVALS = tuple(m for m in METHODS if m != "versemi")
_SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class Configuration:
    """One cell of the benchmark: a method at a fraction of the labels, with a seed."""

    fraction: int
    method: str
    without: tuple[str, ...] = ()
    seed: int = 0

    @classmethod
    def of(cls, result: Mapping[str, Any]) -> Configuration:
        """The configuration that a result says it is of."""
        return cls(result["fraction"], result["method"], tuple(result["without"]), result["seed"])

    @property
    def variant(self) -> str:
        """Method and parts left out, in words for tables."""
        return " ".join([self.method, *(f"without {part}" for part in self.without)])

    @property
    def followed(self) -> bool:
        """Whether its Dice is measured along the run: of whole methods, with the first seed."""
        return not self.without and not self.seed

    @property
    def folder(self) -> str:
        """Name of the folder of its runs."""
        left_out = "".join(f"-without-{part}" for part in self.without)
        return f"{self.fraction}-{self.method}{left_out}-{self.seed}"


def first_round() -> list[Configuration]:
    """Every method once at 10% of the labels."""
    return [Configuration(10, method) for method in ("versemi", *RIVALS)]


def whole_plan(strongest: str) -> list[Configuration]:
    """All configurations, the most telling first.

    Args:
        strongest: the rival with the best mean Dice of :func:`first_round`.

    Returns:
        The first round; VerSemi without each part; VerSemi and the strongest rival with two more
        seeds; 20% of the labels for both and for labels only.
    """
    ablations = [Configuration(10, "versemi", (part,)) for part in PARTS]
    seeds = [Configuration(10, m, (), s) for s in _SEEDS[1:] for m in ("versemi", strongest)]
    more_labels = dict.fromkeys(["versemi", "supervised", strongest])
    return [
        *first_round(),
        *ablations,
        *seeds,
        *(Configuration(20, method) for method in more_labels),
    ]


def strongest_rival(means: Sequence[tuple[Configuration, float]]) -> str:
    """The rival with the best mean Dice among the first round's results.

    Args:
        means: configurations with their mean Dice over tasks.
    """
    rivals = [(mean, c.method) for c, mean in means if c in first_round() and c.method in RIVALS]
    return max(rivals)[1]
