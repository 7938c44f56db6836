"""Task prompts as plain data, so that a library still explains its labels years later."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from versemi.errors import InputError
from versemi.tasks import FOREGROUND, Code, Task


def to_json(task: Task) -> dict[str, Any]:
    """Everything that is known of a prompt."""
    return {
        "id": task.id,
        "name": task.name,
        "label": task.label,
        "category": _code_to_json(task.category),
        "type": _code_to_json(task.type),
        "modifier": _code_to_json(task.modifier) if task.modifier else None,
        "color": list(task.color),
        "modality": task.modality,
        "group": task.group,
        "region": task.region,
        "mirror": task.mirror,
        "note": task.note,
    }


def from_json(data: Mapping[str, Any]) -> Task:
    """The prompt that `to_json` described.

    Raises:
        KeyError, TypeError, ValueError: it is no description of a prompt.
    """
    red, green, blue = (int(channel) for channel in data["color"])
    return Task(
        id=str(data["id"]),
        name=str(data["name"]),
        label=int(data["label"]),
        category=_code_from_json(data["category"]),
        type=_code_from_json(data["type"]),
        modifier=_code_from_json(data["modifier"]) if data["modifier"] else None,
        color=(red, green, blue),
        modality=str(data["modality"]),
        group=str(data["group"]),
        region=str(data["region"]),
        mirror=data["mirror"],
        note=str(data["note"]),
    )


def chosen(prompts: Iterable[str], tasks: Mapping[str, Task], modality: str) -> tuple[Task, ...]:
    """The prompts that a label map covers, in the order of their labels, each once.

    Raises:
        InputError: one is unknown, is *foreground*, or belongs to another modality.
    """
    found: dict[str, Task] = {}
    for id in prompts:
        task = tasks.get(id)
        if task is None or id == FOREGROUND:
            known = ", ".join(t for t in tasks if t != FOREGROUND)
            raise InputError(
                f"No label map can cover the prompt '{id}'; the prompts that there are: {known}."
            )
        if task.modality != modality:
            raise InputError(
                f"The prompt '{id}' is for {task.modality} and the scan is {modality}; choose"
                f" prompts for {modality}, or correct the scan's modality."
            )
        found[id] = task
    return tuple(sorted(found.values(), key=lambda task: task.label))


def check_agreement(stored: Iterable[Task], used: Iterable[Task]) -> None:
    """Check that a label value means in a library what it means to who adds to it.

    Raises:
        InputError: the same prompt has another value there, or the same value another prompt.
    """
    values = {task.id: task.label for task in stored}
    names = {label: id for id, label in values.items()}
    for task in used:
        if values.get(task.id, task.label) != task.label:
            raise InputError(
                f"The prompt '{task.id}' has the label value {task.label}, and in this library"
                f" {values[task.id]}; use a model pack that agrees with it, or another library."
            )
        if names.get(task.label, task.id) != task.id:
            raise InputError(
                f"The prompt '{task.id}' has the label value {task.label}, which in this library"
                f" means '{names[task.label]}'; give the prompt another value, or use another"
                " library."
            )


def _code_to_json(code: Code) -> dict[str, str]:
    return {"value": code.value, "meaning": code.meaning, "scheme": code.scheme}


def _code_from_json(data: Mapping[str, Any]) -> Code:
    return Code(str(data["value"]), str(data["meaning"]), str(data["scheme"]))
