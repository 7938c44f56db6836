"""Which runs the simulation consists of, and in which order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from versemi.errors import InputError
from versemi.learning.simulation.settings import Settings

#: The pack before any correction, which is a run of its own.
BASE = "base"
#: Orders in which the cases of the stream are corrected: as they arrive, or as the ranking says.
ARRIVAL, RANKED = "arrival", "ranked"


@dataclass(frozen=True)
class Run:
    """One learning, or the base.

    Attributes:
        story: its name.
        way: ``"base"``, or one of :data:`versemi.learning.simulation.settings.WAYS`.
        corrections: how many cases are corrected.
        order: ``"arrival"``, ``"ranked"`` or ``"random-SEED"``.
        like: what a new prompt starts from; empty for an old one, and for a fresh network.
        compared: whether `like` is another than that of most runs.
    """

    story: str
    way: str
    corrections: int = 0
    order: str = ARRIVAL
    like: str = ""
    compared: bool = False

    @property
    def name(self) -> str:
        """Of its folder, and of its result."""
        parts = [self.story, self.way, *([str(self.corrections)] if self.corrections else [])]
        parts += [self.order] if self.order != ARRIVAL else []
        parts += [f"like-{self.like}"] if self.compared else []
        return "-".join(parts)

    @property
    def seed(self) -> int | None:
        """Of a random order; None for another."""
        return int(self.order.removeprefix("random-")) if self.order.startswith("random-") else None

    def described(self) -> dict[str, Any]:
        """What a result says of its run; `Run.of` reads it."""
        return {
            "run": self.name,
            "story": self.story,
            "way": self.way,
            "corrections": self.corrections,
            "order": self.order,
            "like": self.like,
            "compared": self.compared,
        }

    @classmethod
    def of(cls, result: Mapping[str, Any]) -> Run:
        """The run that a result is of."""
        return cls(*(result[key] for key in cls.__dataclass_fields__))


def whole_plan(settings: Settings) -> list[Run]:
    """All runs, the most telling first.

    Returns:
        The bases; all ways at the corrections at which the targets are looked at; the ranked
        order; all ways at other corrections; what a new prompt starts from; random orders.
    """
    stories = settings.stories.values()
    first = settings.targets.corrections
    others = [count for count in settings.corrections if count != first]
    usual = {story.name: story.like[0] if story.new else "" for story in stories}
    choice = settings.choice

    def at(count: int) -> list[Run]:
        return [
            Run(name, way, count, like="" if way == "from-scratch" else like)
            for name, like in usual.items()
            for way in settings.ways
        ]

    def ordered(order: str, count: int) -> Run:
        return Run(choice.story, "versemi", count, order, usual[choice.story])

    plan = [Run(name, BASE, like=like) for name, like in usual.items()]
    plan += at(first)
    plan += [ordered(RANKED, count) for count in choice.ranked]
    plan += [run for count in others for run in at(count)]
    plan += [
        Run(story.name, "versemi", count, like=like, compared=True)
        for story in stories
        for count in story.like_corrections
        for like in story.like[1:]
    ]
    plan += [ordered(f"random-{seed}", count) for count in choice.random for seed in choice.seeds]
    return plan


def chosen(settings: Settings, only: list[str]) -> list[Run]:
    """The runs that were asked for, in the plan's order; all of them where nothing was.

    Args:
        settings: of the simulation.
        only: names of runs, and of stories, which stand for all their runs.

    Raises:
        InputError: there is no such run or story.
    """
    plan = whole_plan(settings)
    names = {run.name for run in plan}
    for name in only:
        if name not in names and name not in settings.stories:
            raise InputError(
                f"There is no story or run '{name}'; the stories are"
                f" {', '.join(settings.stories)}, and the runs {', '.join(sorted(names))}."
            )
    return [run for run in plan if not only or run.name in only or run.story in only]
