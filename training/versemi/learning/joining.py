"""A group of a pack gets the network of another pack, which was trained for it alone."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import torch

from versemi.errors import InputError
from versemi.manifest import INT8, PRECISION
from versemi.modelpack import ModelPack, write_pack
from versemi.network import PromptedNetwork


def join(pack: ModelPack, other: ModelPack, group: str, folder: Path, version: str) -> ModelPack:
    """Write a pack that answers one group as another pack does, and all others as before.

    Two networks take twice the room of one; so that the pack does not grow, the weights of their
    convolutions are stored in eight bits.

    Args:
        pack: the parent.
        other: knows every prompt that the group has in `pack`, on the same backbone.
        group: name of the group, in both.
        folder: of the new pack.
        version: of the new pack.

    Returns:
        The new pack; the group's prompts have yet to be measured.

    Raises:
        InputError: one of the packs lacks the group, or they do not fit together.
        OutputError: the pack cannot be written.
    """
    for one in (pack, other):
        if group not in one.manifest.groups:
            raise InputError(
                f"The pack {one.name} {one.version} has no group '{group}'; it has "
                f"{', '.join(one.manifest.groups)}."
            )
    prompts = [task.id for task in pack.tasks if task.group == group]
    lacking = [prompt for prompt in prompts if prompt not in other.task_ids]
    if lacking:
        raise InputError(
            f"The pack {other.name} {other.version} does not know {', '.join(lacking)}, which "
            f"{pack.name} {pack.version} has in the group '{group}'; train it for all of them."
        )
    kinds = [
        (str(p.manifest.network["backbone"]), p.manifest.network["features"]) for p in (pack, other)
    ]
    if kinds[0] != kinds[1]:
        raise InputError(
            f"The networks of {pack.name} {pack.version} ({kinds[0][0]}, {kinds[0][1]} features) "
            f"and {other.name} {other.version} ({kinds[1][0]}, {kinds[1][1]} features) differ in "
            "kind; train with the network settings of the former."
        )
    networks = pack.build_networks()
    theirs = other.build_network(group)
    learnt = _with_rows_of(theirs, networks.of(group))
    settings = {
        p: replace(other.settings(p), task=pack.settings(p).task, dice=None) for p in prompts
    }
    manifest = replace(
        pack.manifest,
        version=version,
        parent=f"{pack.name} {pack.version}",
        network={**pack.manifest.network, PRECISION: INT8},
        prompts=tuple(settings.get(p.task.id, p) for p in pack.manifest.prompts),
        groups={**pack.manifest.groups, group: other.manifest.groups[group]},
        training={
            **pack.manifest.training,
            "joined": {
                **pack.manifest.training.get("joined", {}),
                group: {"pack": f"{other.name} {other.version}", **other.manifest.training},
            },
        },
    )
    networks = networks.after([group], learnt, pack.manifest.groups)
    return write_pack(folder, networks, manifest, pack.license())


def _with_rows_of(network: PromptedNetwork, old: PromptedNetwork) -> PromptedNetwork:
    """A network with the task code of `old`; rows of prompts that it does not know are `old`'s."""
    made = copy.deepcopy(old)
    state = network.state_dict()
    rows = old.rows.detach().clone()
    for number, prompt in enumerate(old.prompts):
        if prompt in network.prompts:
            rows[number] = state["rows"][network.prompts.index(prompt)]
    with torch.no_grad():
        made.load_state_dict({**state, "rows": rows})
    return made
