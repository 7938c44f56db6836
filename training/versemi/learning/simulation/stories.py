"""A story with its cases looked up: who trains the base, who arrives, who is held out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from versemi.errors import InputError
from versemi.evaluation import LabelledCase, find_cases
from versemi.learning.configuration import RunSettings, settings_from
from versemi.learning.folders import DataFolder
from versemi.learning.protocol import Protocol
from versemi.learning.simulation.settings import NAME, Settings, Telling
from versemi.learning.sources import case_lists
from versemi.tasks import FIRST_OWN_LABEL, Task, adopt, get_task, own_group


@dataclass(frozen=True)
class Measuring:
    """Cases to measure some prompts on, with the prompts' values in the label maps."""

    cases: tuple[LabelledCase, ...]
    labels: Mapping[str, int]


@dataclass(frozen=True)
class Story:
    """A story on real scans.

    Attributes:
        telling: how it is described.
        task: what is corrected; a new prompt is one of the simulated user's own.
        data: folder that holds the data sets' folders.
        value: of the prompt in the label maps.
        stream: the cases that arrive, in their order, as they are in the data set.
        held_out: the cases that are measured, as they are in the data set.
        base: how the base pack is trained; its sources name the cases and leave a new prompt out.
        others: where all prompts but the story's own are measured.
    """

    telling: Telling
    task: Task
    data: Path
    value: int
    stream: tuple[LabelledCase, ...]
    held_out: tuple[LabelledCase, ...]
    base: RunSettings
    others: tuple[Measuring, ...]

    @property
    def name(self) -> str:
        """Of the story."""
        return self.telling.name

    @property
    def prompt(self) -> str:
        """What is corrected, as the pack and the library know it."""
        return self.task.id

    @property
    def hidden(self) -> dict[str, dict[int, str]]:
        """For each data set the labels that the base pack must not learn anything from."""
        if not self.telling.new:
            return {}
        return {self.telling.source: {self.value: self.telling.prompt}}


def tell(settings: Settings, name: str, data: Path) -> Story:
    """Look up a story's cases.

    Args:
        settings: of the simulation.
        name: of the story.
        data: folder that holds the data sets' folders and the protocols.

    Raises:
        InputError: the data lacks a folder, a protocol, a case or a label, or the pool is too
            small.
    """
    telling = settings.stories[name]
    sources = {str(entry["name"]): entry for entry in settings.base["sources"]}
    if telling.source not in sources:
        raise InputError(
            f"The story '{name}' in {NAME} names the source '{telling.source}'; the base has"
            f" {', '.join(sources)}."
        )
    if not data.is_dir():
        raise InputError(
            f"There is no folder {data}; give the folder of the data sets with --data."
        )
    own = sources[telling.source]
    values = {get_task(prompt).id: int(value) for value, prompt in own["labels"].items()}
    if telling.prompt not in values:
        raise InputError(
            f"The story '{name}' in {NAME} is about '{telling.prompt}', which the source"
            f" '{telling.source}' does not label."
        )
    base, stream, held = _divided(telling, own, data)
    kept = {
        value: prompt
        for value, prompt in own["labels"].items()
        if not (telling.new and prompt == telling.prompt)
    }
    entries = [
        {**own, "labels": kept, "labelled": list(base), "measure": list(held)}
        if entry is own
        else entry
        for entry in settings.base["sources"]
    ]
    described = {
        **settings.base,
        "sources": entries,
        "pack": {**settings.base["pack"], "name": f"{settings.base['pack']['name']}-{name}"},
    }
    folder = data / own["folder"]
    return Story(
        telling=telling,
        task=_own(telling.prompt) if telling.new else get_task(telling.prompt),
        data=data,
        value=values[telling.prompt],
        stream=tuple(find_cases(folder, stream)),
        held_out=tuple(find_cases(folder, held)),
        base=settings_from(described, NAME),
        others=_others(telling, entries, data),
    )


def _own(prompt: str) -> Task:
    """A structure as a user adds it who has no prompt for it."""
    known = get_task(prompt)
    id = f"new_{known.id}"
    return adopt(
        replace(
            known,
            id=id,
            label=FIRST_OWN_LABEL,
            group=own_group(known.group, id),
            region="own",
            mirror=None,
        )
    )


def _divided(
    telling: Telling, own: Mapping[str, Any], data: Path
) -> tuple[Sequence[str], Sequence[str], Sequence[str]]:
    """The names of the base's cases, of the stream and of the held-out ones."""
    path = data / str(telling.cases["protocol"])
    protocol = Protocol.load(path)
    tasks = {task.prompt: task for task in protocol.tasks}
    task = tasks.get(str(telling.cases["task"]))
    if task is None or task.dataset != own["folder"]:
        raise InputError(
            f"The protocol {path} has no task '{telling.cases['task']}' on {own['folder']}, whose"
            f" cases the story '{telling.name}' needs; it has {', '.join(tasks)}."
        )
    first, more = int(telling.cases["base"]), int(telling.cases["stream"])
    if first + more > len(task.pool):
        raise InputError(
            f"The story '{telling.name}' needs {first} + {more} cases, and the pool of"
            f" {task.prompt} in {path} has {len(task.pool)}; give data with more."
        )
    folder = DataFolder.open(data / own["folder"])
    for case in (*task.pool[: first + more], *task.devtest):
        folder.image(case)
        folder.label(case)
    return task.pool[:first], task.pool[first : first + more], task.devtest


def _others(
    telling: Telling, entries: Sequence[Mapping[str, Any]], data: Path
) -> tuple[Measuring, ...]:
    found = []
    for entry in entries:
        labels = {
            get_task(prompt).id: int(value)
            for value, prompt in entry["labels"].items()
            if prompt != telling.prompt
        }
        if labels:
            names = case_lists(entry, data).measured
            found.append(Measuring(tuple(find_cases(data / entry["folder"], names)), labels))
    return tuple(found)
