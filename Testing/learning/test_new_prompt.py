"""Prompts of one's own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from packs import THYMUS
from versemi import tasks as registry
from versemi.cli import main
from versemi.errors import InputError
from versemi.learning.newprompt import NOTHING, add_prompt, free_label
from versemi.modelpack import ModelPack, write_pack
from versemi.network import NetworkSettings, build_network
from versemi.tasks import TASKS, adopt

pytestmark = pytest.mark.usefixtures("registry_as_it_was")


@pytest.fixture
def parent(tiny_pack):
    return ModelPack.load(tiny_pack)


def logits(pack, prompts):
    network = pack.build_network()
    image = torch.rand(1, 1, 32, 32, 32, generator=torch.Generator().manual_seed(3))
    index = torch.tensor([network.prompts.index(p) for p in prompts])
    with torch.inference_mode():
        return network(image, index).numpy()


def test_the_old_prompts_answer_as_before(parent, tmp_path):
    made = add_prompt(parent, THYMUS, tmp_path / "pack", beside="ct")
    prompts = [*parent.task_ids, "foreground"]
    assert np.array_equal(logits(made, prompts), logits(parent, prompts))
    assert made.task_ids == (*parent.task_ids, "thymus")
    assert made.manifest.parent == "tiny 0.0.1"


def test_every_network_of_a_pack_whose_groups_have_parted_gets_the_prompt(parent, tmp_path):
    moved = parent.build_network()
    with torch.no_grad():
        moved.rows += 0.5
    networks = parent.build_networks().after(["lge_mr"], moved, parent.manifest.groups)
    parted = write_pack(tmp_path / "parted", networks, parent.manifest)
    made = add_prompt(
        parted, THYMUS, tmp_path / "pack", beside="ct", like="spleen"
    ).build_networks()
    for group in ("ct", "lge_mr"):
        before, after = parted.build_network(group), made.of(group)
        assert after.prompts == (*before.prompts[:-1], "thymus", "foreground")
        assert torch.equal(after.rows[:-2], before.rows[:-1])
        assert torch.equal(after.rows[-2], before.rows[before.prompts.index("spleen")])
    assert made.names() == {"lge_mr": "lge_mr"}
    assert made.of("ct-thymus") is made.shared


def test_it_is_a_group_of_its_own_prepared_as_the_one_beside_it(parent, tmp_path):
    groups = parent.manifest.groups
    made = add_prompt(parent, THYMUS, tmp_path / "pack", beside="ct")
    assert made.manifest.groups == {**groups, "ct-thymus": replace(groups["ct"], coarse=0.0)}
    networks = parent.build_networks()
    networks = networks.after(["ct"], parent.build_network(), groups)
    parted = write_pack(tmp_path / "parted", networks, parent.manifest)
    made = add_prompt(parted, THYMUS, tmp_path / "both", beside="ct")
    # Where the other group has left the shared network, the new one begins with what it has.
    assert made.network_of("ct-thymus") == made.network_of("ct") == "ct+ct-thymus"


def test_it_starts_from_what_was_asked_for(parent, tmp_path):
    spleen = add_prompt(parent, THYMUS, tmp_path / "a", beside="ct", like="spleen")
    assert np.array_equal(logits(spleen, ["thymus"]), logits(parent, ["spleen"]))
    fresh = add_prompt(parent, THYMUS, tmp_path / "b", beside="ct", like=NOTHING)
    assert not np.array_equal(logits(fresh, ["thymus"]), logits(parent, ["foreground"]))


def test_in_a_pack_without_foreground_it_starts_from_nothing(parent, tmp_path):
    old = parent.build_network()
    settings = NetworkSettings(
        prompts=parent.task_ids, backbone="residual-unet-small", features=old.features
    )
    network = {**parent.manifest.network, **settings.to_json()}
    torch.manual_seed(0)
    plain = write_pack(
        tmp_path / "plain", build_network(settings), replace(parent.manifest, network=network)
    )
    made = add_prompt(plain, THYMUS, tmp_path / "pack", beside="ct")
    assert made.build_network().prompts == (*plain.task_ids, "thymus")
    assert made.manifest.training["added"] == {"prompt": "thymus", "like": NOTHING}
    assert np.array_equal(logits(made, plain.task_ids), logits(plain, plain.task_ids))


def test_a_process_that_has_never_heard_of_it_learns_of_it_from_the_pack(parent, tmp_path):
    add_prompt(parent, THYMUS, tmp_path / "pack", beside="ct")
    del TASKS["thymus"]
    loaded = ModelPack.load(tmp_path / "pack")
    assert loaded.tasks[-1] == THYMUS
    assert registry.get_task("thymus").color == (10, 200, 30)


def test_names_labels_groups_and_beginnings_that_do_not_fit_are_refused(parent, tmp_path):
    for task, beside, words in (
        (replace(THYMUS, id="spleen"), "ct", "has a prompt 'spleen' already"),
        (replace(THYMUS, label=5), "ct", "belongs to 'liver'"),
        (replace(THYMUS, label=99), "ct", "are 100 to 254"),
        (replace(THYMUS, group="ct"), "ct", "has a group 'ct' already"),
        (THYMUS, "pet", "no group 'pet'"),
    ):
        with pytest.raises(InputError, match=words):
            add_prompt(parent, task, tmp_path / "pack", beside=beside)
    with pytest.raises(InputError, match="no prompt 'heart'"):
        add_prompt(parent, THYMUS, tmp_path / "pack", beside="ct", like="heart")
    assert not (tmp_path / "pack").exists()


def test_labels_are_handed_out_one_after_the_other():
    assert free_label() == 100
    adopt(THYMUS)
    assert free_label([101]) == 102


def run(*arguments):
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    return ended.value.code


def test_the_command_adds_a_prompt_that_the_list_then_shows(tiny_pack, tmp_path, capsys):
    out = tmp_path / "pack"
    slicers = "Some list~SCT^123037004^Anatomical Structure~SCT^9875009^Thymus~^^~Other~^^~^^"
    options = ["--terminology", slicers, "--color", "#0AC81E", "--pack", str(tiny_pack)]
    options += ["--keep", "largest", "--modality", "CT", "--out", str(out)]
    assert run("tasks", "add", "Thymus", *options) == 0
    made = ModelPack.load(out)
    assert made.tasks[-1] == THYMUS and made.settings("thymus").keep == "largest"
    capsys.readouterr()
    assert run("tasks", "--pack", str(out)) == 0
    assert "thymus" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (["Thymus", "--modality", "MR"], "Say with --group"),
        (["Thymus", "--color", "red"], "not of the form #RRGGBB"),
        (["Thymus", "--terminology", "SCT^1^A"], "needs a category and a type"),
        (["Thymus", "--terminology", "SCT-1-A~SCT-2-B"], "not of the form scheme"),
        (["123"], "gives no identifier"),
        (["Liver"], "has a prompt 'liver' already"),
    ],
)
def test_what_is_wrong_with_the_command_is_one_sentence(tiny_pack, tmp_path, capsys, change, words):
    given = {
        "--terminology": "SCT^123037004^Anatomical Structure~SCT^9875009^Thymus",
        "--modality": "CT",
        "--pack": str(tiny_pack),
        "--out": str(tmp_path / "pack"),
    }
    given |= dict(zip(change[1::2], change[2::2], strict=True))
    options = [text for pair in given.items() for text in pair]
    assert run("tasks", "add", change[0], *options) == 2
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1
    assert not (tmp_path / "pack").exists()
