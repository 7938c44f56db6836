"""Packs that are whole for everything but computing, made in no time and without torch."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from versemi.manifest import MANIFEST, WEIGHTS, Manifest, PromptSettings
from versemi.preprocessing import DEFAULT_GROUPS
from versemi.tasks import TASKS, Code, Task

if TYPE_CHECKING:
    from versemi.modelstore import ModelStore

THYMUS = Task(
    "thymus",
    "Thymus",
    100,
    Code("123037004", "Anatomical Structure"),
    Code("9875009", "Thymus"),
    (10, 200, 30),
    "CT",
    "ct-thymus",
    "own",
)


def make_pack(
    folder: Path,
    name: str = "atria",
    version: str = "1",
    *,
    parent: str | None = None,
    prompts: tuple[str, ...] = ("left_atrium", "spleen"),
    own: tuple[Task, ...] = (),
    dice: float | None = None,
    training: dict[str, Any] | None = None,
) -> Path:
    """Write a pack whose weights are only bytes."""
    weights = f"weights of {name} {version}".encode() * 50
    data = Manifest(
        name=name,
        version=version,
        parent=parent,
        network={},
        prompts=tuple(
            PromptSettings(task, dice=dice) for task in (*(TASKS[p] for p in prompts), *own)
        ),
        groups=DEFAULT_GROUPS | {task.group: DEFAULT_GROUPS["ct"] for task in own},
        training=training or {},
    ).to_json()
    data["sha256"] = {WEIGHTS: hashlib.sha256(weights).hexdigest()}
    content = json.dumps(data, sort_keys=True)
    data["sha256"][MANIFEST] = hashlib.sha256(content.encode()).hexdigest()
    folder.mkdir(parents=True)
    (folder / WEIGHTS).write_bytes(weights)
    (folder / MANIFEST).write_text(json.dumps(data))
    (folder / "LICENSE").write_text("For tests only.\n")
    return folder


def damage(pack: Path) -> None:
    """Flip one bit of the weights."""
    content = bytearray((pack / WEIGHTS).read_bytes())
    content[len(content) // 2] ^= 1
    (pack / WEIGHTS).write_bytes(content)


def everything(folder: Path) -> dict[str, bytes]:
    """All files below a folder, hidden ones included."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def refs(store: ModelStore) -> list[str]:
    """All versions in a store, in its order."""
    return [entry.ref for entry in store.entries()]
