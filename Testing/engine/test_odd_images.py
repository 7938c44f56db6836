"""Image files that are odd but common: told in one sentence, with nothing printed beside it."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from test_images import dicom_series, edited, noise, patched, refusal, saved

from versemi.cases import is_one_scan
from versemi.images import read_image, same_grid
from versemi.inference.device import is_out_of_memory

META = (
    b"ObjectType = Image\nNDims = 3\nDimSize = 8 7 6\nElementSpacing = 1 1 2\n"
    b"ElementType = MET_FLOAT\nElementDataFile = LOCAL\n"
)


def written(path: Path, header: bytes) -> Path:
    path.write_bytes(header + sitk.GetArrayFromImage(noise()).tobytes())
    return path


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"DimSize = 8 7 6\n", b""),
        (b"DimSize = 8 7 6\n", b"DimSize = 8 7\n"),
        (b"= 1 1 2\n", b"= 1 1\n"),
        (b"= 1 1 2\n", b"= 1,1,2\n"),
        (b"MET_FLOAT", b"MET_FOO"),
        (b"ElementType = MET_FLOAT\n", b""),
        (b"NDims = 3\n", b""),
    ],
)
def test_a_metaimage_that_lacks_a_field_is_refused_without_a_word_of_its_reader(
    tmp_path, capfd, old, new
):
    assert read_image(written(tmp_path / "s.mha", META)).image.GetSize() == (8, 7, 6)
    assert "not an image" in refusal(written(tmp_path / "s.mha", META.replace(old, new)))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("datatype", [0, 1, 7777])
def test_a_nifti_of_an_unknown_data_type_is_refused_without_a_word_of_its_reader(
    tmp_path, capfd, datatype
):
    assert "not an image" in refusal(patched(saved(tmp_path / "s.nii"), 70, "<h", datatype))
    assert capfd.readouterr() == ("", "")


def test_a_compressed_nifti_without_gz_in_its_name_says_what_to_call_it(tmp_path, capfd):
    path = saved(tmp_path / "s.nii")
    path.write_bytes(gzip.compress(path.read_bytes()))
    assert "rename it to s.nii.gz" in refusal(path)
    assert capfd.readouterr() == ("", "")
    assert read_image(path.rename(tmp_path / "s.nii.gz")).image.GetSize() == (8, 7, 6)


def test_a_nifti_in_gz_by_name_alone_is_read_all_the_same(tmp_path):
    path = saved(tmp_path / "s.nii").rename(tmp_path / "s.nii.gz")
    assert same_grid(read_image(path).image, noise())


def test_a_nifti_whose_qform_and_sform_disagree_is_read_with_a_warning(tmp_path):
    turned = noise()
    turned.SetDirection([0.8, -0.6, 0, 0.48, 0.64, -0.6, 0.36, 0.48, 0.8])
    turned.SetOrigin([5, -6, 7])
    assert read_image(saved(tmp_path / "s.nii", turned)).warnings == []
    flipped = sitk.Flip(turned, [False, False, True], False)
    assert read_image(saved(tmp_path / "f.nii", flipped)).warnings == []
    path = patched(saved(tmp_path / "s.nii", turned), 268, "<f", 25.0)
    (warning,) = read_image(path).warnings
    # SimpleITK had written an offset of -5, in RAS.
    assert "two places" in warning and "30.0 mm" in warning


def test_lengths_in_other_units_than_millimetres_are_noticed(tmp_path):
    image = noise()
    image.SetSpacing([800, 900, 2500])
    assert "spans 6400 x 6300 x 15000 mm" in refusal(saved(tmp_path / "s.nrrd", image))
    image.SetSpacing([0.0008, 0.0009, 0.0025])
    (warning,) = read_image(saved(tmp_path / "s.nrrd", image)).warnings
    assert "spans only 0.0064 x 0.0063 x 0.015 mm" in warning


def test_a_label_map_given_as_a_scan_is_read_with_a_warning(tmp_path):
    values = np.random.default_rng(0).integers(0, 14, (6, 7, 8))
    path = saved(tmp_path / "s.nii.gz", sitk.GetImageFromArray(values.astype("uint8")))
    (warning,) = read_image(path).warnings
    assert "14 different values and looks like a label map" in warning
    shades = sitk.GetImageFromArray(np.arange(336).reshape(6, 7, 8).astype("uint8"))
    assert read_image(saved(tmp_path / "s.nii.gz", shades)).warnings == []


@pytest.mark.parametrize("dtype", ["uint8", "int32", "int64", "float64"])
def test_every_number_type_is_read_with_its_values(tmp_path, dtype):
    image = noise(dtype=dtype)
    read = read_image(saved(tmp_path / "s.nrrd", image)).image
    assert np.array_equal(sitk.GetArrayFromImage(read), sitk.GetArrayFromImage(image))


def test_slope_and_intercept_of_a_nifti_give_hounsfield_units(tmp_path):
    stored = noise(dtype="int32")
    path = patched(saved(tmp_path / "s.nii", stored), 112, "<2f", 0.5, -1024.0)
    values = sitk.GetArrayFromImage(read_image(path).image)
    assert np.allclose(values, sitk.GetArrayFromImage(stored) * 0.5 - 1024)
    # What nibabel writes where there is none.
    patched(path, 112, "<2f", float("nan"), float("nan"))
    values = sitk.GetArrayFromImage(read_image(path).image)
    assert np.array_equal(values, sitk.GetArrayFromImage(stored))


def test_a_header_that_promises_no_or_too_many_voxels_is_refused(tmp_path, capfd):
    assert "is empty (8 x 7 x 0 voxels)" in refusal(
        written(tmp_path / "s.mha", META.replace(b"8 7 6", b"8 7 0"))
    )
    path = edited(
        saved(tmp_path / "s.nii"), struct.pack("<3h", 8, 7, 6), struct.pack("<3h", *[30000] * 3)
    )
    assert "truncated or damaged" in refusal(path)
    assert capfd.readouterr() == ("", "")


def test_a_dicom_slice_of_no_bytes_is_not_passed_over_in_silence(tmp_path):
    dicom_series(tmp_path)
    (tmp_path / "last.dcm").touch()
    assert "last.dcm" in read_image(tmp_path).warnings[0]


def test_a_name_that_no_file_can_have_is_refused(tmp_path):
    path = tmp_path / ("a" * 300 + ".nii.gz")
    assert "File name too long" in refusal(path)
    assert is_one_scan([path])


def test_want_of_memory_while_resampling_counts_as_such():
    with pytest.raises(RuntimeError) as caught:
        sitk.Image([1 << 20, 1 << 20, 1 << 20], sitk.sitkUInt8)
    assert is_out_of_memory(caught.value)
    assert not is_out_of_memory(RuntimeError("The filter has no input."))
