"""The task-prompted network."""

from __future__ import annotations

import copy

import pytest
import torch

from versemi.errors import PackError
from versemi.network import (
    NetworkSettings,
    ResidualUNetBackbone,
    VNetBackbone,
    build_network,
    channels_last,
)

PROMPTS = ("spleen", "liver", "foreground")


@pytest.mark.parametrize("backbone", ["residual-unet", "vnet"])
def test_one_pass_gives_a_logit_for_every_prompt_and_voxel(backbone):
    network = build_network(NetworkSettings(PROMPTS, backbone, features=8)).eval()
    image = torch.randn(2, 1, 16, 32, 48)
    with torch.inference_mode():
        logits = network(image, torch.tensor([0, 2]))
    assert logits.shape == (2, 2, 16, 32, 48)
    assert torch.isfinite(logits).all()


def test_heads_as_batched_products_equal_three_convolutions_per_prompt():
    torch.manual_seed(1)
    network = build_network(NetworkSettings(PROMPTS, features=8))
    features = torch.randn(2, 8, 50)
    parameters = network.head_parameters(torch.randn(2, 192), torch.tensor([0, 1, 2]))
    logits = network.apply_heads(features, parameters)
    for b in range(2):
        for k in range(3):
            w1, b1, w2, b2, w3, b3 = parameters[b, k].split([64, 8, 64, 8, 8, 1])
            x = torch.nn.functional.leaky_relu(w1.view(8, 8) @ features[b] + b1[:, None], 0.01)
            x = torch.nn.functional.leaky_relu(w2.view(8, 8) @ x + b2[:, None], 0.01)
            assert torch.allclose(logits[b, k], (w3.view(1, 8) @ x + b3[:, None])[0], atol=1e-5)


def test_a_prompt_answers_the_same_whichever_others_are_asked_with_it():
    torch.manual_seed(2)
    network = build_network(NetworkSettings(PROMPTS, features=8)).eval()
    image = torch.randn(1, 1, 16, 32, 32)
    with torch.inference_mode():
        together = network(image, torch.tensor([0, 1, 2]))[:, 1]
        alone = network(image, torch.tensor([1]))[:, 0]
    assert torch.allclose(together, alone, atol=1e-4)


def test_generated_layers_start_with_the_variance_of_ordinary_ones():
    torch.manual_seed(3)
    network = build_network(NetworkSettings(tuple(f"p{i}" for i in range(64)), features=16))
    parameters = network.head_parameters(torch.randn(8, 192), torch.arange(64)).detach()
    first, last_bias = parameters[..., : 16 * 8], parameters[..., -1]
    assert float(first.var()) == pytest.approx(2 / 16, rel=0.1)
    assert float(last_bias.mean()) == pytest.approx(-1.5, abs=0.05)
    by_image = parameters.std(dim=0).mean()
    assert float(by_image) < 0.05


def test_the_published_v_net_has_nine_and_a_half_million_parameters():
    count = sum(p.numel() for p in VNetBackbone(8).parameters())
    assert 9.3e6 < count < 9.6e6


def test_the_shipped_backbone_fits_twelve_megabytes_in_half_precision():
    network = build_network(NetworkSettings(("foreground",) * 18))
    assert sum(p.numel() for p in network.parameters()) * 2 < 12e6


def test_every_level_of_the_backbone_learns_from_what_the_heads_read():
    backbone = ResidualUNetBackbone(8)
    features, pooled = backbone(torch.randn(1, 1, 32, 32, 48))
    assert features.shape == (1, 8, 32, 32, 48) and pooled.shape == (1, 192)
    features.square().mean().backward()
    for block in (*backbone.down, *backbone.up):
        assert all(float(p.grad.abs().sum()) > 0 for p in block.parameters() if p.ndim > 2)


def test_an_unknown_backbone_is_refused():
    with pytest.raises(PackError, match="'transformer' is not known"):
        build_network(NetworkSettings(PROMPTS, "transformer"))


@pytest.mark.parametrize("backbone", ["residual-unet", "vnet"])
def test_with_channels_last_a_network_answers_the_same_and_keeps_its_weights(backbone):
    torch.manual_seed(4)
    network = build_network(NetworkSettings(PROMPTS, backbone, features=8)).eval()
    laid_out = channels_last(copy.deepcopy(network))
    assert laid_out.state_dict().keys() == network.state_dict().keys()
    filters = [p for p in laid_out.parameters() if p.dim() == 5]
    assert all(p.is_contiguous(memory_format=torch.channels_last_3d) for p in filters)
    image, asked = torch.randn(1, 1, 32, 32, 48), torch.tensor([0, 2])
    with torch.inference_mode():
        assert torch.allclose(laid_out(image, asked), network(image, asked), atol=1e-3)
