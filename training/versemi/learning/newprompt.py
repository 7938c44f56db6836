"""A prompt of one's own: another task code for a network that is there.

The controller's linear layer on the joined bottleneck and task code (VerSemi, arXiv 2311.11686,
section III-A) is a row per prompt and a part that depends on the image, so a new prompt is a new
row, and no other prompt's answer changes by it. What it is taught afterwards would change them: the
features that all of a group's prompts read become those of the new one. So it gets a group of its
own beside that whose scans it is asked on, and thereby a network of its own once it learns
(:mod:`versemi.network.groups`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from versemi.errors import InputError
from versemi.manifest import PromptSettings
from versemi.modelpack import ModelPack, write_pack
from versemi.network import NetworkSettings, PromptedNetwork, build_network
from versemi.tasks import FIRST_OWN_LABEL, FOREGROUND, LAST_OWN_LABEL, TASKS, Task, adopt

#: Starts from random numbers, as the rows of a fresh network do.
NOTHING = "nothing"


def add_prompt(
    pack: ModelPack,
    task: Task,
    folder: Path,
    *,
    beside: str,
    like: str | None = None,
    keep: str = "all",
) -> ModelPack:
    """Write a pack that has one more prompt, still to be taught.

    Args:
        pack: the parent.
        task: the new prompt; its group is new to the pack, too.
        folder: of the new pack.
        beside: the group of the pack as which the new one has its scans prepared.
        like: the prompt whose row the new one starts from, or :data:`NOTHING`; by default
            *foreground*, nothing where the network was made without it.
        keep: which connected components of its answers are kept, as in :class:`PromptSettings`.

    Returns:
        The new pack; its version says what was added.

    Raises:
        InputError: the name, label or group is taken, or the pack lacks `beside` or `like`.
        OutputError: the pack cannot be written.
    """
    if task.id in pack.task_ids or task.id == FOREGROUND:
        raise InputError(
            f"The pack {pack.name} {pack.version} has a prompt '{task.id}' already; choose another "
            "name, or teach that one."
        )
    groups = pack.manifest.groups
    if beside not in groups:
        raise InputError(
            f"The pack {pack.name} has no group '{beside}'; it has {', '.join(groups)}."
        )
    if task.group in groups:
        raise InputError(
            f"The pack {pack.name} {pack.version} has a group '{task.group}' already; choose "
            "another name."
        )
    task = adopt(task)
    networks = pack.build_networks()
    old = networks.of(beside)
    if like is None:
        like = FOREGROUND if FOREGROUND in old.prompts else NOTHING
    if like not in (*old.prompts, NOTHING):
        raise InputError(
            f"The pack {pack.name} has no prompt '{like}' to start from; choose one of "
            f"{', '.join(old.prompts)} or {NOTHING}."
        )
    before = [p for p in old.prompts if p != FOREGROUND]
    after = [p for p in old.prompts if p == FOREGROUND]
    settings = NetworkSettings(
        prompts=(*before, task.id, *after),
        backbone=str(pack.manifest.network["backbone"]),
        features=old.features,
    )
    networks = networks.mapped(lambda network: _grown(network, settings, task, like))
    networks = networks.beside(task.group, beside)
    manifest = replace(
        pack.manifest,
        version=f"{pack.version}+{task.id}",
        network={**pack.manifest.network, **settings.to_json()},
        prompts=(*pack.manifest.prompts, PromptSettings(task, keep=keep)),
        # No coarse pass looks for a new prompt.
        groups={**groups, task.group: replace(groups[beside], coarse=0.0)},
        parent=f"{pack.name} {pack.version}",
        training={**pack.manifest.training, "added": {"prompt": task.id, "like": like}},
    )
    return write_pack(folder, networks, manifest, pack.license())


def _grown(
    old: PromptedNetwork, settings: NetworkSettings, task: Task, like: str
) -> PromptedNetwork:
    """A network with one more row, before that of *foreground*."""
    torch.manual_seed(task.label)
    network = build_network(settings)
    number = settings.prompts.index(task.id)
    fresh = network.rows.data[number].clone()
    state = old.state_dict()
    rows = state.pop("rows")
    network.load_state_dict({**network.state_dict(), **state})
    with torch.no_grad():
        network.rows[:number] = rows[:number]
        network.rows[number + 1 :] = rows[number:]
        network.rows[number] = fresh if like == NOTHING else rows[old.prompts.index(like)]
    return network


def free_label(taken: Sequence[int] = ()) -> int:
    """The first label for a prompt of one's own that nothing known here has.

    Raises:
        InputError: all are taken.
    """
    used = {task.label for task in TASKS.values()} | set(taken)
    for label in range(FIRST_OWN_LABEL, LAST_OWN_LABEL + 1):
        if label not in used:
            return label
    raise InputError("Every label for prompts of one's own is taken; start from another pack.")
