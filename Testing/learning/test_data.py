"""What a training step sees."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from versemi.errors import InputError
from versemi.learning import cache
from versemi.learning.augmentation import GeometryRange, cut, random_affine
from versemi.learning.configuration import load_settings
from versemi.learning.data import RUN, SampleDataset
from versemi.learning.sources import build_sources, case_lists
from versemi.preprocessing import DEFAULT_GROUPS


@pytest.fixture(scope="module")
def dataset(small_data, small_config, tmp_path_factory):
    settings = load_settings(small_config)
    cache = tmp_path_factory.mktemp("cache")
    return SampleDataset(
        build_sources(settings.sources, small_data, cache, unlabelled=True),
        settings.prompts,
        steps=6,
        samples=2,
        seed=settings.seed,
        synthetic=0.5,
        unlabelled=True,
    )


def test_a_crop_without_augmentation_is_a_slice_of_the_scan():
    rng = np.random.default_rng(0)
    image = rng.uniform(-1, 1, (30, 40, 50)).astype(np.float16)
    labels = rng.integers(0, 3, (30, 40, 50)).astype(np.uint8)
    centre = np.array([15.0, 20.0, 25.0]) - 0.5
    crop, mask = cut(image, labels, centre, np.eye(3), (8, 10, 12))
    box = np.s_[11:19, 15:25, 19:31]
    assert np.allclose(crop.numpy(), image[box].astype(np.float32), atol=1e-5)
    assert np.array_equal(mask.numpy(), labels[box])


def test_outside_the_scan_is_air_and_background():
    image = np.zeros((8, 8, 8), dtype=np.float16)
    labels = np.ones((8, 8, 8), dtype=np.uint8)
    crop, mask = cut(image, labels, np.array([3.5, 3.5, 3.5]), np.eye(3), (16, 16, 16))
    assert crop[0, 0, 0] == -1 and mask[0, 0, 0] == 0
    assert crop[8, 8, 8] == 0 and mask[8, 8, 8] == 1


def test_a_flip_along_x_is_told_and_mirrors_the_crop():
    rng = np.random.default_rng(0)
    ranges = GeometryRange(probability=0.0, flips=(0.0, 0.0, 1.0))
    matrix, swapped = random_affine(rng, ranges, np.array([3.0, 2.0, 2.0]))
    assert swapped
    image = rng.uniform(-1, 1, (8, 8, 8)).astype(np.float16)
    labels = np.zeros((8, 8, 8), dtype=np.uint8)
    crop, _ = cut(image, labels, np.full(3, 3.5), matrix, (8, 8, 8))
    assert np.allclose(crop.numpy(), image[:, :, ::-1].astype(np.float32), atol=1e-3)


def test_a_rotation_is_a_rotation_in_millimetres():
    rng = np.random.default_rng(4)
    spacing = np.array([3.0, 1.0, 1.0])
    matrix, _ = random_affine(rng, GeometryRange(1.0, 30.0, 1.0, (0, 0, 0)), spacing)
    in_mm = np.diag(spacing) @ matrix @ np.diag(1 / spacing)
    assert np.allclose(in_mm @ in_mm.T, np.eye(3), atol=1e-9)


def tensors(batch):
    return [batch.image, batch.runs, *(labels.values for labels in batch.labels)]


def test_a_sample_depends_on_seed_and_number_alone(dataset):
    first = dataset[7]
    dataset[5]
    torch.manual_seed(99)
    np.random.seed(99)
    again = dataset[7]
    for a, b in (
        (first.labelled, again.labelled),
        (first.unlabelled.strong, again.unlabelled.strong),
        (first.unlabelled.mixed, again.unlabelled.mixed),
    ):
        assert all(torch.equal(x, y) for x, y in zip(tensors(a), tensors(b), strict=True))
        assert a.prompts == b.prompts and a.names == b.names
    assert torch.equal(first.unlabelled.weak, again.unlabelled.weak)


def test_the_samples_of_a_step_come_from_different_sources(dataset):
    for step in range(6):
        assert dataset[2 * step].source != dataset[2 * step + 1].source


def test_a_run_may_begin_with_labels_alone(dataset, monkeypatch):
    monkeypatch.setattr(dataset, "begin", 0.5)
    looked_at = [dataset[number].unlabelled is not None for number in range(12)]
    assert looked_at == [False] * 6 + [True] * 6


def test_a_sample_asks_foreground_first_and_reads_part_of_the_voxels(dataset):
    for number in range(6):
        sample = dataset[number]
        for batch in (sample.labelled, sample.unlabelled.mixed):
            assert batch.image.min() >= -1 and batch.image.max() <= 1
            assert all(asked[0] == "foreground" and len(asked) > 1 for asked in batch.prompts)
            assert len(batch.runs) * RUN <= batch.image[0].numel()


def test_some_labelled_crops_are_mixed_and_know_where_their_parts_came_from(dataset):
    crops = [labels for i in range(12) for labels in dataset[i].labelled.labels]
    mixed = [labels for labels in crops if len(labels.covered) == 2]
    assert mixed and len(mixed) < len(crops)
    assert all(set(labels.part.unique().tolist()) == {0, 1} for labels in mixed)


def test_a_lone_sample_of_a_step_is_mixed_with_another_source_all_the_same(dataset, monkeypatch):
    monkeypatch.setattr(dataset, "samples", 1)
    crops = [labels for i in range(6) for labels in dataset[i].labelled.labels]
    assert any(len(set(labels.covered)) == 2 for labels in crops)


def test_unlabelled_crops_keep_their_place_while_intensities_and_a_box_change(dataset):
    sample = next(s for i in range(12) if (s := dataset[i]).source == "mr")
    unlabelled = sample.unlabelled
    own = unlabelled.mixed.labels[0].part == 0
    assert 0 < own.float().mean() < 1
    strong, mixed = unlabelled.strong.image[0, 0], unlabelled.mixed.image[0, 0]
    assert torch.equal(strong[own], mixed[own])
    assert not torch.equal(strong[~own], mixed[~own])
    assert unlabelled.weak.shape == unlabelled.strong.image.shape


def with_negatives(small_config, small_data, tmp_path, more=None, **settings):
    """The small scans, with the second data set called what excludes most prompts."""
    shown = load_settings(small_config).sources[1]
    (tmp_path / "hippocampus").symlink_to(small_data / "mr", target_is_directory=True)
    entry = {**shown, "folder": "hippocampus", "labels": {1: "hippocampus_anterior"}}
    entry |= {"group": "t1_mr", "negatives": 1.0, **(more or {})}
    return SampleDataset(
        build_sources([entry], tmp_path, tmp_path / "cache", unlabelled=False),
        ("spleen", "left_atrium", "hippocampus_anterior", "hippocampus_posterior", "foreground"),
        steps=8,
        samples=1,
        seed=0,
        synthetic=0.0,
        unlabelled=False,
        **settings,
    )


def test_a_prompt_that_anatomy_excludes_is_asked_and_known_to_be_absent(
    small_config, small_data, tmp_path
):
    dataset = with_negatives(small_config, small_data, tmp_path)
    batches = [dataset[i].labelled for i in range(8)]
    asked = {prompt for batch in batches for prompt in batch.prompts[0]}
    assert {"spleen", "left_atrium"} <= asked and all(
        {"spleen", "left_atrium"} & set(batch.prompts[0]) for batch in batches
    )
    target, known = batches[0].labels[0].target("spleen")
    assert known.all() and not target.any()
    # Its sister is neither labelled there nor excluded: the background says nothing of it.
    _, known = batches[0].labels[0].target("hippocampus_posterior")
    assert torch.equal(known, batches[0].labels[0].values > 0)


def test_scans_are_also_asked_as_a_group_prepares_them_whose_prompts_they_cannot_show(
    small_config, small_data, tmp_path
):
    more = {"strange_groups": {"ct": {"crop": [16, 24, 24], "weight": 1e6}}}
    dataset = with_negatives(small_config, small_data, tmp_path, more)
    own, strange = dataset.sources
    assert strange.name == f"{own.name}_as_ct" and strange.group == "ct"
    assert [case.name for case in strange.cases] == [case.name for case in own.cases]
    # The background lies around 200, as if that were Hounsfield units within [-125, 275].
    assert np.median(strange.cases[0].image) == pytest.approx(325 / 400 * 2 - 1, abs=0.02)
    assert np.median(own.cases[0].image) < 0.3
    for batch in (dataset[i].labelled for i in range(8)):
        assert batch.prompts == [["foreground", "spleen"]]
        labels = batch.labels[0]
        assert labels.target("spleen")[1].all() and not labels.values.any()
        # Something is shown there, labelled or not.
        assert not labels.target("foreground")[1].any()


def test_a_data_set_without_labels_of_the_run_teaches_what_cannot_be_there_and_no_more(
    small_config, small_data, tmp_path
):
    more = {"labels": {}, "strange_groups": {"ct": {"crop": [16, 24, 24], "weight": 1.0}}}
    (strange,) = with_negatives(small_config, small_data, tmp_path, more).sources
    assert strange.group == "ct" and strange.prompts == () and len(strange.cases) == 2


def test_a_strange_group_whose_prompts_may_be_shown_is_refused(small_config, small_data, tmp_path):
    more = {"strange_groups": {"t1_mr": {"crop": [16, 24, 24], "weight": 1.0}}}
    with pytest.raises(InputError, match="hippocampus cannot be a stranger to the group t1_mr"):
        with_negatives(small_config, small_data, tmp_path, more)


def test_a_blank_crop_is_noise_in_which_every_prompt_is_known_to_be_absent(
    small_config, small_data, tmp_path
):
    dataset = with_negatives(small_config, small_data, tmp_path, blank=1.0)
    for batch in (dataset[i].labelled for i in range(8)):
        assert -1 <= batch.image.min() < batch.image.max() <= 1 and batch.names == ["noise"]
        labels, asked = batch.labels[0], batch.prompts[0]
        assert not labels.values.any() and len(asked) == 5
        assert all(labels.target(prompt)[1].all() for prompt in asked)


def test_measuring_cases_are_never_trained_on(small_config, small_data):
    for source in load_settings(small_config).sources:
        lists = case_lists(source, small_data)
        assert lists.measured
        assert not set(lists.measured) & {*lists.labelled, *lists.unlabelled}


def unlabelled_of(entries, data, cache):
    return {
        source.name: [case.name for case in source.unlabelled]
        for source in build_sources(entries, data, cache, unlabelled=True)
    }


def test_a_case_is_unlabelled_only_for_prompts_that_its_labels_do_not_cover(
    small_config, small_data, tmp_path
):
    ct, mr = load_settings(small_config).sources
    liver = {**ct, "name": "liver", "labels": {1: "liver"}, "coarse_weight": 0, "measure": []}
    kidney = {**liver, "name": "kidney", "labels": {2: "right_kidney"}}
    assert unlabelled_of([ct, mr], small_data, tmp_path) == {
        "ct": ["ct_bare"], "ct_coarse": ["ct_bare"], "mr": ["mr_bare"],
    }  # fmt: skip
    # Each of two data sets knows nothing of the other's prompt.
    data = shutil.copytree(small_data, tmp_path / "data")
    described = {"labels": {"1": "liver", "2": "right_kidney"}}
    (data / "ct" / "dataset.json").write_text(json.dumps(described))
    every = ["ct_0", "ct_1", "ct_2", "ct_bare"]
    assert unlabelled_of([liver, kidney], data, tmp_path) == {
        "liver": every, "kidney": every
    }  # fmt: skip


def test_the_scans_of_another_data_set_are_unlabelled_for_a_source_that_names_it(
    small_config, small_data, tmp_path
):
    ct, mr = load_settings(small_config).sources
    atria = {**mr, "labelled": ["mr_0"]}
    led = {**ct, "unlabelled_from": ["mr"]}
    fine, _, other = build_sources([led, atria], small_data, tmp_path, unlabelled=True)
    assert [case.name for case in fine.unlabelled] == ["ct_bare", "mr_0"]  # none is measured on
    assert not fine.unlabelled[1].labelled and other.cases[0].labelled
    # Prepared as the source's own scans are, not as those of the data set that it comes from.
    assert fine.unlabelled[1].image.shape != other.cases[0].image.shape
    labels_only, *_ = build_sources([led, atria], small_data, tmp_path, unlabelled=False)
    assert not labels_only.unlabelled
    for wrong in ("lungs", "ct"):
        astray = [{**ct, "unlabelled_from": [wrong]}, mr]
        for unlabelled in (True, False):
            with pytest.raises(InputError, match=f"of '{wrong}', which is no other .* are mr"):
                build_sources(astray, small_data, tmp_path, unlabelled=unlabelled)


def test_a_case_without_its_label_is_named(small_config, small_data, tmp_path):
    data = shutil.copytree(small_data, tmp_path / "data")
    (data / "ct" / "labelsTr" / "ct_0.nii.gz").unlink()
    entry = {**load_settings(small_config).sources[0], "labelled": ["ct_0"]}
    with pytest.raises(InputError, match="no label map of the case ct_0"):
        build_sources([entry], data, tmp_path / "cache", unlabelled=False)


def test_a_file_is_read_once_to_know_it_whatever_is_prepared_from_it(tmp_path, monkeypatch):
    reads: list[Path] = []

    def counting(path, mode):
        reads.append(Path(path))
        return open(path, mode)

    monkeypatch.setattr(cache, "open", counting, raising=False)
    values = np.random.default_rng(0).integers(-100, 200, (8, 9, 10)).astype(np.int16)
    scan, label = tmp_path / "scan.nrrd", tmp_path / "label.nrrd"
    sitk.WriteImage(sitk.GetImageFromArray(values), str(scan))
    sitk.WriteImage(sitk.GetImageFromArray((values > 50).astype(np.uint8)), str(label))

    def prepare(scale, label):
        group = DEFAULT_GROUPS["ct"]
        return cache.cached_case("a", scan, label, {1: 5}, group, scale, tmp_path / "cache").folder

    folders = [prepare(1.0, label), prepare(2.0, label), prepare(1.0, None), prepare(1.0, label)]
    assert len(set(folders)) == 3 and folders[0] == folders[3]
    assert sorted(reads) == [label, scan]

    sitk.WriteImage(sitk.GetImageFromArray(values[:-1]), str(scan))
    assert prepare(1.0, None) not in folders
    assert sorted(reads) == [label, scan, scan]
