"""What a library teaches to a pack, and what it does not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from packs import THYMUS, make_pack
from versemi.caselibrary import CaseLibrary
from versemi.errors import InputError
from versemi.learning.finetuning.material import material_of, new_prompts
from versemi.learning.finetuning.measuring import agreement_cases, other_prompts
from versemi.learning.finetuning.split import split
from versemi.modelpack import ModelPack
from versemi.tasks import TASKS

pytestmark = pytest.mark.usefixtures("registry_as_it_was")


@pytest.fixture
def pack(tmp_path):
    prompts = ("left_atrium", "spleen", "liver")
    return ModelPack.load(make_pack(tmp_path / "pack", prompts=prompts))


@pytest.fixture
def library(tmp_path):
    return CaseLibrary.create(tmp_path / "library")


def add(library: CaseLibrary, name: str, *prompts: str, modality: str = "CT") -> None:
    low, high = (-100, 200) if modality == "CT" else (0, 900)
    values = np.random.default_rng(len(library.cases())).integers(low, high, (4, 5, 6))
    scan = sitk.GetImageFromArray(values.astype(np.int16))
    labels = np.zeros((4, 5, 6), np.uint8)
    for plane, prompt in enumerate(prompts):
        labels[plane] = library.tasks[prompt].label
    made = sitk.GetImageFromArray(labels)
    library.add(
        scan, name=name, modality=modality, labels=made if prompts else None, prompts=prompts
    )


def test_by_default_all_that_some_corrected_case_covers_is_learnt(library, pack):
    add(library, "a", "liver")
    add(library, "b", "spleen", "liver")
    add(library, "c")
    found = material_of(library.folder, pack)
    assert found.prompts == ("spleen", "liver")
    assert [(c.case.id, c.prompts) for c in found.corrected] == [
        ("a", ("liver",)),
        ("b", ("spleen", "liver")),
    ]
    assert [case.id for case in found.unlabelled] == ["c"] and found.notes == ()


def test_groups_that_have_parted_learn_one_at_a_time(library, pack):
    add(library, "a", "left_atrium", modality="MR")
    add(library, "b", "spleen")
    add(library, "c", "spleen")
    together = material_of(library.folder, pack)
    assert together.groups == ("ct", "lge_mr") and together.notes == ()
    manifest = replace(pack.manifest, network={"own": {"lge_mr": "lge_mr"}})
    parted = replace(pack, manifest=manifest)
    found = material_of(library.folder, parted)
    assert found.prompts == ("spleen",) and "left_atrium; learn them in a run" in found.notes[0]
    assert [c.case.id for c in found.corrected] == ["b", "c"]
    with pytest.raises(
        InputError,
        match="together, for their groups have networks of their own, .*; learn one after",
    ):
        material_of(library.folder, parted, ["left_atrium", "spleen"])
    assert material_of(library.folder, parted, ["left_atrium"]).groups == ("lge_mr",)


def test_a_prompt_of_ones_own_never_learns_together_with_those_beside_it(tmp_path):
    made = ModelPack.load(make_pack(tmp_path / "own", prompts=("spleen", "liver"), own=(THYMUS,)))
    library = CaseLibrary.create(tmp_path / "own prompts", tasks={**TASKS, THYMUS.id: THYMUS})
    add(library, "a", "thymus")
    add(library, "b", "spleen", "thymus")
    add(library, "c", "liver")
    found = material_of(library.folder, made)
    assert found.prompts == ("spleen", "liver") and "thymus; learn them" in found.notes[0]
    assert material_of(library.folder, made, ["thymus"]).groups == ("ct-thymus",)
    with pytest.raises(InputError, match="thymus and spleen cannot learn together"):
        material_of(library.folder, made, ["thymus", "spleen"])
    # As soon as it has a network of its own, that decides.
    own = replace(made.manifest, network={"own": {"ct-thymus": "ct-thymus"}})
    assert material_of(library.folder, replace(made, manifest=own), ["thymus"]).notes == ()


def test_a_case_whose_label_covers_nothing_that_is_learnt_is_unlabelled(library, pack):
    add(library, "a", "liver")
    add(library, "b", "spleen")
    found = material_of(library.folder, pack, ["spleen"])
    assert [c.case.id for c in found.corrected] == ["b"]
    assert [case.id for case in found.unlabelled] == ["a"]


def test_scans_of_another_modality_are_left_out_and_named(library, pack):
    add(library, "a", "liver")
    add(library, "heart", modality="MR")
    found = material_of(library.folder, pack)
    assert found.unlabelled == ()
    (note,) = found.notes
    assert "no CT" in note and "heart" in note


def test_an_empty_library_and_one_without_corrections_are_refused(library, pack):
    with pytest.raises(InputError, match=r"no corrected case \(0 without a label\)"):
        material_of(library.folder, pack)
    add(library, "a")
    with pytest.raises(InputError, match=r"no corrected case \(1 without a label\); correct"):
        material_of(library.folder, pack)


def test_a_library_of_a_newer_version_is_refused(library, pack):
    add(library, "a", "liver")
    marker = library.folder / "library.json"
    marker.write_text(json.dumps({**json.loads(marker.read_text()), "format": 99}))
    with pytest.raises(InputError, match="format 99, and this version reads up to 1; update"):
        material_of(library.folder, pack)


def test_a_prompt_that_no_case_covers_is_refused(library, pack):
    add(library, "a", "liver")
    with pytest.raises(InputError, match=r"covers the prompt 'spleen'; covered are liver\."):
        material_of(library.folder, pack, ["spleen"])


@pytest.mark.parametrize("prompt", ["pancreas", "nose"])
def test_a_prompt_that_the_pack_does_not_know_is_refused_with_the_way_to_add_it(
    library, pack, prompt
):
    add(library, "a", "liver")
    with pytest.raises(
        InputError, match=f"does not know the prompt '{prompt}'.*'versemi tasks add'"
    ):
        material_of(library.folder, pack, [prompt])


def test_a_library_of_nothing_but_unknown_prompts_is_refused(library, pack):
    add(library, "a", "pancreas")
    with pytest.raises(InputError, match="does not know the prompt 'pancreas'"):
        material_of(library.folder, pack)


def test_unknown_prompts_beside_known_ones_are_left_out_and_named(library, pack):
    add(library, "a", "pancreas", "liver")
    found = material_of(library.folder, pack)
    assert found.prompts == ("liver",)
    assert "pancreas" in found.notes[0] and "versemi tasks add" in found.notes[0]


def test_an_added_prompt_is_new_until_it_is_measured(tmp_path):
    added = {"added": {"prompt": "thymus", "like": "foreground"}}
    fresh = make_pack(tmp_path / "fresh", own=(THYMUS,), training=added)
    known = make_pack(tmp_path / "known", own=(THYMUS,), training=added, dice=0.7)
    assert new_prompts(ModelPack.load(fresh)) == {"thymus"}
    assert new_prompts(ModelPack.load(known)) == frozenset()


def test_scans_that_were_never_learnt_from_are_compared_first(library, pack):
    for number in range(8):
        add(library, f"a{number}", "liver")
    add(library, "b")
    found = material_of(library.folder, pack)
    chosen = agreement_cases(found, split(found.corrected), pack, 4)
    assert [case.id for case in chosen] == ["a3", "a7", "b", "a0"]
    assert other_prompts(found, pack, chosen[0]) == ("spleen",)


def test_nothing_is_compared_where_no_other_prompt_is_of_the_group(library, tmp_path):
    only = ModelPack.load(make_pack(tmp_path / "one", prompts=("left_atrium", "liver")))
    add(library, "a", "liver")
    found = material_of(Path(library.folder), only)
    assert agreement_cases(found, split(found.corrected), only, 4) == []


def test_a_pack_that_learnt_a_prompt_in_another_group_is_not_tuned_for_it(library, pack):
    add(library, "a", "spleen")
    earlier = replace(pack.settings("spleen"), task=replace(TASKS["spleen"], group="lge_mr"))
    prompts = tuple(earlier if p.task.id == "spleen" else p for p in pack.manifest.prompts)
    older = replace(pack, manifest=replace(pack.manifest, prompts=prompts))
    with pytest.raises(InputError, match="as the group 'lge_mr'.*learns it as 'ct'"):
        material_of(library.folder, older)
