"""The networks of a run: one for all prompt groups, or one for each, with their moving averages.

The groups' scans are prepared in different ways, so no window is ever answered for two of them, and
a network for each costs room and no time. Within a group the prompts share one, as in VerSemi.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import Module, ModuleList
from torch.optim.swa_utils import AveragedModel

from versemi.network import GroupNetworks, PromptedNetwork


class Learner(Module):
    """A network that learns, and the moving average of its weights.

    Args:
        network: is trained.
        decay: of the average.
    """

    def __init__(self, network: PromptedNetwork, decay: float) -> None:
        super().__init__()
        self.network = network
        self.averaged = AveragedModel(network, multi_avg_fn=_moving_average(decay))
        self.averaged.requires_grad_(False)

    @property
    def average(self) -> PromptedNetwork:
        """The moving average."""
        average = self.averaged.module
        assert isinstance(average, PromptedNetwork)
        return average

    def has_gradient(self) -> bool:
        """Whether the step that is about to be made moves the network."""
        return any(p.grad is not None for p in self.network.parameters())

    def follow(self) -> None:
        """Let the average follow, after a step."""
        self.averaged.update_parameters(self.network)


class Learners(Module):
    """All of a run.

    Args:
        networks: to begin with.
        groups: that get a network each; if none, the shared one is for all.
        decay: of the moving averages.
    """

    def __init__(self, networks: GroupNetworks, groups: Sequence[str], decay: float) -> None:
        super().__init__()
        self.groups = tuple(groups)
        begin = [copy.deepcopy(networks.of(group)) for group in groups] or [networks.shared]
        self._each = ModuleList(Learner(network, decay) for network in begin)

    def of(self, group: str) -> Learner:
        """What a group has."""
        return self.each()[self.groups.index(group) if self.groups else 0]

    def each(self) -> list[Learner]:
        """Every one once."""
        return [cast(Learner, learner) for learner in self._each]

    def averages(self) -> GroupNetworks:
        """The moving averages; with one for each group, the first of them is the shared one."""
        first, *others = (learner.average for learner in self.each())
        return GroupNetworks(first, dict(zip(self.groups[1:], others, strict=True)))


def _moving_average(decay: float) -> Callable[[Any, Any, Any], None]:
    """An average that forgets its first, random weights quickly: decay at most (n + 1) / (n + 10).

    Tarvainen & Valpola, *Mean teachers are better role models*, NeurIPS 2017, ramp it likewise.
    """

    @torch.no_grad()
    def update(averaged: list[Tensor], current: list[Tensor], count: Tensor) -> None:
        n = float(count)
        torch._foreach_lerp_(averaged, current, 1 - min(decay, (n + 1) / (n + 10)))

    return update
