"""What a model pack says of itself: ``manifest.json``, read, checked and written.

It carries the SHA-256 of the weights and of itself. Reading it imports nothing heavy; how scans are
prepared, which a :class:`Manifest` knows, comes with numpy and SimpleITK.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from versemi.errors import InputError, PackError
from versemi.tasks import FIRST_OWN_LABEL, TASKS, Code, Task, adopt

if TYPE_CHECKING:
    from versemi.preprocessing import GroupSettings

KIND = "versemi-model-pack"
FORMAT = 3
# A pack has the lowest format that it can, so that earlier versions read it: with groups that have
# left the shared network 2, with weights in eight bits 3.
_FORMAT_OF_ONE, _FORMAT_OF_SEVERAL = 1, 2
WEIGHTS = "model.safetensors"
#: What a manifest's network says of groups that have left the shared one, if any has.
OWN = "own"
#: What it says of the weights' precision, if that is not half.
PRECISION, INT8 = "precision", "int8"
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class PromptSettings:
    """How a pack treats one prompt.

    Attributes:
        task: the prompt.
        search: whether the coarse pass was taught to find it; if not, the fine pass looks
            everywhere.
        keep: ``"largest"`` keeps the largest connected component, ``"all"`` keeps those of at
            least `min_ml`.
        min_ml: smallest component that is kept, in millilitres.
        dice: measured mean Dice on cases that were kept out of training, if it was measured.
    """

    task: Task
    search: bool = False
    keep: str = "all"
    min_ml: float = 0.0
    dice: float | None = None


@dataclass(frozen=True)
class Manifest:
    """What a pack says of itself; the ``manifest.json`` in memory."""

    name: str
    version: str
    network: Mapping[str, Any]
    prompts: tuple[PromptSettings, ...]
    groups: Mapping[str, GroupSettings]
    training: Mapping[str, Any] = field(default_factory=dict)
    parent: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain data, without checksums."""
        return {
            "kind": KIND,
            "format": self._format(),
            "name": self.name,
            "version": self.version,
            "parent": self.parent,
            "network": dict(self.network),
            "tasks": [_task_to_json(prompt) for prompt in self.prompts],
            "groups": {name: group.to_json() for name, group in self.groups.items()},
            "training": dict(self.training),
        }

    def _format(self) -> int:
        if self.network.get(PRECISION):
            return FORMAT
        return _FORMAT_OF_SEVERAL if self.network.get(OWN) else _FORMAT_OF_ONE


def read_manifest(folder: Path) -> dict[str, Any]:
    """Plain data of a pack's manifest, as it was when the pack was made.

    Raises:
        PackError: missing, damaged, changed, of another kind, or made for a newer format.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise PackError(f"{folder} is not a model pack: it has no {MANIFEST}.")
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise PackError(
            f"The manifest {path} is damaged ({error}); copy the pack again from where it came."
        ) from None
    if not isinstance(data, dict) or data.get("kind") != KIND:
        raise PackError(f"{folder} is not a VerSemi model pack; its manifest is of another kind.")
    if not isinstance(data.get("format"), int) or data["format"] > FORMAT:
        raise PackError(
            f"The model pack {folder} has format {data.get('format')!r}, and this version reads "
            f"up to {FORMAT}; update VerSemi."
        )
    checks = data.get("sha256")
    if not isinstance(checks, dict) or checks.get(MANIFEST) != manifest_digest(data):
        raise PackError(
            f"The manifest {path} was changed after the pack was made; copy the pack again from "
            "where it came."
        )
    return data


def manifest_digest(data: Mapping[str, Any]) -> str:
    """SHA-256 of a manifest's content without its own checksum, whatever its white space."""
    checks = {k: v for k, v in data.get("sha256", {}).items() if k != MANIFEST}
    content = json.dumps({**data, "sha256": checks}, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(content.encode()).hexdigest()


def manifest_of(data: Mapping[str, Any], folder: Path) -> Manifest:
    """The manifest that is plain data of :func:`read_manifest`; prompts of one's own join in.

    Raises:
        PackError: it lacks or misstates something, or has a prompt that this version does not know.
    """
    # Preprocessing brings numpy and SimpleITK; only who loads a pack pays for them.
    from versemi.preprocessing import GroupSettings

    try:
        prompts = []
        for entry in data["tasks"]:
            task = _own_task(entry["own"]) if "own" in entry else TASKS.get(entry["id"])
            if task is None or task.label != entry["label"]:
                raise PackError(
                    f"The model pack {folder} answers a prompt '{entry['id']}' with label "
                    f"{entry['label']} that this version does not know; update VerSemi."
                )
            # A pack prepares scans as it learnt to, whatever group later ones put a prompt into.
            task = replace(task, group=str(entry["group"]))
            if entry["keep"] not in ("largest", "all"):
                raise PackError(f"The model pack {folder} wants clean-up '{entry['keep']}'.")
            prompts.append(
                PromptSettings(
                    task,
                    search=bool(entry["search"]),
                    keep=str(entry["keep"]),
                    min_ml=float(entry["min_ml"]),
                    dice=None if entry["dice"] is None else float(entry["dice"]),
                )
            )
        labels = [p.task.label for p in prompts]
        for prompt in prompts:
            if labels.count(prompt.task.label) > 1:
                raise PackError(
                    f"The model pack {folder} has several prompts with the label "
                    f"{prompt.task.label}; give each a label of its own."
                )
        groups = {name: GroupSettings.from_json(g) for name, g in data["groups"].items()}
        missing = {p.task.group for p in prompts} - set(groups)
        if missing:
            raise PackError(f"The model pack {folder} says nothing of the group {min(missing)}.")
        return Manifest(
            name=str(data["name"]),
            version=str(data["version"]),
            network=data["network"],
            prompts=tuple(prompts),
            groups=groups,
            training=data.get("training", {}),
            parent=data.get("parent"),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise PackError(f"The manifest of {folder} lacks or misstates {error}.") from None


def _task_to_json(prompt: PromptSettings) -> dict[str, Any]:
    task = prompt.task
    own = {"own": asdict(task)} if task.label >= FIRST_OWN_LABEL else {}
    return {
        **own,
        "id": task.id,
        "name": task.name,
        "label": task.label,
        "terminology": task.terminology,
        "color": list(task.color),
        "modality": task.modality,
        "group": task.group,
        "search": prompt.search,
        "keep": prompt.keep,
        "min_ml": prompt.min_ml,
        "dice": prompt.dice,
    }


def _own_task(data: Mapping[str, Any]) -> Task:
    """A prompt that a user has added, from its description in a manifest."""
    codes = {key: Code(**data[key]) for key in ("category", "type", "modifier") if data[key]}
    task = Task(**{**data, **codes, "color": tuple(int(c) for c in data["color"])})
    try:
        return adopt(task)
    except InputError as error:
        raise PackError(str(error)) from None
