"""The task-prompted network: a shared backbone, a controller, and one small head per prompt."""

from versemi.network.backbones import ResidualUNetBackbone, VNetBackbone
from versemi.network.groups import GroupNetworks
from versemi.network.layout import channels_last
from versemi.network.prompted import NetworkSettings, PromptedNetwork, build_network

__all__ = [
    "GroupNetworks",
    "NetworkSettings",
    "PromptedNetwork",
    "ResidualUNetBackbone",
    "VNetBackbone",
    "build_network",
    "channels_last",
]
