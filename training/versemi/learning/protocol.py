"""A benchmark protocol: tasks with few labels, and which cases are for what.

The file is JSON: under ``tasks``, for each prompt, its ``dataset`` folder, the ``label`` value
there, the ``pool`` of training cases, of which only ``labelled_10`` or ``labelled_20`` may be
read with their labels, and ``devtest``, for measuring.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from versemi.errors import InputError
from versemi.export import write_text
from versemi.learning.configuration import (
    RunSettings,
    group_settings,
    left_out,
    method_settings,
    network_settings,
    shipped,
)
from versemi.learning.methods import LEFT_OUT
from versemi.tasks import get_task

FRACTIONS = (10, 20)
#: Spacing, crops, network and steps that all methods of a benchmark share, by name.
SCALES = {
    "processor": "protocol.yaml",
    "fine": "protocol-fine.yaml",
    "full": "protocol-full.yaml",
}


@dataclass(frozen=True)
class ProtocolTask:
    """One task of a protocol; see the module."""

    prompt: str
    dataset: str
    label: int
    pool: tuple[str, ...]
    labelled: Mapping[int, tuple[str, ...]]
    devtest: tuple[str, ...]


@dataclass(frozen=True)
class Protocol:
    """A protocol and the folder that its data sets lie in."""

    name: str
    folder: Path
    tasks: tuple[ProtocolTask, ...]

    @classmethod
    def load(cls, path: Path) -> Protocol:
        """Read a protocol.

        Raises:
            InputError: it cannot be read, a value is missing, a labelled case is not in the pool,
                or a measuring case is.
        """
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            tasks = tuple(_task(prompt, entry) for prompt, entry in data["tasks"].items())
            name = str(data["name"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"The protocol {path} cannot be used: {error!r}.") from None
        for task in tasks:
            _check(task, path)
        return cls(name, path.parent, tasks)

    def beside(self, folder: Path) -> Protocol:
        """The same protocol with its data sets in another folder."""
        return replace(self, folder=folder)

    def only(self, prompts: Sequence[str]) -> Protocol:
        """The same protocol with some of its tasks.

        Raises:
            InputError: it lacks one.
        """
        known = [task.prompt for task in self.tasks]
        for prompt in prompts:
            if prompt not in known:
                raise InputError(
                    f"The protocol {self.name} has no task {prompt}; choose among "
                    f"{', '.join(known)}."
                )
        return replace(self, tasks=tuple(task for task in self.tasks if task.prompt in prompts))

    def split_pool(self, seed: int) -> dict[str, Any]:
        """A protocol on the pool alone, for choosing: its measuring cases come out of the pool.

        Tasks that share a data set share their measuring cases. As many cases are labelled as in
        the protocol itself.

        Args:
            seed: of the choice.

        Returns:
            Plain data of the new protocol.
        """
        chance = np.random.default_rng(seed)
        held: dict[str, list[str]] = {}
        tasks = {}
        for task in self.tasks:
            if task.dataset not in held:
                shuffled = [str(n) for n in chance.permutation(sorted(task.pool))]
                held[task.dataset] = shuffled[: len(task.devtest)]
            rest = [str(n) for n in chance.permutation(sorted(task.pool))]
            rest = [name for name in rest if name not in held[task.dataset]]
            tasks[task.prompt] = {
                "dataset": task.dataset,
                "label": task.label,
                "pool": rest,
                **{f"labelled_{f}": rest[: len(names)] for f, names in task.labelled.items()},
                "devtest": held[task.dataset],
            }
        return {
            "name": f"{self.name}-split{seed}",
            "about": f"The pool of {self.name}, split with seed {seed}, to make choices on.",
            "tasks": tasks,
        }


def runs_of(
    protocol: Protocol,
    *,
    fraction: int,
    method: str,
    without: Sequence[str] = (),
    extra: Sequence[str] = (),
    seed: int = 0,
    scale: Mapping[str, Any] | None = None,
) -> dict[str, RunSettings]:
    """The runs that a method needs: one, or one for each task.

    A model of one task sees as many batches of its task as a model of all.

    Args:
        protocol: tasks and cases.
        fraction: percent of the pool that is labelled.
        method: one of :data:`versemi.learning.methods.METHODS`.
        without: parts of VerSemi to leave out.
        extra: parts to put back that the scale leaves out.
        seed: of the run.
        scale: as :func:`scale_settings` reads it; by default that of a processor.

    Returns:
        Settings by the name of the run's folder.

    Raises:
        InputError: an argument is not known, or the scale does not cover a task.
    """
    scale = scale or scale_settings()
    parts = left_out(left_out_by(scale), without, extra)
    chosen = method_settings({**scale["method"], "name": method, "without": parts}, "of the scale")
    if fraction not in FRACTIONS:
        raise InputError(f"The fraction is {fraction}; choose 10 or 20 percent of the labels.")
    entries = [_entry(task, fraction, scale) for task in protocol.tasks]
    keep_all = [t.prompt for t in protocol.tasks if scale["tasks"][t.prompt]["keep"] == "all"]
    whole = RunSettings(
        seed=seed,
        steps=int(scale["steps"]),
        samples=int(scale["samples"]),
        rate=float(scale["rate"]),
        average=float(scale["average"]),
        method=chosen,
        network=network_settings({t.prompt for t in protocol.tasks}, chosen, scale["network"]),
        sources=tuple(entries),
        pack={
            "name": f"{protocol.name}-{method}",
            "version": f"{fraction}-{seed}",
            "search": {"prompts_of": []},
            "keep_all": keep_all,
            "min_ml": 0.0,
        },
        groups=group_settings(scale.get("groups", {}), "of the scale"),
    )
    if not chosen.one_model_a_task:
        return {"all": whole}
    share = whole.steps * whole.samples // len(entries)
    return {
        entry["name"]: replace(
            whole,
            steps=share,
            samples=1,
            sources=(entry,),
            network=network_settings(set(entry["labels"].values()), chosen, scale["network"]),
        )
        for entry in entries
    }


def scale_settings(name: str = "processor") -> Mapping[str, Any]:
    """The settings of a scale that comes with the package, one of `SCALES`.

    One that is ``like`` another says only what differs.
    """
    settings = dict(shipped(SCALES[name]))
    other = settings.pop("like", None)
    return _overlaid(scale_settings(other), settings) if other else settings


def left_out_by(scale: Mapping[str, Any]) -> tuple[str, ...]:
    """The parts of VerSemi that a scale does without, where they are not put back."""
    return tuple(scale["method"].get("without", LEFT_OUT))


def write_split(protocol: Protocol, seed: int, path: Path) -> Path:
    """Write :meth:`Protocol.split_pool` as a file beside the data.

    Raises:
        OutputError: it could not be written.
    """
    return write_text(json.dumps(protocol.split_pool(seed), indent=1) + "\n", path)


def _overlaid(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with others in their place, value by value where both are mappings."""
    both = {
        key: _overlaid(below[key], value)
        for key, value in above.items()
        if isinstance(value, Mapping) and key in below
    }
    return {**below, **above, **both}


