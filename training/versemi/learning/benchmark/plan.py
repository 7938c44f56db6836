"""Which configurations are run, and in which order."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from versemi.learning.methods import LIVES_ON, METHODS, PARTS

RIVALS = tuple(m for m in METHODS if m != "versemi")
_SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class Configuration:
    """One cell of the benchmark: a method at a fraction of the labels, with a seed.

    Attributes:
        fraction: percent of the pool that is labelled.
        method: one of `METHODS`.
        without: parts of VerSemi that are left out.
        seed: of all chance.
        extra: parts that the scale leaves out and this configuration does not.
    """

    fraction: int
    method: str
    without: tuple[str, ...] = ()
    seed: int = 0
    extra: tuple[str, ...] = ()

    @classmethod
    def of(cls, result: Mapping[str, Any]) -> Configuration:
        """The configuration that a result says it is of."""
        return cls(
            result["fraction"],
            result["method"],
            tuple(result["without"]),
            result["seed"],
            tuple(result.get("with", ())),
        )

    @property
    def variant(self) -> str:
        """The method and how it differs from its default, in words for tables."""
        return f"{self.method} {self.change}".strip()

    @property
    def change(self) -> str:
        """How it differs from the method as it is by default, in words; empty if it does not."""
        return " ".join(
            [*(f"with {part}" for part in self.extra), *(f"without {p}" for p in self.without)]
        )

    @property
    def followed(self) -> bool:
        """Whether its Dice is measured along the run: of whole methods, with the first seed."""
        return self.whole and not self.seed

    @property
    def whole(self) -> bool:
        """Whether it is a method as it is by default."""
        return not self.without and not self.extra

    @property
    def folder(self) -> str:
        """Name of the folder of its runs."""
        return f"{self.fraction}-{self.variant.replace(' ', '-')}-{self.seed}"


def first_round() -> list[Configuration]:
    """Every method once at 10% of the labels."""
    return [Configuration(10, method) for method in ("versemi", *RIVALS)]


def reference(part: str, left_out: Collection[str], seed: int = 0) -> Configuration:
    """What a part's ablation is compared with: VerSemi by default, with the part that it lives on.

    Args:
        part: of VerSemi.
        left_out: parts that VerSemi is without by default.
        seed: of the run.
    """
    below = LIVES_ON.get(part)
    return Configuration(10, "versemi", (), seed, (below,) if below and below in left_out else ())


def ablation(part: str, left_out: Collection[str], seed: int = 0) -> Configuration:
    """The :func:`reference` of a part without it, or with it where the default leaves it out."""
    compared = reference(part, left_out, seed)
    if part in left_out:
        return replace(compared, extra=(*compared.extra, part))
    return replace(compared, without=(part,))


def ablations(part: str, left_out: Collection[str]) -> list[Configuration]:
    """The :func:`ablation` of a part; with every seed, where the default leaves it out."""
    seeds = _SEEDS if part in left_out else _SEEDS[:1]
    return [ablation(part, left_out, seed) for seed in seeds]


def further_seeds(part: str, left_out: Collection[str]) -> list[Configuration]:
    """The seeds that :func:`ablations` leaves out; none of a part that the default leaves out."""
    return [] if part in left_out else [ablation(part, left_out, seed) for seed in _SEEDS[1:]]


def doubted(
    means: Sequence[tuple[Configuration, float]], left_out: Collection[str] = ()
) -> list[Configuration]:
    """The :func:`further_seeds` of parts that cost with the first seed: one run is no verdict.

    Args:
        means: configurations with their mean Dice over tasks.
        left_out: parts that VerSemi is without by default.
    """
    of = dict(means)

    def costs(part: str) -> bool:
        without = of.get(ablation(part, left_out), 0.0)
        return without > of.get(reference(part, left_out), 1.0)

    doubtful = (part for part in PARTS if part not in left_out and costs(part))
    return [changed for part in doubtful for changed in further_seeds(part, left_out)]


def whole_plan(strongest: str, left_out: Collection[str] = ()) -> list[Configuration]:
    """All configurations, the most telling first.

    Args:
        strongest: the rival with the best mean Dice of :func:`first_round`.
        left_out: parts that VerSemi is without by default.

    Returns:
        The first round; the :func:`ablations` of each part; VerSemi and the strongest rival with
        two more seeds; 20% of the labels for both and for labels only.
    """
    seeds = [Configuration(10, m, (), s) for s in _SEEDS[1:] for m in ("versemi", strongest)]
    more_labels = dict.fromkeys(["versemi", "supervised", strongest])
    return [
        *first_round(),
        *(configuration for part in PARTS for configuration in ablations(part, left_out)),
        *seeds,
        *(Configuration(20, method) for method in more_labels),
    ]


def everything(left_out: Collection[str] = ()) -> list[Configuration]:
    """What can be run at all: the :func:`whole_plan` for every rival, and all further seeds.

    Args:
        left_out: parts that VerSemi is without by default.
    """
    plans = [configuration for rival in RIVALS for configuration in whole_plan(rival, left_out)]
    further = [configuration for part in PARTS for configuration in further_seeds(part, left_out)]
    return list(dict.fromkeys([*plans, *further]))


def strongest_rival(means: Sequence[tuple[Configuration, float]]) -> str:
    """The rival with the best mean Dice among the first round's results.

    Args:
        means: configurations with their mean Dice over tasks.
    """
    rivals = [(mean, c.method) for c, mean in means if c in first_round() and c.method in RIVALS]
    return max(rivals)[1]
