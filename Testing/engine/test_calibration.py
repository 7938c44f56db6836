"""Calibration and what the uncertainty map is worth."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK as sitk

from versemi.calibration import (
    Calibration,
    errors_findable,
    errors_found,
    expected_calibration_error,
    near_surface,
)
from versemi.geometry import Grid
from versemi.inference.evidence import Evidence
from versemi.tasks import TASKS


def evidence_of(spleen, foreground=None):
    """One prompt's answer, ``(z, y, x)``, and what *foreground* says."""
    return Evidence(
        grid=Grid((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), spleen.shape[::-1]),
        asked=("spleen",),
        prompts=("spleen",),
        probabilities=spleen[None].astype(np.float32),
        foreground=None if foreground is None else foreground.astype(np.float32),
        bottleneck=np.zeros(3, dtype=np.float32),
    )


@pytest.mark.parametrize(
    ("probability", "foreground", "doubt"),
    [
        (0.5, None, 1.0),
        (0.9, None, 0.468996),
        (0.9, 0.9, 0.468996),
        (1.0, 0.5, 0.75),  # sure, but half a gap: 1 - (1 - 0) * 0.5^2
        (0.9, 0.5, 1 - (1 - 0.468996) * 0.6**2),
    ],
)
def test_uncertainty_joins_entropy_and_gap(probability, foreground, doubt):
    everywhere = np.full((5, 6, 7), 1.0)
    part = evidence_of(
        everywhere * probability, None if foreground is None else everywhere * foreground
    )
    assert part.uncertainty() == pytest.approx(everywhere * doubt, abs=1e-4)
    assert part.uncertainty().dtype == np.float32


def test_a_voxel_unlike_its_surroundings_is_less_certain_than_one_like_them():
    lone = np.zeros((9, 9, 9))
    lone[4, 4, 4] = 0.95
    like = np.full((9, 9, 9), 0.95)
    alone, among = (evidence_of(p).uncertainty()[4, 4, 4] for p in (lone, like))
    assert alone > among + 0.02


def test_a_probability_that_keeps_its_word_has_almost_no_error():
    rng = np.random.default_rng(0)
    probability = rng.uniform(0, 1, 200_000)
    truth = rng.uniform(0, 1, 200_000) < probability
    assert expected_calibration_error(probability, truth) < 0.01


def test_an_overconfident_one_is_off_by_what_it_promises_too_much():
    probability = np.full(1000, 0.95)
    truth = np.arange(1000) < 700
    assert expected_calibration_error(probability, truth) == pytest.approx(0.25)


def test_errors_are_found_where_uncertainty_lies_on_them_and_by_chance_otherwise():
    wrong = np.zeros(1000, dtype=bool)
    wrong[:50] = True
    assert errors_found(wrong.astype(float), wrong) == 1.0
    assert errors_found(1.0 - wrong, wrong) == 0.0
    noise = np.random.default_rng(0).uniform(size=100_000)
    some = np.arange(100_000) % 7 == 0
    assert errors_found(noise, some) == pytest.approx(0.05, abs=0.01)
    assert errors_found(noise, np.zeros(100_000, dtype=bool)) is None


def test_equally_uncertain_voxels_find_what_chance_finds_wherever_they_lie():
    wrong = np.zeros(1000, dtype=bool)
    wrong[:100] = True
    assert errors_found(np.ones(1000), wrong) == pytest.approx(0.05)
    assert errors_found(np.ones(1000), wrong[::-1]) == pytest.approx(0.05)
    assert errors_findable(wrong) == errors_found(wrong.astype(float), wrong) == 0.5
    # 40 voxels are more uncertain, 20 of them wrong; 10 of the other 960 still count.
    some = np.zeros(1000)
    some[80:120] = 1
    assert errors_found(some, wrong) == pytest.approx((20 + 80 * 10 / 960) / 100)


def test_the_band_is_ten_millimetres_wide_on_both_sides_whatever_the_spacing():
    mask = np.zeros((20, 60, 60), dtype=bool)
    mask[:, :, 30:] = True
    near = near_surface(mask, (2.0, 1.0, 5.0))
    columns = np.flatnonzero(near[10, 30])
    assert columns.min() == 25 and columns.max() >= 34
    assert not near[10, 30, 20] and not near[10, 30, 40]


def image(array):
    result = sitk.GetImageFromArray(array)
    result.SetSpacing((1.0, 1.0, 1.0))
    return result


def test_cases_add_up_to_a_report():
    liver = TASKS["liver"].label
    reference = np.zeros((30, 30, 30), dtype=np.uint8)
    reference[10:20, 10:20, 10:20] = 1
    labels = np.zeros_like(reference)
    labels[10:20, 10:20, 10:22] = liver
    wrong = (labels == liver) != (reference == 1)
    probability = np.where(labels == liver, 0.9, 0.05).astype(np.float32)
    result = SimpleNamespace(
        label_map=image(labels),
        probability=lambda prompt: image(probability),
        uncertainty=lambda: image(wrong.astype(np.float32)),
        # Of the 5% most uncertain voxels, none is wrong.
        entropy=lambda: image(1 - wrong.astype(np.float32)),
    )
    collected = Calibration({"liver": 1, "spleen": 2})
    collected.add(result, reference)
    report = collected.report()
    assert report["errors_found"] == 1.0
    assert report["errors_found_by_entropy"] == 0.0
    assert report["errors_findable"] == 1.0
    assert 0 < report["ece"]["liver"] < 0.2
    assert report["ece"]["spleen"] is None