def _task(prompt: str, entry: Mapping[str, Any]) -> ProtocolTask:
    return ProtocolTask(
        prompt=get_task(prompt).id,
        dataset=str(entry["dataset"]),
        label=int(entry["label"]),
        pool=tuple(str(n) for n in entry["pool"]),
        labelled={f: tuple(str(n) for n in entry[f"labelled_{f}"]) for f in FRACTIONS},
        devtest=tuple(str(n) for n in entry["devtest"]),
    )


def _check(task: ProtocolTask, path: Path) -> None:
    for fraction, names in task.labelled.items():
        if not names:
            raise InputError(
                f"The protocol {path} has no labelled case for {task.prompt} at {fraction} "
                "percent; name one at least."
            )
        for name in names:
            if name not in task.pool:
                raise InputError(
                    f"The protocol {path} has {name} labelled for {task.prompt}, which is not in "
                    "its pool; add it there."
                )
    for name in task.devtest:
        if name in task.pool:
            raise InputError(
                f"The protocol {path} measures {task.prompt} on {name}, which is in its pool; a "
                "case is for training or for measuring."
            )


def _entry(task: ProtocolTask, fraction: int, scale: Mapping[str, Any]) -> dict[str, Any]:
    if task.prompt not in scale["tasks"]:
        raise InputError(
            f"The scale has no entry for {task.prompt}; add one to 'tasks' (it has "
            f"{', '.join(scale['tasks'])})."
        )
    settings = dict(scale["tasks"][task.prompt])
    settings.pop("keep")
    labelled = task.labelled[fraction]
    return {
        "name": task.prompt,
        "folder": task.dataset,
        "labels": {task.label: task.prompt},
        "labelled": list(labelled),
        "unlabelled": [name for name in task.pool if name not in labelled],
        "measure": list(task.devtest),
        "weight": 1.0,
        **settings,
    }
