"""The settings of the simulation: ``simulation.yaml`` in memory."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from versemi.errors import InputError
from versemi.learning.configuration import shipped
from versemi.learning.simulation.shift import Shift

NAME = "simulation/simulation.yaml"
WAYS = ("versemi", "labels-only", "from-scratch")


@dataclass(frozen=True)
class Targets:
    """What is to be reached; see ``simulation.yaml``."""

    corrections: int
    recovered: float
    organ: float
    lost: float


@dataclass(frozen=True)
class Choice:
    """Which orders of corrections are compared, and in which story."""

    story: str
    ranked: tuple[int, ...]
    random: tuple[int, ...]
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Telling:
    """A story as it is described, before its cases are looked up.

    Attributes:
        name: of the story.
        minutes: of each of its fine-tunings.
        prompt: what is corrected.
        source: name of the data set, among the base's sources.
        cases: ``protocol`` and ``task`` that give the pool and the held-out cases; of the pool
            the first ``base`` train the base pack, and the next ``stream`` arrive.
        shift: what becomes of the scans that arrive and are held out; None for nothing.
        like: what a new prompt starts from, that of most runs first; empty for an old prompt.
        like_corrections: at which the starts are compared.
    """

    name: str
    minutes: float
    prompt: str
    source: str
    cases: Mapping[str, Any]
    shift: Shift | None
    like: tuple[str, ...]
    like_corrections: tuple[int, ...]

    @property
    def new(self) -> bool:
        """Whether the base pack does not know the prompt."""
        return bool(self.like)


@dataclass(frozen=True)
class Settings:
    """Everything that ``simulation.yaml`` says.

    Attributes:
        seed: of the shift, and of the networks that start from scratch.
        corrections: after how many the pack learns.
        ways: of :data:`WAYS`.
        targets: what is to be reached.
        choice: orders that are compared.
        stories: by name.
        base: of the base packs, as ``base.yaml``.
        scratch: what is different for networks that start from scratch.
        described: the same as plain data for JSON; results of other data cannot stand beside.
    """

    seed: int
    corrections: tuple[int, ...]
    ways: tuple[str, ...]
    targets: Targets
    choice: Choice
    stories: Mapping[str, Telling]
    base: Mapping[str, Any]
    scratch: Mapping[str, Any]
    described: Mapping[str, Any]


def load_settings() -> Settings:
    """Read the settings that come with the package.

    Raises:
        InputError: a value is missing or makes no sense.
    """
    data = shipped(NAME)
    try:
        settings = Settings(
            seed=int(data["seed"]),
            corrections=_numbers(data["corrections"]),
            ways=tuple(str(way) for way in data["ways"]),
            targets=Targets(**data["targets"]),
            choice=Choice(
                story=str(data["choice"]["story"]),
                ranked=_numbers(data["choice"]["ranked"]),
                random=_numbers(data["choice"]["random"]),
                seeds=_numbers(data["choice"]["seeds"]),
            ),
            stories={name: _telling(name, entry) for name, entry in data["stories"].items()},
            base=data["base"],
            scratch=data["scratch"],
            described=json.loads(json.dumps(data)),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"The settings {NAME} cannot be used: {error!r}.") from None
    for way in settings.ways:
        if way not in WAYS:
            raise InputError(
                f"The settings {NAME} name the way '{way}'; there are {', '.join(WAYS)}."
            )
    compared = [c for story in settings.stories.values() for c in story.like_corrections]
    for count in (settings.targets.corrections, *compared):
        if count not in settings.corrections:
            raise InputError(
                f"The settings {NAME} look at {count} corrections, after which nothing is learnt;"
                f" the corrections are {', '.join(map(str, settings.corrections))}."
            )
    if settings.choice.story not in settings.stories:
        raise InputError(
            f"The settings {NAME} compare orders in the story '{settings.choice.story}'; there are"
            f" {', '.join(settings.stories)}."
        )
    return settings


def _telling(name: str, entry: Mapping[str, Any]) -> Telling:
    return Telling(
        name=name,
        minutes=float(entry["minutes"]),
        prompt=str(entry["prompt"]),
        source=str(entry["source"]),
        cases=dict(entry["cases"]),
        shift=Shift.from_settings(entry["shift"]) if "shift" in entry else None,
        like=tuple(str(prompt) for prompt in entry.get("like", ())),
        like_corrections=_numbers(entry.get("like_corrections", ())),
    )


def _numbers(values: Any) -> tuple[int, ...]:
    return tuple(int(value) for value in values)
