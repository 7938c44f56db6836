"""What the losses of fine-tuning ask for, and of what."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from finetuning import fill, image, make_parent, only, phantom, tiny_networks

from versemi.caselibrary import CaseLibrary
from versemi.learning.data import SampleDataset
from versemi.learning.finetuning.course import interpolate
from versemi.learning.finetuning.material import material_of
from versemi.learning.finetuning.objective import METHODS, Objective, distance
from versemi.learning.finetuning.sources import sources_of
from versemi.learning.methods import MethodSettings, Networks
from versemi.tasks import TASKS


@pytest.fixture(scope="module", autouse=True)
def quick():
    with tiny_networks():
        yield


@pytest.fixture(scope="module")
def pack(tmp_path_factory):
    return make_parent(tmp_path_factory.mktemp("objective") / "parent", steps=0)


def samples(pack, folder, cache, *, unlabelled=True, count=4):
    material = material_of(folder, pack)
    sources = sources_of(
        material, material.corrected, pack, cache, unlabelled=unlabelled, check=lambda: None
    )
    dataset = SampleDataset(
        sources,
        pack.build_network().prompts,
        steps=count,
        samples=1,
        seed=3,
        synthetic=0.25,
        unlabelled=unlabelled,
    )
    return [dataset[i] for i in range(count)]


def losses(pack, sample, student=None, prompts=("liver",), done=1.0, **settings):
    parent = pack.build_network()
    student = student or copy.deepcopy(parent)
    objective = Objective(prompts, **settings)
    return objective.losses(Networks(student, copy.deepcopy(student)), parent, sample, done)


def test_the_parent_itself_neither_forgets_nor_drifts(pack, tmp_path):
    fill(tmp_path / "library", 1, 1)
    for sample in samples(pack, tmp_path / "library", tmp_path / "cache"):
        found = losses(pack, sample)
        assert found["anchor"] == 0
        assert abs(found["distillation"].item()) < 1e-5
        assert found["prompts"] > 0.1


def test_an_answer_that_strays_from_the_parents_costs_and_one_that_is_learnt_does_not(
    pack, tmp_path
):
    fill(tmp_path / "library", 1, 1)
    sample = samples(pack, tmp_path / "library", tmp_path / "cache", count=1)[0]
    prompts = pack.build_network().prompts

    def strayed(prompt):
        student = pack.build_network()
        with torch.no_grad():
            student.rows[prompts.index(prompt), -1] += 3.0
        return {name: v.item() for name, v in losses(pack, sample, student).items()}

    assert strayed("right_kidney")["distillation"] > 0.5
    assert strayed("liver")["distillation"] == pytest.approx(0, abs=1e-5)
    assert strayed("liver")["anchor"] == pytest.approx(0.01 / 2 * 9.0, rel=1e-3)


def test_the_moving_average_speaks_late_and_the_parent_from_the_start(pack, tmp_path):
    fill(tmp_path / "library", 1, 1)
    sample = samples(pack, tmp_path / "library", tmp_path / "cache", count=1)[0]
    method = MethodSettings(begin=0.5)
    led = {"pseudo_labels", "consistency"}
    early = set(losses(pack, sample, done=0.4, method=method))
    assert "distillation" in early and not led & early
    assert led < set(losses(pack, sample, done=0.6, method=method))
    # Of a group with no other prompt there is nothing to hold.
    alone = ("liver", "right_kidney")
    early = set(losses(pack, sample, prompts=alone, done=0.4, method=method))
    assert early == {"prompts", "foreground", "anchor"}
    late = set(losses(pack, sample, prompts=alone, done=0.6, method=method))
    assert led < late and "distillation" not in late


def test_a_pack_without_foreground_is_led_by_the_moving_average_alone(tmp_path):
    plain = make_parent(tmp_path / "plain", steps=0, foreground=False)
    fill(tmp_path / "library", 1, 1)
    sample = samples(plain, tmp_path / "library", tmp_path / "cache", count=1)[0]
    found = set(losses(plain, sample))
    assert {"prompts", "distillation", "pseudo_labels"} < found
    assert not {"foreground", "mixed_foreground", "consistency"} & found


def test_labels_only_looks_at_no_scan_without_its_label(pack, tmp_path):
    fill(tmp_path / "library", 1, 1)
    given = samples(pack, tmp_path / "library", tmp_path / "cache", unlabelled=False)
    for sample in given:
        assert sample.unlabelled is None
        names = {"prompts", "foreground", "separation", "anchor"}
        assert set(losses(pack, sample)) == names
    assert {name for s in given for name in s.labelled.names[0].split(" with ")} == {"case_0"}


def test_noise_under_prompts_that_a_label_does_not_cover_changes_nothing(pack, tmp_path):
    library = CaseLibrary.create(tmp_path / "library")
    values, labels = phantom(0)
    scan = image(values.astype(np.int16))
    both = ("liver", "right_kidney")
    library.add(scan, name="a", modality="CT", labels=image(only(labels, both)), prompts=both)
    noisy = CaseLibrary.create(tmp_path / "noisy")
    wild = only(labels, ["liver"])
    wild[:6, :, 20:] = TASKS["right_kidney"].label
    noisy.add(scan, name="a", modality="CT", labels=image(wild), prompts=both)

    def seen(folder):
        material = material_of(folder, pack, ["liver"])
        (source,) = sources_of(
            material,
            material.corrected,
            pack,
            tmp_path / f"cache {folder.name}",
            unlabelled=True,
            check=lambda: None,
        )
        assert source.prompts == ("liver",)
        return np.asarray(source.cases[0].labels)

    assert np.array_equal(seen(library.folder), seen(noisy.folder))
    assert set(np.unique(seen(noisy.folder))) == {0, TASKS["liver"].label}


def test_cases_that_cover_different_prompts_are_sources_of_their_own(pack, tmp_path):
    library = fill(tmp_path / "library", 1, 1)
    values, labels = phantom(7)
    kidney = ("right_kidney",)
    library.add(
        image(values.astype(np.int16)),
        name="z",
        modality="CT",
        labels=image(only(labels, kidney)),
        prompts=kidney,
    )
    material = material_of(library.folder, pack)
    first, second = sources_of(
        material,
        material.corrected,
        pack,
        tmp_path / "cache",
        unlabelled=True,
        check=lambda: None,
    )
    assert (first.prompts, second.prompts) == (("liver",), kidney)
    assert [c.name for c in first.unlabelled] == ["case_0", "case_1"]
    assert [c.name for c in second.unlabelled] == ["z", "case_1"]


def test_halfway_lies_halfway(pack):
    parent, tuned = pack.build_network(), pack.build_network()
    with torch.no_grad():
        for weight in tuned.parameters():
            weight.add_(0.5)
    whole = distance(tuned, parent).item()
    half = distance(interpolate(parent, tuned, 0.5), parent).item()
    assert half == pytest.approx(whole / 4, rel=1e-3)
    assert distance(interpolate(parent, tuned, 1.0), tuned).item() == 0


def test_only_a_new_prompts_own_voxels_count_once_more():
    new, known = (
        Objective.of(("liver",), "versemi", new=n, alone=False).method for n in (True, False)
    )
    assert new.supervision(0.0)["own"] > 0 == known.supervision(0.0)["own"]
    assert new.supervision(1.0)["own"] == 0


def test_what_a_run_does_with_a_scan_without_its_label_depends_on_its_method(pack, tmp_path):
    def of(method, alone=False):
        return Objective.of(("liver",), method, new=False, alone=alone)

    assert [of(m).unlabelled for m in METHODS] == [True, True, False]
    # Where there is nothing to hold, only VerSemi looks at one.
    assert [of(m, alone=True).unlabelled for m in METHODS] == [False, True, False]
    fill(tmp_path / "library", 1, 1)
    sample = samples(pack, tmp_path / "library", tmp_path / "cache", count=1)[0]
    held = set(losses(pack, sample, led=of("distillation").led))
    taught = set(losses(pack, sample, led=of("versemi").led))
    assert "distillation" in held and taught - held == {"pseudo_labels", "consistency"}
