"""Metrics against shapes worked out by hand, against MONAI, and the rules for empty masks."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from versemi.errors import InputError
from versemi.evaluation import (
    Scores,
    evaluate,
    find_cases,
    score,
    surface_distances,
    write_report,
)
from versemi.tasks import TASKS


def box(z: slice, y: slice, x: slice, shape=(20, 20, 20)) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[z, y, x] = True
    return mask


def brute_force(first, second, spacing) -> tuple[np.ndarray, np.ndarray]:
    """Surface distances from every pair of surface voxels."""

    def surface(mask):
        padded = np.pad(mask, 1)
        inside = padded.copy()
        for axis in range(3):
            for step in (-1, 1):
                inside &= np.roll(padded, step, axis)
        return np.argwhere(padded & ~inside) * np.array(spacing[::-1])

    a, b = surface(first), surface(second)
    pairs = np.linalg.norm(a[:, None] - b[None], axis=-1)
    return pairs.min(1), pairs.min(0)


def test_two_equal_masks_are_perfect():
    mask = box(slice(3, 9), slice(4, 8), slice(5, 7))
    assert score(mask, mask, (1, 2, 3)) == Scores(1, 1, 0, 0, "both_present")


def test_single_voxels_are_as_far_apart_as_their_spacing_says():
    first = box(slice(2, 3), slice(2, 3), slice(2, 3))
    second = box(slice(4, 5), slice(5, 6), slice(6, 7))
    result = score(first, second, (0.5, 2.0, 3.0))
    expected = math.sqrt((4 * 0.5) ** 2 + (3 * 2.0) ** 2 + (2 * 3.0) ** 2)
    assert result.dice == 0 and result.jaccard == 0
    assert result.hd95_mm == pytest.approx(expected, rel=1e-6)
    assert result.assd_mm == pytest.approx(expected, rel=1e-6)


def test_a_slab_shifted_along_the_coarse_axis_is_off_by_that_spacing():
    # 10x10 plates of one slice, two slices of 5 mm apart: every surface voxel is 10 mm away.
    first = box(slice(4, 5), slice(0, 10), slice(0, 10))
    second = box(slice(6, 7), slice(0, 10), slice(0, 10))
    result = score(first, second, (1, 1, 5))
    assert result.hd95_mm == pytest.approx(10) and result.assd_mm == pytest.approx(10)


def test_overlap_of_half_shifted_boxes_is_as_counted_by_hand():
    first = box(slice(0, 4), slice(0, 4), slice(0, 4))
    second = box(slice(0, 4), slice(0, 4), slice(2, 6))
    result = score(first, second, (1, 1, 1))
    assert result.dice == pytest.approx(0.5) and result.jaccard == pytest.approx(1 / 3)


def test_the_percentile_is_the_larger_of_the_two_directions():
    large = box(slice(0, 1), slice(0, 1), slice(0, 20))
    small = box(slice(0, 1), slice(0, 1), slice(0, 2))
    # From the small one all distances are 0; from the large one 0, 0, 1, ..., 18.
    expected = np.percentile([0, 0, *range(1, 19)], 95)
    assert score(large, small, (1, 1, 1)).hd95_mm == pytest.approx(expected)
    assert score(small, large, (1, 1, 1)).hd95_mm == pytest.approx(expected)
    assert score(small, large, (1, 1, 1)).assd_mm == pytest.approx(sum(range(1, 19)) / 22)


def test_a_cavity_has_a_surface_too():
    full = box(slice(0, 9), slice(0, 9), slice(0, 9))
    hollow = full.copy()
    hollow[4, 4, 4] = False
    assert score(hollow, full, (1, 1, 1)).assd_mm > 0


@pytest.mark.parametrize("swap", [False, True])
def test_empty_masks_follow_the_stated_rule(swap):
    mask, empty = box(slice(3, 9), slice(4, 8), slice(5, 7)), np.zeros((20, 20, 20), bool)
    assert score(empty, empty, (1, 1, 1)) == Scores(None, None, None, None, "both_empty")
    pair = (mask, empty) if swap else (empty, mask)
    outcome = "false_positive" if swap else "missed"
    assert score(*pair, (1, 1, 1)) == Scores(0, 0, None, None, outcome)


masks = st.integers(0, 2**32 - 1).map(lambda seed: np.random.default_rng(seed))


@settings(max_examples=40, deadline=None)
@given(
    rng=masks,
    density=st.sampled_from([0.02, 0.2, 0.7, 0.95]),
    spacing=st.tuples(*[st.floats(0.3, 6)] * 3),
)
def test_surface_distances_are_exact_on_any_masks_and_spacing(rng, density, spacing):
    first, second = rng.random((2, 6, 7, 8)) < density
    assume(first.any() and second.any())
    for ours, theirs in zip(
        surface_distances(first, second, spacing), brute_force(first, second, spacing), strict=True
    ):
        assert np.allclose(np.sort(ours), np.sort(theirs), atol=1e-4)


def test_the_numbers_agree_with_monai_on_smooth_shapes():
    torch = pytest.importorskip("torch")
    from monai.metrics import (
        compute_average_surface_distance,
        compute_dice,
        compute_hausdorff_distance,
        compute_iou,
    )

    z, y, x = np.ogrid[:24, :40, :44]
    spacing = (0.7, 1.1, 2.5)
    first = ((z - 12) * 2.5) ** 2 + ((y - 19) * 1.1) ** 2 + ((x - 22) * 0.7) ** 2 < 11**2
    second = ((z - 11) * 2.5) ** 2 + ((y - 22) * 1.0) ** 2 + ((x - 20) * 0.8) ** 2 < 12**2
    ours = score(first, second, spacing)
    a, b = (torch.from_numpy(m)[None, None] for m in (first, second))
    mm = list(spacing[::-1])
    assert ours.dice == pytest.approx(float(compute_dice(a, b)), rel=1e-5)
    assert ours.jaccard == pytest.approx(float(compute_iou(a, b)), rel=1e-5)
    hd95 = compute_hausdorff_distance(a, b, True, percentile=95, spacing=mm)
    assert ours.hd95_mm == pytest.approx(float(hd95), rel=1e-4)
    assd = compute_average_surface_distance(a, b, True, symmetric=True, spacing=mm)
    assert ours.assd_mm == pytest.approx(float(assd), rel=1e-4)


# Whole folders ----------------------------------------------------------------------------------


class ThresholdSegmenter:
    """Calls spleen what is brighter than 100, and finds nothing else."""

    pack = SimpleNamespace(name="threshold", version="0")
    device = "cpu"

    def __init__(self) -> None:
        self.calls: list[tuple[list[str], str | None]] = []

    def segment(self, image, tasks, *, roi=None, modality=None, progress=None, cancel=None):
        self.calls.append((tasks, modality))
        if progress:
            progress(0.5, "Looking")
        values = (sitk.GetArrayFromImage(image) > 100) * np.uint8(TASKS["spleen"].label)
        labels = sitk.GetImageFromArray(values.astype(np.uint8))
        labels.CopyInformation(image)
        return SimpleNamespace(label_map=labels, warnings=["a warning"])


def save(path: Path, mask: np.ndarray, scale: int, *, spacing=(1.0, 1.0, 2.0)) -> None:
    image = sitk.GetImageFromArray((mask * scale).astype(np.int16))
    image.SetSpacing(spacing)
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path))


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """Three cases: found exactly, found half, and one with neither label nor find of spleen."""
    whole = box(slice(2, 6), slice(2, 6), slice(2, 6))
    half = box(slice(2, 6), slice(2, 6), slice(4, 8))
    speck = box(slice(9, 10), slice(9, 10), slice(9, 10))
    save(tmp_path / "imagesTr" / "a.nii.gz", whole, 200)
    save(tmp_path / "labelsTr" / "a.nii.gz", whole, 5)
    save(tmp_path / "imagesTr" / "b_0000.nii.gz", half, 200)
    save(tmp_path / "labelsTr" / "b.nii.gz", whole, 5)
    save(tmp_path / "imagesTr" / "c.nii.gz", speck, 50)
    save(tmp_path / "labelsTr" / "c.nii.gz", speck, 6)
    save(tmp_path / "imagesTr" / "unlabelled.nii.gz", whole, 200)
    return tmp_path


def test_cases_are_found_by_their_label_with_and_without_nnunets_suffix(library):
    cases = find_cases(library)
    assert [case.name for case in cases] == ["a", "b", "c"]
    assert [case.image.name for case in cases] == ["a.nii.gz", "b_0000.nii.gz", "c.nii.gz"]
    assert [case.name for case in find_cases(library, ["c", "a"])] == ["c", "a"]


def test_a_folder_is_measured_case_by_case_and_in_all(library):
    segmenter, seen = ThresholdSegmenter(), []
    report = evaluate(
        segmenter,
        find_cases(library),
        {"spleen": 5, "liver": 6},
        progress=lambda fraction, message: seen.append((fraction, message)),
    )
    assert segmenter.calls == [(["spleen", "liver"], "CT")] * 3
    spleen = [row for row in report["cases"] if row["task"] == "spleen"]
    assert [row["case"] for row in spleen] == ["a", "b", "c"]
    assert [row["dice"] for row in spleen] == [1, 0.5, None]
    assert [row["outcome"] for row in spleen] == ["both_present", "both_present", "both_empty"]
    assert spleen[0]["volume_ml"] == pytest.approx(64 * 2 / 1000)
    summary = report["tasks"]["spleen"]
    assert summary["dice"] == 0.75 and summary["cases"] == 3 and summary["both_empty"] == 1
    assert report["tasks"]["liver"]["missed"] == 1
    assert report["tasks"]["liver"]["dice"] == 0 and report["tasks"]["liver"]["hd95_mm"] is None
    assert report["mean"]["dice"] == pytest.approx(0.375)
    assert report["pack"]["name"] == "threshold" and report["device"] == "cpu"
    assert "both_empty" in report["rule"] and report["warnings"][0] == "a: a warning"
    assert seen[0] == (pytest.approx(1 / 6), "a: Looking") and len(seen) == 3


def test_prompts_of_several_modalities_leave_the_modality_open(library):
    segmenter = ThresholdSegmenter()
    evaluate(segmenter, find_cases(library), {"spleen": 5, "left_atrium": 6})
    assert segmenter.calls[0][1] is None


def test_the_report_is_json_without_nan(library, tmp_path):
    report = evaluate(ThresholdSegmenter(), find_cases(library), {"spleen": 5})
    path = write_report(report, tmp_path / "out" / "report.json")
    assert json.loads(path.read_text()) == json.loads(json.dumps(report))
    assert json.loads(path.read_text())["cases"][2]["dice"] is None


def refusal(call, *arguments) -> str:
    with pytest.raises(InputError) as caught:
        call(*arguments)
    assert "\n" not in str(caught.value) and str(caught.value).endswith(".")
    return str(caught.value)


def test_a_folder_that_is_no_library_is_refused(library, tmp_path):
    assert "no folder" in refusal(find_cases, tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    assert "imagesTr" in refusal(find_cases, tmp_path / "empty")
    (tmp_path / "empty" / "imagesTr").mkdir()
    assert "labelsTr" in refusal(find_cases, tmp_path / "empty")
    (tmp_path / "empty" / "labelsTr").mkdir()
    assert "no label map" in refusal(find_cases, tmp_path / "empty")
    assert "no case z" in refusal(find_cases, library, ["z"])
    (library / "imagesTr" / "a.nii.gz").unlink()
    assert "a.nii.gz has no image" in refusal(find_cases, library)


def test_a_label_on_another_grid_is_refused(library):
    mask = box(slice(2, 6), slice(2, 6), slice(2, 6))
    save(library / "labelsTr" / "a.nii.gz", mask, 5, spacing=(1, 1, 2.5))
    sentence = refusal(evaluate, ThresholdSegmenter(), find_cases(library), {"spleen": 5})
    assert "1 x 1 x 2.5 against 1 x 1 x 2 mm" in sentence
    save(library / "labelsTr" / "a.nii.gz", mask[1:], 5)
    assert "(20, 20, 19)" in refusal(
        evaluate, ThresholdSegmenter(), find_cases(library), {"spleen": 5}
    )


def test_a_label_value_that_no_case_has_is_refused_before_anything_runs(library):
    segmenter = ThresholdSegmenter()
    sentence = refusal(evaluate, segmenter, find_cases(library), {"liver": 6, "spleen": 9})
    assert "value 9" in sentence and "spleen" in sentence
    assert segmenter.calls == []
