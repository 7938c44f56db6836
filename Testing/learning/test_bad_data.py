"""Data and disks that training cannot go on with: each is one sentence, and nothing is lost."""

from __future__ import annotations

import errno
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from commands import one_sentence
from versemi.errors import InputError, OutputError
from versemi.learning import cache
from versemi.learning.configuration import load_settings
from versemi.learning.run import train
from versemi.learning.sources import build_sources, case_lists
from versemi.preprocessing import DEFAULT_GROUPS


@pytest.fixture
def livers(small_data: Path, tmp_path: Path) -> Path:
    """A user's own data set."""
    folder = shutil.copytree(small_data / "ct", tmp_path / "my livers é")
    table = {"order": ["ct_0", "ct_1", "ct_2"], "labels": {"1": "liver", "2": "right kidney"}}
    (folder / "dataset.json").write_text(json.dumps(table))
    return folder


@pytest.fixture
def refused(run, tmp_path):
    """Train on a folder, and give the sentence that says why that cannot be."""

    def refused(folder: Path, *more: object) -> str:
        out = tmp_path / "run"
        sentence = one_sentence(run("train", "--data", folder, "--out", out, *more))
        assert not list(out.glob("*.ckpt"))
        return sentence

    return refused


def rewritten(path: Path, change) -> None:
    image = sitk.ReadImage(str(path))
    values = change(sitk.GetArrayFromImage(image))
    changed = sitk.GetImageFromArray(values)
    changed.SetSpacing(image.GetSpacing())
    sitk.WriteImage(changed, str(path))


def test_a_folder_without_labels_or_without_a_table_of_them_is_refused(livers, refused):
    (livers / "dataset.json").unlink()
    assert "has no table of labels" in refused(livers)
    (livers / "dataset.json").write_text(json.dumps({"labels": {"1": "liver"}}))
    shutil.rmtree(livers / "labelsTr")
    sentence = refused(livers)
    assert "no labelled case to train on (4 scans, 0 label maps" in sentence
    assert "add label maps to labelsTr" in sentence
    shutil.rmtree(livers / "imagesTr")
    assert "no scan in imagesTr" in refused(livers)


def test_a_label_without_its_image_is_refused(livers, refused):
    (livers / "imagesTr" / "ct_1.nii.gz").unlink()
    sentence = refused(livers)
    assert "ct_1.nii.gz has no scan of its name" in sentence and "take the label away" in sentence


def test_a_label_on_another_grid_is_refused_with_both_sizes(livers, refused):
    rewritten(livers / "labelsTr" / "ct_1.nii.gz", lambda values: values[1:])
    sentence = refused(livers)
    assert "ct_1.nii.gz lies on another grid" in sentence
    assert "(48, 48, 39) against (48, 48, 40)" in sentence


def test_a_label_value_that_the_table_does_not_know_is_refused(livers, refused):
    rewritten(livers / "labelsTr" / "ct_2.nii.gz", lambda values: values * 3)
    sentence = refused(livers)
    assert "ct_2.nii.gz has the value 3" in sentence and "(1, 2)" in sentence
    rewritten(livers / "labelsTr" / "ct_2.nii.gz", lambda values: (values / 6).astype(np.float32))
    assert "has the value 0.5" in refused(livers)


def test_a_scan_with_a_voxel_that_is_no_number_is_refused_by_name(livers, refused):
    def spoil(values):
        values[3, 4, 5] = np.nan
        return values

    rewritten(livers / "imagesTr" / "ct_1.nii.gz", spoil)
    sentence = refused(livers)
    assert "ct_1.nii.gz" in sentence and "not a number (NaN)" in sentence


def test_one_case_too_few_to_train_on_is_refused(small_config, small_data, tmp_path):
    entry = {**load_settings(small_config).sources[0]}
    assert case_lists({**entry, "measure": {"last": 0}}, small_data).measured == ()
    assert len(case_lists({**entry, "measure": {"last": 2}}, small_data).labelled) == 1
    with pytest.raises(InputError, match=r"no labelled case .* 3 kept for measuring"):
        build_sources([{**entry, "measure": {"last": 3}}], small_data, tmp_path, unlabelled=False)


