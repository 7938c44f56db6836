"""What a training step sees."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from versemi.errors import InputError
from versemi.learning.augmentation import GeometryRange, cut, random_affine
from versemi.learning.configuration import (
    build_sources,
    load_settings,
    measuring_cases,
    training_cases,
)
from versemi.learning.data import RUN, StepDataset


@pytest.fixture(scope="module")
def dataset(small_data, small_config, tmp_path_factory):
    settings = load_settings(small_config)
    sources = build_sources(settings, small_data, tmp_path_factory.mktemp("cache"))
    return StepDataset(sources, steps=settings.steps, seed=settings.seed, mix=settings.mix)


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


def test_a_step_depends_on_seed_and_number_alone(dataset):
    first = dataset[3]
    dataset[5]
    torch.manual_seed(99)
    np.random.seed(99)
    again = dataset[3]
    for a, b in zip(first, again, strict=True):
        assert torch.equal(a.image, b.image)
        assert a.prompts == b.prompts
        assert torch.equal(a.runs, b.runs)
        assert all(torch.equal(x.values, y.values) for x, y in zip(a.labels, b.labels, strict=True))


def test_a_step_has_two_sources_and_asks_foreground_first(dataset):
    for step in range(6):
        batches = dataset[step]
        assert len(batches) == 2
        for batch in batches:
            assert batch.image.min() >= -1 and batch.image.max() <= 1
            assert all(asked[0] == "foreground" and len(asked) > 1 for asked in batch.prompts)
            assert len(batch.runs) * RUN <= batch.image[0].numel()


def test_some_steps_are_mixed_and_know_where_their_parts_came_from(dataset):
    mixed = [b.labels[0] for i in range(6) for b in dataset[i] if len(b.labels[0].covered) == 2]
    assert mixed
    assert all(set(labels.part.unique().tolist()) == {0, 1} for labels in mixed)


def test_measuring_cases_are_never_trained_on(small_config, small_data):
    for source in load_settings(small_config).sources:
        held = measuring_cases(source, small_data)
        assert held
        assert not set(held) & set(training_cases(source, small_data))


def test_the_shipped_run_reads_and_knows_every_prompt():
    settings = load_settings()
    assert len(settings.prompts) == 18
    assert settings.prompts[-1] == "foreground"


def test_settings_with_an_unknown_prompt_or_a_missing_value_are_refused(tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text("seed: 1\nsources: [{labels: {1: spline}}]\n")
    with pytest.raises(InputError, match="spline"):
        load_settings(path)
    path.write_text("seed: 1\n")
    with pytest.raises(InputError, match="sources"):
        load_settings(path)


def test_a_case_without_its_label_is_named(small_config, small_data, tmp_path):
    import shutil

    data = shutil.copytree(small_data, tmp_path / "data")
    (data / "ct" / "labelsTr" / "ct_0.nii.gz").unlink()
    with pytest.raises(InputError, match="ct_0.nii.gz is missing"):
        build_sources(load_settings(small_config), data, tmp_path / "cache")
