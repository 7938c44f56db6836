"""The networks of a pack: one that its prompt groups share, and those of groups that left it.

One network serves all groups, until one of them learns from scans of its own kind alone. Then that
group answers with the new weights, and the others with the ones that they had: what they answer
does not change, to the bit.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from versemi.network.prompted import NetworkSettings, PromptedNetwork, build_network

# Between the name of a network and that of a tensor of it.
_OF = "/"
# Between the groups that a network is named after.
_AND = "+"


@dataclass(frozen=True)
class GroupNetworks:
    """A network for every prompt group.

    Attributes:
        shared: of all groups that `own` does not name.
        own: by group; groups that learnt together have the same one.
    """

    shared: PromptedNetwork
    own: Mapping[str, PromptedNetwork] = field(default_factory=dict)

    def of(self, group: str) -> PromptedNetwork:
        """The network that answers the prompts of a group."""
        return self.own.get(group, self.shared)

    def each(self) -> tuple[PromptedNetwork, ...]:
        """Every network once, the shared one first."""
        return tuple({id(n): n for n in (self.shared, *self.own.values())}.values())

    def to(self, device: torch.device) -> GroupNetworks:
        """The same networks, on another device from now on."""
        return self.mapped(lambda network: network.to(device))

    def mapped(self, change: Callable[[PromptedNetwork], PromptedNetwork]) -> GroupNetworks:
        """The same groups with their networks changed; who had the same one has the same still."""
        changed = {id(network): change(network) for network in self.each()}
        own = {group: changed[id(network)] for group, network in self.own.items()}
        return GroupNetworks(changed[id(self.shared)], own)

    def names(self) -> dict[str, str]:
        """For each group of `own` the name of its network: the groups that have it, joined."""
        return {
            group: _AND.join(sorted(g for g, other in self.own.items() if other is network))
            for group, network in self.own.items()
        }

    def beside(self, group: str, other: str) -> GroupNetworks:
        """The same networks with one more group, which has the network of another."""
        own = {group: self.own[other]} if other in self.own else {}
        return GroupNetworks(self.shared, {**self.own, **own})

    def after(
        self, learnt: Sequence[str], network: PromptedNetwork, every: Collection[str]
    ) -> GroupNetworks:
        """What a pack has after some groups have learnt together.

        Args:
            learnt: those groups, which had the same network before.
            network: that they have now.
            every: all groups of the pack.
        """
        before = self.of(learnt[0])
        others = {group: self.of(group) for group in every if group not in learnt}
        own = {group: other for group, other in others.items() if other is not self.shared}
        if before is self.shared and before not in others.values():
            return GroupNetworks(network, own)
        return GroupNetworks(self.shared, own | dict.fromkeys(learnt, network))

    def tensors(self) -> dict[str, Tensor]:
        """All weights by name; :meth:`from_tensors` takes them apart again."""
        found = dict(self.shared.state_dict())
        for group, name in self.names().items():
            state = self.own[group].state_dict()
            found |= {f"{name}{_OF}{key}": value for key, value in state.items()}
        return found

    @classmethod
    def from_tensors(
        cls, settings: NetworkSettings, tensors: Mapping[str, Tensor], names: Mapping[str, str]
    ) -> GroupNetworks:
        """Networks with their weights, float32, ready for inference.

        Args:
            settings: of every network.
            tensors: as :meth:`tensors` gives them, of any precision.
            names: as :meth:`names`.

        Raises:
            KeyError, RuntimeError: the weights lack a network, or fit another one.
        """
        # The shared network's tensors have no name before theirs.
        weights: dict[str, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            name, _, tensor = key.rpartition(_OF)
            weights.setdefault(name, {})[tensor] = value.float()
        networks = {}
        for name, state in weights.items():
            networks[name] = build_network(settings).eval()
            networks[name].load_state_dict(state)
        return cls(networks[""], {group: networks[name] for group, name in names.items()})
