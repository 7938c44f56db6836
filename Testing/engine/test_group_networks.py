"""A pack whose groups have parted: who answers with which network, and what the file keeps."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import SimpleITK as sitk
import torch
from test_inference import scan

from versemi.errors import PackError
from versemi.inference import Segmenter
from versemi.manifest import INT8, MANIFEST, PRECISION, WEIGHTS
from versemi.modelpack import ModelPack, write_pack
from versemi.network import GroupNetworks

EVERY = ("ct", "lge_mr", "t1_mr")


@pytest.fixture(scope="module")
def base(tiny_pack):
    return ModelPack.load(tiny_pack)


def moved(pack, by=0.5):
    network = pack.build_network()
    with torch.no_grad():
        network.rows += by
    return network


def same(one, other):
    theirs = other.state_dict()
    return all(torch.equal(value, theirs[key]) for key, value in one.state_dict().items())


def test_a_group_leaves_the_network_that_others_still_need_and_replaces_one_that_none_does(base):
    first, second, third = (moved(base, by) for by in (0.1, 0.2, 0.3))
    shared = GroupNetworks(base.build_network())
    atria = shared.after(["lge_mr"], first, EVERY)
    assert atria.own == {"lge_mr": first} and atria.of("ct") is shared.shared
    again = atria.after(["lge_mr"], second, EVERY)
    assert again.own == {"lge_mr": second}
    both = again.after(["ct", "t1_mr"], third, EVERY)
    assert both.shared is third and both.own == {"lge_mr": second}
    assert both.each() == (third, second)


def test_groups_that_learnt_together_have_one_network_until_one_learns_alone(base):
    first, second = moved(base, 0.1), moved(base, 0.2)
    pair = GroupNetworks(base.build_network()).after(["ct", "t1_mr"], first, EVERY)
    assert pair.names() == {"ct": "ct+t1_mr", "t1_mr": "ct+t1_mr"}
    parted = pair.after(["ct"], second, EVERY)
    assert parted.names() == {"ct": "ct", "t1_mr": "t1_mr"}
    assert parted.of("t1_mr") is first and parted.of("ct") is second


def test_a_pack_keeps_the_networks_of_its_groups_and_who_shares_them(base, tmp_path):
    networks = base.build_networks().after(["ct"], moved(base), base.manifest.groups)
    pack = write_pack(tmp_path / "pack", networks, base.manifest)
    assert pack.digest != base.digest
    assert (pack.network_of("ct"), pack.network_of("lge_mr")) == ("ct", "")
    assert same(pack.build_network("lge_mr"), base.build_network())
    expected = write_pack(tmp_path / "alone", moved(base), base.manifest)
    assert same(pack.build_network("ct"), expected.build_network())
    again = write_pack(tmp_path / "again", pack.build_networks(), pack.manifest)
    assert again.digest == pack.digest and again.manifest == pack.manifest
    # Together again, it is a pack as any other.
    one = write_pack(tmp_path / "one", pack.build_network(), pack.manifest)
    assert one.manifest == base.manifest and one.digest == base.digest


def test_earlier_versions_read_packs_of_one_network_and_refuse_those_of_several(base, tmp_path):
    networks = base.build_networks().after(["ct"], moved(base), base.manifest.groups)
    several = write_pack(tmp_path / "several", networks, base.manifest)
    one = write_pack(tmp_path / "one", networks.shared, base.manifest)
    small = write_pack(tmp_path / "small", networks.shared, in_eight_bits(base.manifest))
    packs = (several, one, small)
    assert [json.loads((p.path / MANIFEST).read_text())["format"] for p in packs] == [2, 1, 3]


def in_eight_bits(manifest):
    return replace(manifest, network={**manifest.network, PRECISION: INT8})


def test_weights_in_eight_bits_take_half_the_room_and_answer_nearly_the_same(base, tmp_path):
    networks = base.build_networks().after(["ct"], moved(base), base.manifest.groups)
    half = write_pack(tmp_path / "half", networks, base.manifest)
    small = write_pack(tmp_path / "small", networks, in_eight_bits(base.manifest))
    sizes = [(p.path / WEIGHTS).stat().st_size for p in (small, half)]
    assert sizes[0] < 0.6 * sizes[1]
    assert small.network_of("ct") == "ct"
    image = torch.rand(1, 1, 32, 32, 32, generator=torch.Generator().manual_seed(3))
    index = torch.arange(3)
    for group in ("ct", "lge_mr"):
        with torch.inference_mode():
            exact, rough = (p.build_network(group)(image, index) for p in (half, small))
        assert 0 < (exact - rough).norm() < 0.05 * exact.norm()
    # Packed once more, as when a group learns, what has not changed is the same to the bit.
    again = write_pack(tmp_path / "again", small.build_networks(), small.manifest)
    assert again.digest == small.digest and again.manifest == small.manifest


def test_a_network_that_the_weights_lack_is_refused(base, tmp_path):
    manifest = replace(base.manifest, network={**base.manifest.network, "features": 4})
    networks = base.build_networks().after(["ct"], moved(base), base.manifest.groups)
    pack = write_pack(tmp_path / "pack", networks, manifest)
    with pytest.raises(PackError, match="do not fit the network"):
        pack.build_networks()
    pack = write_pack(tmp_path / "pack", networks, base.manifest)
    lost = {**pack.manifest.network, "own": {"ct": "t1_mr"}}
    lacking = replace(pack, manifest=replace(pack.manifest, network=lost))
    with pytest.raises(PackError, match="t1_mr"):
        lacking.build_networks()


def test_every_prompt_is_answered_by_the_network_of_its_group(base, tmp_path):
    networks = base.build_networks().after(["ct"], moved(base), base.manifest.groups)
    pack = write_pack(tmp_path / "pack", networks, base.manifest)
    alone = write_pack(tmp_path / "alone", moved(base), base.manifest)
    before, after, learnt = (Segmenter(p, "cpu", search=False) for p in (base, pack, alone))

    def seen(segmenter, prompt):
        found = segmenter.segment(scan(), [prompt]).probability(prompt)
        return sitk.GetArrayFromImage(found)

    assert (seen(after, "left_atrium") == seen(before, "left_atrium")).all()
    assert (seen(after, "spleen") == seen(learnt, "spleen")).all()
    assert (seen(after, "spleen") != seen(before, "spleen")).any()
