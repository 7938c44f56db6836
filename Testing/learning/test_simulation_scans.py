"""Shifted scans, labels that stay unknown, and how cases come into a library."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from simulated import StandIn, write_data

from versemi.errors import InputError
from versemi.evaluation import find_cases
from versemi.images import read_image
from versemi.learning.mixing import MixedLabels
from versemi.learning.simulation.arrival import arrive, correct, correction_order
from versemi.learning.simulation.shift import Shift, shifted_cases
from versemi.learning.simulation.training import forgotten
from versemi.tasks import TASKS

SHIFT = Shift(gamma=(0.5, 0.5), fold=(0.7, 0.7), spacing=(2.5, 2.5, 2.5), noise=(0.0, 0.0))


@pytest.fixture(scope="module")
def atria(tmp_path_factory: pytest.TempPathFactory) -> list:
    return find_cases(write_data(tmp_path_factory.mktemp("balls")) / "mr")


def ramp() -> sitk.Image:
    """Grey levels 0 to 1000, one step an axis plane."""
    values = np.broadcast_to(np.linspace(0, 1000, 101), (8, 8, 101)).astype(np.float32)
    image = sitk.GetImageFromArray(values)
    image.SetSpacing((2.5, 2.5, 2.5))
    image.SetOrigin((3.0, 4.0, 5.0))
    return image


def test_grey_levels_are_raised_and_the_bright_ones_turned_back_down():
    shifted = SHIFT.applied(ramp(), "a", 0)
    profile = sitk.GetArrayFromImage(shifted)[0, 0]
    low, high = np.percentile(np.tile(np.arange(10, 1001, 10), 64), (1.0, 99.5))
    level = (profile - low) / (high - low)
    dark = np.clip((np.linspace(0, 1000, 101) - low) / (high - low), 0, 1) ** 0.5
    assert level == pytest.approx(np.where(dark > 0.7, 1.4 - dark, dark), abs=1e-5)
    assert level[-1] == pytest.approx(0.4, abs=1e-5) and level.max() > 0.69


def test_a_shifted_scan_keeps_its_grid_and_its_type(atria):
    image = read_image(atria[0].image).image
    shifted = Shift((0.5, 0.6), (0.7, 0.8), (5.0, 5.0, 5.0), (0.05, 0.05)).applied(image, "a", 0)
    assert shifted.GetPixelID() == image.GetPixelID()
    for of in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection"):
        assert getattr(shifted, of)() == getattr(image, of)()
    assert sitk.GetArrayFromImage(shifted).min() >= sitk.GetArrayFromImage(image).min()


def test_less_resolution_smooths_and_noise_roughens():
    values = np.random.default_rng(0).normal(500, 100, (16, 16, 16)).astype(np.float32)
    image = sitk.GetImageFromArray(values)

    def rough(shift: Shift) -> float:
        return float(np.abs(np.diff(sitk.GetArrayFromImage(shift.applied(image, "a", 0)))).mean())

    flat = (1.0, 1.0)
    plain = rough(Shift(flat, flat, (1.0, 1.0, 1.0), (0.0, 0.0)))
    assert rough(Shift(flat, flat, (3.0, 3.0, 3.0), (0.0, 0.0))) < 0.5 * plain
    assert rough(Shift(flat, flat, (1.0, 1.0, 1.0), (0.2, 0.2))) > 1.2 * plain


def test_a_scan_is_shifted_by_its_name_and_always_in_the_same_way(atria, tmp_path):
    shift = Shift((0.4, 0.7), (0.6, 0.9), (4.0, 4.0, 4.0), (0.02, 0.1))
    image = read_image(atria[0].image).image

    def values(name: str, seed: int) -> np.ndarray:
        return sitk.GetArrayFromImage(shift.applied(image, name, seed))

    assert np.array_equal(values("a", 1), values("a", 1))
    assert not np.array_equal(values("a", 1), values("b", 1))
    assert not np.array_equal(values("a", 1), values("a", 2))
    made = shifted_cases(shift, atria[:2], tmp_path, 1)
    kept = {case.image: case.image.stat().st_mtime_ns for case in made}
    assert [case.label for case in made] == [case.label for case in atria[:2]]
    again = shifted_cases(shift, atria[:2], tmp_path, 1)
    assert {case.image: case.image.stat().st_mtime_ns for case in again} == kept


def test_hidden_labels_teach_neither_their_prompt_nor_foreground_nor_background():
    liver, kidney = TASKS["liver"].label, TASKS["right_kidney"].label
    values = torch.tensor([[[0, liver, kidney, 0]]], dtype=torch.uint8)
    known = forgotten(MixedLabels.plain(values, ("right_kidney",)), [liver])
    truth, sure = known.target("foreground")
    assert sure.flatten().tolist() == [True, False, True, True]
    assert truth.flatten().tolist() == [False, False, True, False]
    truth, sure = known.target("right_kidney")
    assert sure.flatten().tolist() == [True, False, True, True]
    assert "liver" not in known.prompts
    plain = MixedLabels.plain(values, ("right_kidney",))
    assert forgotten(plain, [TASKS["spleen"].label]) is plain


def test_hidden_labels_stay_hidden_in_a_mixed_crop():
    liver = TASKS["liver"].label
    other = forgotten(
        MixedLabels.plain(torch.full((1, 1, 2), liver, dtype=torch.uint8), ("spleen",)), [liver]
    )
    here = (slice(0, 1), slice(0, 1), slice(0, 2))
    base = MixedLabels.plain(torch.zeros((1, 1, 4), dtype=torch.uint8), ("left_atrium",))
    _, sure = base.with_box(here, other, here).target("foreground")
    assert sure.flatten().tolist() == [False, False, True, True]


def test_scans_arrive_unlabelled_and_corrections_come_as_the_panel_keeps_them(atria, tmp_path):
    library = arrive(tmp_path / "library", atria[:3], "MR")
    assert [case.label_path for case in library.cases()] == [None] * 3
    pack = StandIn()._pack(tmp_path, "7")
    two = [atria[2], atria[0]]
    asked = "left_atrium"
    correct(library, two, 1, asked, pack, lambda image: StandIn().answer(pack, image, asked))
    found = {case.name: case for case in library.cases()}
    assert [name for name, case in found.items() if case.prompts] == ["mr_0", "mr_2"]
    case = found["mr_0"]
    assert case.parent == "stand-in 7" and case.prompts == ("left_atrium",) and case.version == 1
    reference = sitk.GetArrayFromImage(sitk.ReadImage(str(atria[0].label)))
    kept = sitk.GetArrayFromImage(sitk.ReadImage(str(case.label_path)))
    assert np.array_equal(kept == TASKS["left_atrium"].label, reference == 1)
    assert sitk.GetArrayFromImage(sitk.ReadImage(str(case.predicted_path)))[:4].all()


def test_a_library_that_was_not_complete_is_completed_and_nothing_is_added_twice(atria, tmp_path):
    folder = tmp_path / "library"
    arrive(folder, atria[:1], "MR")
    library = arrive(folder, atria[:3], "MR")
    for _ in range(2):
        correct(library, atria[:2], 1, "left_atrium", None, lambda image: image)
    assert [(case.name, case.version) for case in library.cases()] == [
        ("mr_0", 1),
        ("mr_1", 1),
        ("mr_2", 0),
    ]


def test_only_the_asked_structure_of_a_reference_is_corrected(tmp_path):
    cases = find_cases(write_data(tmp_path / "balls") / "ct")[:1]
    library = arrive(tmp_path / "library", cases, "CT")
    correct(library, cases, 1, "liver", None, lambda image: image)
    kept = sitk.GetArrayFromImage(sitk.ReadImage(str(library.cases()[0].label_path)))
    assert set(np.unique(kept)) == {0, TASKS["liver"].label}
    assert library.cases()[0].parent is None and library.cases()[0].predicted_path is None


def test_an_order_stays_once_it_was_made(atria, tmp_path):
    names = [case.name for case in atria]
    first = correction_order(tmp_path / "r", atria, None, lambda: names[::-1])
    assert first == names[::-1]
    assert correction_order(tmp_path / "r", atria, None, lambda: names) == first
    random = correction_order(tmp_path / "0", atria, 0, lambda: names)
    assert sorted(random) == sorted(names) and random != names
    assert random != correction_order(tmp_path / "1", atria, 1, lambda: names)
    with pytest.raises(InputError, match="orders other cases than arrive"):
        correction_order(tmp_path / "0", atria[:3], 0, lambda: names)


def test_a_shift_that_is_no_range_is_refused():
    good = {"gamma": [1, 1], "fold": [1, 1], "spacing": [1, 1, 1], "noise": [0, 0]}
    assert Shift.from_settings(good).spacing == (1.0, 1.0, 1.0)
    for wrong in ({"gamma": [2, 1]}, {"noise": [0]}, {"spacing": [1, 1]}):
        with pytest.raises(ValueError):
            Shift.from_settings({**good, **wrong})