def test_a_case_to_measure_on_that_is_missing_is_told_at_once(small_config, small_data):
    entry = {**load_settings(small_config).sources[0], "measure": ["ct_2", "ct_7"]}
    with pytest.raises(InputError, match="no scan of the case ct_7"):
        case_lists(entry, small_data)


# The cache --------------------------------------------------------------------------------------


def prepared(data: Path, folder: Path) -> cache.CachedCase:
    scan, label = (data / "ct" / part / "ct_0.nii.gz" for part in ("imagesTr", "labelsTr"))
    group = DEFAULT_GROUPS["ct"]
    return cache.cached_case("ct_0", scan, label, {1: 5, 2: 6}, group, 1.0, folder)


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["image.npy", "labels.npy", "checksums.json"])
@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(path.read_bytes()[:-10]),
        lambda path: path.write_bytes(b""),
        Path.unlink,
    ],
    ids=["cut short", "emptied", "gone"],
)
def test_a_damaged_entry_of_the_cache_is_made_again(small_data, tmp_path, name, damage):
    case = prepared(small_data, tmp_path)
    image, labels = np.array(case.image), np.array(case.labels)
    damage(case.folder / name)
    again = prepared(small_data, tmp_path)
    assert again.folder == case.folder
    assert np.array_equal(again.image, image) and np.array_equal(again.labels, labels)


def test_an_entry_with_one_wrong_bit_is_made_again_and_a_whole_one_is_not(small_data, tmp_path):
    case = prepared(small_data, tmp_path)
    written = (case.folder / "image.npy").stat().st_mtime_ns
    image = np.array(case.image)
    prepared(small_data, tmp_path)
    assert (case.folder / "image.npy").stat().st_mtime_ns == written
    flip_a_bit(case.folder / "image.npy")
    assert np.array_equal(prepared(small_data, tmp_path).image, image)


def test_a_full_disk_is_one_sentence_and_leaves_no_half_entry(small_data, tmp_path, monkeypatch):
    for error in (
        OSError(errno.ENOSPC, "No space left on device"),
        # What numpy says of it.
        OSError("4608 requested and 96 written"),
    ):

        def full(path, array, error=error):
            Path(path).write_bytes(b"half")
            raise error

        with monkeypatch.context() as patched:
            patched.setattr(cache.np, "save", full)
            with pytest.raises(OutputError, match=r"\((No space|4608 req).*make room") as caught:
                prepared(small_data, tmp_path / "cache")
        assert "None" not in str(caught.value)
        assert list((tmp_path / "cache").iterdir()) == []
    assert prepared(small_data, tmp_path / "cache").labelled


# The settings -----------------------------------------------------------------------------------


def test_a_crop_that_the_network_cannot_halve_is_told_at_once(small_data, small_config, tmp_path):
    settings = load_settings(small_config)
    odd = ({**settings.sources[0], "crop": [16, 40, 32]}, *settings.sources[1:])
    with pytest.raises(InputError, match=r"crop of ct is 16 x 40 x 32 voxels.*multiples of 16"):
        train(
            replace(settings, sources=odd),
            small_data,
            tmp_path / "run",
            cache=tmp_path / "cache",
            device="cpu",
        )


# The checkpoint ---------------------------------------------------------------------------------


def test_a_damaged_checkpoint_is_one_sentence_and_stays(small_data, small_config, tmp_path):
    broken = tmp_path / "run" / "last.ckpt"
    broken.parent.mkdir()
    broken.write_bytes(b"PK half of a checkpoint")
    with pytest.raises(InputError, match=r"last.ckpt is damaged; take it away"):
        train(
            load_settings(small_config),
            small_data,
            tmp_path / "run",
            cache=tmp_path / "cache",
            device="cpu",
        )
    assert broken.read_bytes() == b"PK half of a checkpoint"
