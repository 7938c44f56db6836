"""One group of a pack answered by another pack."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from commands import one_sentence
from versemi.errors import InputError
from versemi.learning.joining import join
from versemi.manifest import MANIFEST, PromptSettings
from versemi.modelpack import ModelPack, write_pack
from versemi.network import NetworkSettings, build_network
from versemi.tasks import TASKS


@pytest.fixture
def base(tiny_pack):
    return ModelPack.load(tiny_pack)


@pytest.fixture
def atrium(base, tmp_path):
    """A pack of the left atrium alone, on coarser scans."""
    described = base.manifest.network
    settings = NetworkSettings(
        ("left_atrium", "foreground"), str(described["backbone"]), int(described["features"])
    )
    torch.manual_seed(5)
    lge = replace(base.manifest.groups["lge_mr"], spacing=(2.0, 2.0, 2.0))
    manifest = replace(
        base.manifest,
        name="atrium",
        version="3",
        network=settings.to_json(),
        prompts=(PromptSettings(TASKS["left_atrium"], keep="largest", dice=0.5),),
        groups={"lge_mr": lge},
        training={"steps": 7},
    )
    return write_pack(tmp_path / "atrium", build_network(settings), manifest)


def test_the_group_answers_as_the_other_pack_and_the_rest_as_before(base, atrium, tmp_path):
    made = join(base, atrium, "lge_mr", tmp_path / "joined", "2.0")
    assert made.network_of("lge_mr") == "lge_mr" and made.network_of("ct") == ""
    image = torch.rand(1, 1, 32, 32, 32, generator=torch.Generator().manual_seed(3))

    def answer(pack, prompt, group):
        network = pack.build_network(group)
        with torch.inference_mode():
            return network(image, torch.tensor([network.prompts.index(prompt)]))

    def near(one, other):
        return (one - other).norm() < 0.05 * other.norm()

    new = answer(made, "left_atrium", "lge_mr")
    assert near(new, answer(atrium, "left_atrium", "lge_mr"))
    assert not near(new, answer(base, "left_atrium", "lge_mr"))
    assert near(answer(made, "spleen", "ct"), answer(base, "spleen", "ct"))
    manifest = made.manifest
    assert manifest.groups == {**base.manifest.groups, "lge_mr": atrium.manifest.groups["lge_mr"]}
    assert made.settings("left_atrium") == replace(atrium.settings("left_atrium"), dice=None)
    assert made.settings("spleen") == base.settings("spleen")
    assert (manifest.version, manifest.parent) == ("2.0", "tiny 0.0.1")
    assert manifest.training["joined"] == {"lge_mr": {"pack": "atrium 3", "steps": 7}}
    assert json.loads((made.path / MANIFEST).read_text())["format"] == 3
    assert (made.path / "LICENSE").is_file()


def test_a_second_join_keeps_what_the_first_left(base, atrium, tmp_path):
    first = join(base, atrium, "lge_mr", tmp_path / "first", "2.0")
    second = join(first, base, "ct", tmp_path / "second", "3.0")
    assert second.manifest.training["joined"]["lge_mr"] == {"pack": "atrium 3", "steps": 7}
    assert second.manifest.training["joined"]["ct"]["pack"] == "tiny 0.0.1"
    kept, now = (pack.build_network("lge_mr").state_dict() for pack in (first, second))
    assert all(torch.equal(kept[name], now[name]) for name in kept)


def test_packs_that_do_not_fit_together_are_refused(base, atrium, tmp_path):
    for one, other, group, words in (
        (base, atrium, "ct", "The pack atrium 3 has no group 'ct'; it has lge_mr"),
        (base, atrium, "pet", "The pack tiny 0.0.1 has no group 'pet'"),
        (atrium, base, "lge_mr", None),
    ):
        if words is None:
            assert join(one, other, group, tmp_path / "ok", "4").name == "atrium"
            continue
        with pytest.raises(InputError, match=words):
            join(one, other, group, tmp_path / "joined", "2.0")
    manifest = replace(
        atrium.manifest, groups={**atrium.manifest.groups, "ct": base.manifest.groups["ct"]}
    )
    with pytest.raises(InputError, match="atrium 3 does not know spleen"):
        join(base, replace(atrium, manifest=manifest), "ct", tmp_path / "joined", "2.0")
    other_kind = replace(atrium.manifest, network={**atrium.manifest.network, "features": 99})
    with pytest.raises(InputError, match="99 features. differ in kind"):
        join(base, replace(atrium, manifest=other_kind), "lge_mr", tmp_path / "joined", "2.0")
    assert not (tmp_path / "joined").exists()


def test_the_command_joins_two_packs(base, atrium, tmp_path, run):
    arguments = ("models", "join", base.path, atrium.path, "--version", "2.0")
    code, _, told = run(*arguments, "--group", "lge_mr", "--out", tmp_path / "joined")
    assert code == 0 and "still to be measured" in told
    assert ModelPack.load(tmp_path / "joined").version == "2.0"
    assert "no group 'pet'" in one_sentence(
        run(*arguments, "--group", "pet", "--out", tmp_path / "other")
    )
