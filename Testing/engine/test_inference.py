"""The segmenter: geometry, what it keeps, and what it refuses. Weights here are random."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from versemi.errors import Cancelled, InputError
from versemi.geometry import Roi
from versemi.inference import Segmenter
from versemi.inference import segmenter as module
from versemi.inference.device import Compute, choose
from versemi.inference.features import FeatureVolume
from versemi.inference.localise import clean, region_of
from versemi.modelpack import ModelPack


def scan(size=(60, 50, 40), spacing=(2.0, 2.0, 3.0), seed=0, kind="CT"):
    """A smooth random scan."""
    rng = np.random.default_rng(seed)
    small = sitk.GetImageFromArray(rng.normal(size=(6, 7, 8)).astype(np.float32))
    image = sitk.Expand(small, [10, 10, 10], sitk.sitkLinear)[: size[0], : size[1], : size[2]]
    array = sitk.GetArrayFromImage(image)
    array = array * 300 - 100 if kind == "CT" else array * 100 + 500
    image = sitk.GetImageFromArray(array.astype(np.float32))
    image.SetSpacing(spacing)
    image.SetOrigin([-50.0, -40.0, 10.0])
    return image


@pytest.fixture(scope="module")
def pack(tiny_pack):
    return ModelPack.load(tiny_pack)


@pytest.fixture
def segmenter(pack):
    return Segmenter(pack, "cpu")


def windows_of(segmenter, monkeypatch):
    """Count the windows that are computed from now on."""
    counted = []
    run = FeatureVolume._run

    def counting(self, number):
        counted.append(number)
        run(self, number)

    monkeypatch.setattr(FeatureVolume, "_run", counting)
    return counted


def test_the_label_map_lies_on_the_scans_own_grid_and_holds_only_asked_labels(segmenter):
    image = scan()
    result = segmenter.segment(image, ["spleen", "liver"])
    assert result.label_map.GetSize() == image.GetSize()
    assert result.label_map.GetSpacing() == image.GetSpacing()
    assert result.label_map.GetOrigin() == image.GetOrigin()
    assert set(np.unique(sitk.GetArrayViewFromImage(result.label_map))) <= {0, 3, 5}
    assert [task.id for task in result.tasks] == ["spleen", "liver"]


def test_the_order_of_voxels_in_memory_changes_no_answer(pack, monkeypatch):
    answers = []
    for last in (True, False):
        monkeypatch.setattr(Compute, "channels_last", last)
        result = Segmenter(pack, "cpu").segment(scan(seed=3), ["spleen"])
        answers.append(sitk.GetArrayFromImage(result.probability("spleen")))
    assert answers[0].max() > 0
    assert np.allclose(*answers, atol=0.01)


def test_a_voxel_goes_to_the_most_probable_prompt_above_one_half(segmenter):
    image = scan(seed=3)
    asked = ["spleen", "liver", "aorta"]
    result = segmenter.segment(image, asked)
    labels = sitk.GetArrayFromImage(result.label_map)
    stack = np.stack([sitk.GetArrayFromImage(result.probability(t.id)) for t in result.tasks])
    values = np.array([t.label for t in result.tasks])
    expected = np.where(stack.max(axis=0) > 0.5, values[stack.argmax(axis=0)], 0)
    assert (labels == expected).mean() > 0.9999
    volume = (labels == 5).sum() * np.prod(image.GetSpacing()) / 1000
    assert result.volumes_ml["liver"] == pytest.approx(volume)


def test_the_order_of_the_questions_changes_nothing(pack):
    image = scan(size=(60, 60, 60), spacing=(4.0, 4.0, 4.0))
    together = Segmenter(pack, "cpu").segment(image, ["spleen", "liver"])
    later = Segmenter(pack, "cpu")
    later.segment(image, ["liver"])
    after = later.segment(image, ["spleen"])
    for first in (together,):
        a = sitk.GetArrayFromImage(first.probability("spleen"))
        b = sitk.GetArrayFromImage(after.probability("spleen"))
        assert np.array_equal(a, b)


def test_another_prompt_in_a_computed_region_computes_no_window(segmenter, monkeypatch):
    image = scan()
    segmenter.segment(image, ["spleen"])
    counted = windows_of(segmenter, monkeypatch)
    segmenter.segment(image, ["liver"])
    assert counted == []


def test_editing_the_volume_drops_what_was_kept(segmenter, monkeypatch):
    image = scan()
    segmenter.segment(image, ["spleen"])
    image[3, 4, 5] = 17.0
    counted = windows_of(segmenter, monkeypatch)
    segmenter.segment(image, ["spleen"])
    assert counted != []
    assert len({key[0] for key in segmenter._kept}) == 1


def test_moving_the_volume_or_the_region_drops_what_was_kept(segmenter, monkeypatch):
    image = scan()
    segmenter.segment(image, ["spleen"])
    counted = windows_of(segmenter, monkeypatch)
    image.SetOrigin([0.0, 0.0, 0.0])
    segmenter.segment(image, ["spleen"])
    first = len(counted)
    assert first > 0
    segmenter.segment(image, ["spleen"], roi=Roi.from_bounds((-90, -20, -70, -10, 10, 80)))
    assert len(counted) > first


def test_ten_idle_minutes_drop_what_was_kept(segmenter, monkeypatch):
    monkeypatch.setattr(module, "IDLE_SECONDS", 0.05)
    segmenter.segment(scan(), ["spleen"])
    timer = segmenter._timer
    timer.join(5.0)
    assert segmenter._kept == {}


def test_stitched_features_equal_monais_sliding_window_inferer(pack):
    from monai.inferers import sliding_window_inference

    network = pack.build_network()
    rng = np.random.default_rng(1)
    array = rng.uniform(-1, 1, size=(40, 48, 56)).astype(np.float32)
    compute = choose("cpu")
    compute = type(compute)(compute.device, None)
    volume = FeatureVolume(array, network, compute, (32, 32, 32), 0.25)
    whole = (slice(0, 40), slice(0, 48), slice(0, 56))
    volume.compute([whole], lambda done, total: None, lambda: False)
    stitched = (volume._sum.float() / volume._weight)[:, :40, :48, :56]
    with torch.inference_mode():
        expected = sliding_window_inference(
            torch.from_numpy(volume._array)[None, None],
            (32, 32, 32),
            1,
            lambda x: network.encode(x)[0],
            overlap=0.25,
            mode="gaussian",
            sigma_scale=0.125,
        )[0, :, :40, :48, :56]
    assert torch.allclose(stitched, expected, atol=0.02)


def test_a_scan_smaller_than_a_window_simply_works(segmenter):
    image = scan(size=(5, 7, 4), spacing=(1.0, 1.0, 1.0))
    result = segmenter.segment(image, ["spleen"])
    assert result.label_map.GetSize() == image.GetSize()


def test_whole_windows_put_a_small_scan_amid_air_and_shrunk_ones_do_not(pack):
    network, compute = pack.build_network(), choose("cpu")
    array = np.random.default_rng(0).uniform(-0.5, 1, size=(20, 34, 50)).astype(np.float32)
    shrunk = FeatureVolume(array, network, compute, (48, 48, 48), 0.25)
    assert shrunk.window == (32, 48, 48)
    whole = FeatureVolume(array, network, compute, (48, 48, 48), 0.25, whole_windows=True)
    assert whole.window == (48, 48, 48)
    assert np.array_equal(whole._array[14:34, 7:41], array)
    assert (whole._array[:14] == -1).all() and (whole._array[34:] == -1).all()


def test_air_around_the_body_changes_nothing(segmenter):
    body = sitk.Clamp(scan(), sitk.sitkFloat32, -90.0, 250.0)
    # A whole number of the group's voxels (4 mm) on each side, so that the grids coincide.
    wide = sitk.ConstantPad(body, [16, 16, 16], [16, 16, 16], -1000.0)
    prompts = ["spleen", "liver", "pancreas"]
    plain, padded = (segmenter.segment(i, prompts, modality="CT").label_map for i in (body, wide))
    inside = sitk.GetArrayViewFromImage(padded)[16:-16, 16:-16, 16:-16]
    assert inside.any()
    assert np.array_equal(inside, sitk.GetArrayViewFromImage(plain))


def test_nothing_is_labelled_outside_an_oblique_region(segmenter):
    image = scan()
    s = float(np.sqrt(0.5))
    roi = Roi((0.0, 0.0, 60.0), ((s, s, 0.0), (-s, s, 0.0), (0.0, 0.0, 1.0)), (60.0, 40.0, 50.0))
    result = segmenter.segment(image, list(segmenter.pack.task_ids[:6]), roi=roi)
    labels = sitk.GetArrayFromImage(result.label_map)
    assert labels.any()
    for z, y, x in np.argwhere(labels)[::50]:
        point = np.array(image.TransformIndexToPhysicalPoint([int(x), int(y), int(z)]))
        assert roi.contains_lps(point)


def test_a_region_outside_the_scan_is_refused(segmenter):
    with pytest.raises(InputError, match="lies outside the scan"):
        segmenter.segment(scan(), ["spleen"], roi=Roi.from_bounds((500, 510, 0, 5, 0, 5)))


@pytest.mark.parametrize(
    ("tasks", "words"),
    [([], "No task prompt"), (["spline"], "no task prompt 'spline'"), (["foreground"], "never")],
)
def test_a_prompt_that_cannot_be_asked_is_refused(segmenter, tasks, words):
    with pytest.raises(InputError, match=words):
        segmenter.segment(scan(), tasks)


def test_an_mr_under_a_ct_prompt_is_a_warning_and_not_a_refusal(segmenter):
    result = segmenter.segment(scan(kind="MR"), ["spleen"])
    assert any("looks like MR" in warning for warning in result.warnings)
    assert segmenter.segment(scan(), ["spleen"], modality="CT").warnings == []


def test_cancelling_stops_between_windows_and_the_next_run_goes_on(segmenter, monkeypatch):
    image = scan(size=(60, 60, 60), spacing=(4.0, 4.0, 4.0))
    counted = windows_of(segmenter, monkeypatch)
    with pytest.raises(Cancelled):
        segmenter.segment(image, ["lung_tumour"], cancel=lambda: len(counted) >= 3)
    stopped = len(counted)
    segmenter.segment(image, ["lung_tumour"])
    assert 3 <= stopped < len(counted)
    assert len(set(counted[-5:])) == 5


def test_progress_rises_to_one_and_says_what_is_done(segmenter):
    told = []
    segmenter.segment(scan(), ["spleen", "left_atrium"], progress=lambda f, s: told.append((f, s)))
    fractions = [fraction for fraction, _ in told]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert any("window" in sentence for _, sentence in told)


def test_out_of_memory_means_smaller_windows_and_says_so(pack, monkeypatch):
    segmenter = Segmenter(pack, "cpu", search=False)
    run = FeatureVolume._run
    sizes = []

    def hungry(self, number):
        sizes.append(self.window)
        if min(self.window) > 32:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        run(self, number)

    monkeypatch.setattr(FeatureVolume, "_run", hungry)
    group = segmenter.pack.manifest.groups["ct"]
    larger = type(group)(**{**group.to_json(), "window": (64, 64, 64), "spacing": (1.5, 1.5, 1.5)})
    monkeypatch.setitem(segmenter.pack.manifest.groups, "ct", larger)
    result = segmenter.segment(scan(), ["spleen"])
    assert sizes[0] == (64, 64, 64)
    assert sizes[-1] == (32, 32, 32)
    assert any("Memory ran out" in warning for warning in result.warnings)


def test_memory_that_never_suffices_is_one_sentence(segmenter, monkeypatch):
    def hungry(self, number):
        raise MemoryError

    monkeypatch.setattr(FeatureVolume, "_run", hungry)
    with pytest.raises(InputError, match="Memory ran out on the CPU"):
        segmenter.segment(scan(), ["spleen"])


def test_uncertainty_lies_between_zero_and_one_on_the_scans_grid(segmenter):
    image = scan()
    doubt = segmenter.segment(image, ["spleen"]).uncertainty()
    values = sitk.GetArrayFromImage(doubt)
    assert doubt.GetSize() == image.GetSize()
    assert values.min() >= 0 and values.max() <= 1.0001
    assert values.std() > 0


def test_a_device_that_is_not_there_is_refused():
    with pytest.raises(InputError, match="no device 'tpu'"):
        choose("tpu")
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="'cuda' is not available"):
            choose("cuda")


def test_the_coarse_pass_keeps_what_it_sees_with_a_margin_and_drops_specks():
    from versemi.geometry import Grid

    coarse = Grid((0.0, 0.0, 0.0), (4.0, 4.0, 4.0), (20, 20, 20))
    fine = Grid((-1.0, -1.0, -1.0), (2.0, 2.0, 2.0), (40, 40, 40))
    probability = np.zeros(coarse.shape, dtype=np.float32)
    probability[8:12, 8:12, 8:12] = 0.9
    probability[1, 1, 1] = 0.3
    z, y, x = region_of(probability, coarse, fine, margin=8.0)
    assert (z.start, z.stop) == (12, 28)
    assert region_of(probability * 0.1, coarse, fine, 8.0) is None


def test_clean_up_keeps_the_largest_component_or_those_that_are_large_enough():
    probability = np.zeros((10, 10, 10), dtype=np.float32)
    probability[0:4, 0:4, 0:4] = 0.9
    probability[6:8, 6:8, 6:8] = 0.8
    probability[9, 9, 9] = 0.7
    largest = clean(probability.copy(), "largest", 0.0, 0.001)
    assert (largest > 0.5).sum() == 64
    large = clean(probability.copy(), "all", 0.005, 0.001)
    assert (large > 0.5).sum() == 72


def test_inference_imports_no_training_code():
    import subprocess
    import sys

    code = (
        "import sys, versemi.inference, versemi.worker; "
        "bad = [m for m in sys.modules if m.startswith(('versemi.learning', 'lightning'))]; "
        "assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
