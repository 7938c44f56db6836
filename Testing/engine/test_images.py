"""Reading scans, and refusing in one sentence what cannot be segmented."""

from __future__ import annotations

import gzip
import os
import struct
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage, generate_uid

from versemi.errors import InputError
from versemi.images import check_image, read_image, read_label_map, same_grid


def noise(shape: tuple[int, ...] = (6, 7, 8), dtype: str = "float32") -> sitk.Image:
    values = np.random.default_rng(0).normal(100, 30, shape).astype(dtype)
    image = sitk.GetImageFromArray(values)
    image.SetSpacing([0.8, 0.9, 2.5][: image.GetDimension()])
    return image


def saved(path: Path, image: sitk.Image | None = None, *, compress: bool = False) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(noise() if image is None else image, str(path), compress)
    return path


def edited(path: Path, old: bytes, new: bytes) -> Path:
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new, 1))
    return path


def patched(path: Path, offset: int, form: str, *values: float) -> Path:
    content = bytearray(path.read_bytes())
    struct.pack_into(form, content, offset, *values)
    path.write_bytes(content)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        read_image(path)
    sentence = str(caught.value)
    assert "\n" not in sentence and sentence.endswith(".")
    return sentence


def dicom_series(
    folder: Path,
    *,
    modality: str = "CT",
    description: str = "venous",
    positions: list[tuple[float, float, float]] | None = None,
    uid: str | None = None,
) -> str:
    """Write slices whose stored value is 1000 + slice index, in shuffled file order."""
    folder.mkdir(parents=True, exist_ok=True)
    uid = uid or generate_uid()
    positions = positions or [(-10.0, -20.0, 3.0 * k) for k in range(5)]
    for k, position in enumerate(positions):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = CTImageStorage if modality == "CT" else MRImageStorage
        meta.MediaStorageSOPInstanceUID = generate_uid()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        slice_ = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
        slice_.SOPClassUID = meta.MediaStorageSOPClassUID
        slice_.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
        slice_.SeriesInstanceUID, slice_.StudyInstanceUID = uid, "1.2.3"
        slice_.Modality, slice_.SeriesDescription = modality, description
        slice_.PatientName, slice_.PatientID, slice_.InstanceNumber = "A", "1", k + 1
        slice_.ImagePositionPatient = list(position)
        slice_.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        slice_.PixelSpacing, slice_.SliceThickness = [0.7, 0.7], 3
        slice_.Rows, slice_.Columns, slice_.SamplesPerPixel = 4, 6, 1
        slice_.PhotometricInterpretation = "MONOCHROME2"
        slice_.BitsAllocated, slice_.BitsStored, slice_.HighBit = 16, 16, 15
        slice_.PixelRepresentation = 0
        slice_.RescaleSlope, slice_.RescaleIntercept = 2, -1024
        pixels = np.full((4, 6), 1000 + k, dtype="<u2")
        pixels[0, 0] = 0
        slice_.PixelData = pixels.tobytes()
        slice_.save_as(folder / f"{(k * 3) % 5}_{uid[-6:]}.dcm", enforce_file_format=True)
    return uid


@pytest.mark.parametrize(
    "name", ["s.nii", "s.nii.gz", "s.nrrd", "s.nhdr", "s.mha", "s.mhd", "s.img"]
)
def test_every_format_comes_back_with_its_voxels_and_geometry(tmp_path, name):
    image = noise()
    image.SetDirection([0, 0, 1, 1, 0, 0, 0, 1, 0])
    image.SetOrigin([5, -6, 7])
    scan = read_image(saved(tmp_path / name, image))
    assert same_grid(scan.image, image)
    assert np.array_equal(sitk.GetArrayFromImage(scan.image), sitk.GetArrayFromImage(image))
    assert scan.modality is None and scan.warnings == []


@pytest.mark.parametrize("name", ["s.nii.gz", "s.nrrd", "s.mha"])
def test_compressed_files_are_read(tmp_path, name):
    assert read_image(saved(tmp_path / name, compress=True)).image.GetSize() == (8, 7, 6)


def test_a_suffix_in_capitals_is_the_same_format(tmp_path):
    for name in ("s.nii.gz", "s.nrrd", "s.mha"):
        path = saved(tmp_path / name)
        assert read_image(path.rename(tmp_path / name.upper())).image.GetSize() == (8, 7, 6)


def test_a_path_with_letters_of_other_alphabets_works(tmp_path):
    assert read_image(saved(tmp_path / "Пациент é 漢" / "bild ü.nii.gz")).image.GetSize() == (
        8,
        7,
        6,
    )


def test_a_negative_qfac_is_legal_and_read_as_left_handed(tmp_path):
    path = patched(saved(tmp_path / "s.nii"), 76, "<f", -1.0)
    patched(path, 254, "<h", 0)  # no sform: the qform decides
    direction = np.array(read_image(path).image.GetDirection()).reshape(3, 3)
    assert np.linalg.det(direction) == pytest.approx(-1)


def test_a_trailing_axis_of_length_one_is_dropped(tmp_path):
    for name in ("s.nii.gz", "s.nrrd"):
        path = saved(tmp_path / name, sitk.JoinSeries([noise()]))
        assert read_image(path).image.GetSize() == (8, 7, 6)


def test_missing_empty_and_foreign_files_are_told_apart(tmp_path):
    assert "There is no file" in refusal(tmp_path / "nothing.nii.gz")
    (tmp_path / "zero.nrrd").touch()
    assert "0 bytes" in refusal(tmp_path / "zero.nrrd")
    for name in ("j.nii.gz", "j.nii", "j.nrrd", "j.mha", "j.mhd", "j.txt", "j.dcm"):
        (tmp_path / name).write_bytes(b"hello, this is not an image at all" * 30)
        assert "not an image" in refusal(tmp_path / name)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_says_so(tmp_path):
    path = saved(tmp_path / "s.nrrd")
    path.chmod(0)
    assert "permission" in refusal(path)


def test_two_dimensions_are_refused_with_their_size(tmp_path):
    flat = noise((7, 8))
    assert "2D image (8 x 7)" in refusal(saved(tmp_path / "s.nii.gz", flat))
    assert "2D image" in refusal(saved(tmp_path / "s.png", sitk.Cast(flat, sitk.sitkUInt8)))
    assert "2D image (8 x 7 x 1)" in refusal(saved(tmp_path / "s.nrrd", noise((1, 7, 8))))


def test_four_dimensions_are_refused_with_their_size(tmp_path):
    series = sitk.JoinSeries([noise(), noise()])
    for name in ("s.nii.gz", "s.nrrd"):
        assert "4 dimensions (8 x 7 x 6 x 2)" in refusal(saved(tmp_path / name, series))


def test_several_values_a_voxel_are_refused(tmp_path):
    colour = sitk.Compose([sitk.Cast(noise(), sitk.sitkUInt8)] * 3)
    for name in ("s.nii.gz", "s.nrrd", "s.mha"):
        assert "3 values a voxel" in refusal(saved(tmp_path / name, colour))


def test_an_image_without_voxels_is_refused():
    with pytest.raises(InputError, match="empty"):
        check_image(sitk.Image(0, 4, 4, sitk.sitkFloat32))


def test_one_constant_value_is_refused_as_a_scan_and_allowed_as_a_label_map(tmp_path):
    path = saved(tmp_path / "s.nii.gz", noise() * 0 + 7)
    assert "value 7 in every voxel" in refusal(path)
    assert read_label_map(path).GetSize() == (8, 7, 6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["s.nii", "s.nii.gz", "s.img", "s.nrrd", "s.mha"])
def test_nan_and_infinity_are_counted(tmp_path, name, dtype):
    values = sitk.GetArrayFromImage(noise((20, 30, 40))).astype(dtype)
    values[0, 0, :3] = np.nan
    values[-1, -1, -1] = -np.inf
    sentence = refusal(saved(tmp_path / name, sitk.GetImageFromArray(values)))
    assert "3 that are not a number" in sentence and "1 that are infinite" in sentence


def test_nan_and_infinity_are_counted_in_any_byte_order_and_past_the_first_chunk(tmp_path):
    # 6 MB, so that it is read in two pieces.
    values = np.ones((12, 256, 512), dtype=">f4")
    values[-1, -1, -3:] = np.nan
    path = saved(tmp_path / "s.nii", sitk.GetImageFromArray(values.astype("float32")))
    header = np.frombuffer(path.read_bytes()[:352], dtype=np.uint8).copy()
    # Swapped field by field: sizes, type codes and spacings are what the check reads.
    for start, stop, width in ((0, 4, 4), (40, 56, 2), (70, 74, 2), (76, 124, 4), (252, 256, 2)):
        header[start:stop] = header[start:stop].reshape(-1, width)[:, ::-1].ravel()
    header[256:328] = header[256:328].reshape(-1, 4)[:, ::-1].ravel()
    path.write_bytes(header.tobytes() + values.tobytes())
    assert "3 that are not a number" in refusal(path)
    values[-1, -1, -3:] = 2
    path.write_bytes(header.tobytes() + values.tobytes())
    assert read_image(path).image[511, 255, 11] == 2


@pytest.mark.parametrize("value", [0.0, -2.0, float("nan"), float("inf")])
def test_a_nifti_spacing_that_is_no_length_is_refused_with_its_value(tmp_path, value):
    for offset in (80, 84, 88):
        path = patched(saved(tmp_path / "s.nii"), offset, "<f", value)
        assert f"{value:g}" in refusal(path)
        path = patched(path, 254, "<h", 0)
        assert "spacing" in refusal(path)


def test_a_spacing_in_a_compressed_nifti_is_read_from_its_header_too(tmp_path):
    raw = bytearray(gzip.decompress(saved(tmp_path / "s.nii.gz").read_bytes()))
    struct.pack_into("<f", raw, 84, -2.0)
    (tmp_path / "s.nii.gz").write_bytes(gzip.compress(bytes(raw)))
    assert "0.8 x -2 x 2.5 mm" in refusal(tmp_path / "s.nii.gz")


@pytest.mark.parametrize("field", [b"(0,0.9", b"(nan,nan", b"(inf,0.9"])
def test_an_nrrd_spacing_that_is_no_length_is_refused(tmp_path, field):
    path = saved(tmp_path / "s.nrrd")
    new = b"(0,0" if field == b"(0,0.9" else field
    text = path.read_bytes()
    start = text.index(b"(0,0.9")
    end = text.index(b",0)", start)
    path.write_bytes(text[:start] + new + text[end:])
    assert "spacing" in refusal(path)


def test_an_nrrd_with_plain_spacings_is_checked_as_well(tmp_path):
    header = (
        b"NRRD0004\ntype: float\ndimension: 3\nsizes: 8 7 6\nspacings: 1 -1 2\n"
        b"endian: little\nencoding: raw\n\n"
    )
    (tmp_path / "s.nrrd").write_bytes(header + sitk.GetArrayFromImage(noise()).tobytes())
    assert "1 x -1 x 2 mm" in refusal(tmp_path / "s.nrrd")
    no_spacing = header.replace(b"spacings: 1 -1 2\n", b"")
    (tmp_path / "s.nrrd").write_bytes(no_spacing + sitk.GetArrayFromImage(noise()).tobytes())
    assert "1 mm is assumed" in read_image(tmp_path / "s.nrrd").warnings[0]


@pytest.mark.parametrize("value", [b"0", b"-2", b"nan"])
def test_a_metaimage_spacing_that_is_no_length_is_refused(tmp_path, value):
    for suffix in (".mha", ".mhd"):
        path = saved(tmp_path / f"s{suffix}")
        edited(path, b" 2.5\n", b" " + value + b"\n")
        assert value.decode() in refusal(path)


def test_a_sheared_orientation_is_refused_with_its_angle(tmp_path):
    nifti = saved(tmp_path / "s.nii")
    # The qform stays straight: SimpleITK would use it and say nothing.
    patched(nifti, 280, "<12f", 0.8, 0.45, 0, 0, 0, 0.7794, 0, 0, 0, 0, 2.5, 0)
    assert "axes i and j meet at 60.0 degrees" in refusal(nifti)
    nrrd = edited(saved(tmp_path / "s.nrrd"), b"(0,0,2.5)", b"(0,2.5,2.5)")
    assert "axes j and k meet at 45.0 degrees" in refusal(nrrd)
    meta = edited(saved(tmp_path / "s.mha"), b"1 0 0 0 1 0 0 0 1", b"1 0 0 0 1 0 0.6 0 0.8")
    assert "axes i and k meet at 53.1 degrees" in refusal(meta)


def test_a_metaimage_axis_of_another_length_than_one_is_refused(tmp_path):
    path = edited(saved(tmp_path / "s.mha"), b"1 0 0 0 1 0 0 0 1", b"1 0 0 0 0 0 0 0 1")
    assert "unit vectors" in refusal(path)


def test_a_nifti_whose_two_spacings_disagree_is_read_with_a_warning(tmp_path):
    path = patched(saved(tmp_path / "s.nii"), 88, "<f", 5.0)
    assert "0.8 x 0.9 x 5" in read_image(path).warnings[0]


@pytest.mark.parametrize(
    ("name", "compress"),
    [
        ("s.nii", False),
        ("s.nii.gz", True),
        ("s.nrrd", False),
        ("s.nrrd", True),
        ("s.mha", False),
        ("s.mha", True),
    ],
)
def test_a_truncated_file_is_refused(tmp_path, name, compress):
    path = saved(tmp_path / name, noise((20, 20, 20)), compress=compress)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * 0.7)])
    assert "truncated or damaged" in refusal(path)


def test_a_compressed_nifti_with_too_few_voxels_is_refused_though_its_gzip_is_whole(tmp_path):
    raw = gzip.decompress(saved(tmp_path / "s.nii.gz").read_bytes())
    (tmp_path / "s.nii.gz").write_bytes(gzip.compress(raw[:-100]))
    assert "holds 1,596 of 1,696 bytes" in refusal(tmp_path / "s.nii.gz")


def test_a_header_whose_voxels_are_missing_names_the_file(tmp_path):
    for name, voxels in (("s.nhdr", "s.raw"), ("s.mhd", "s.raw"), ("s.hdr", "s.img")):
        saved(tmp_path / name)
        (tmp_path / voxels).unlink()
        assert voxels in refusal(tmp_path / name)


@settings(max_examples=60, deadline=None)
@given(cut=st.integers(0, 2000), suffix=st.sampled_from([".nii", ".nii.gz", ".nrrd", ".mha"]))
def test_a_file_cut_anywhere_never_gives_an_image(tmp_path_factory, cut, suffix):
    path = saved(tmp_path_factory.mktemp("cut") / f"s{suffix}")
    content = path.read_bytes()
    path.write_bytes(content[: min(cut, len(content) - 9)])
    refusal(path)


def test_a_dicom_folder_is_sorted_rescaled_and_says_its_modality(tmp_path):
    dicom_series(tmp_path / "Série")
    scan = read_image(tmp_path / "Série")
    assert scan.modality == "CT"
    assert scan.image.GetSize() == (6, 4, 5)
    assert scan.image.GetSpacing() == pytest.approx((0.7, 0.7, 3))
    assert scan.image.GetOrigin() == pytest.approx((-10, -20, 0))
    values = sitk.GetArrayFromImage(scan.image)
    assert values[:, 1, 1].tolist() == [976, 978, 980, 982, 984]
    assert values[0, 0, 0] == -1024


def test_a_dicom_modality_without_prompts_is_a_warning(tmp_path):
    dicom_series(tmp_path, modality="PT")
    scan = read_image(tmp_path)
    assert scan.modality is None and "PT" in scan.warnings[0]


def test_a_folder_of_mixed_series_names_them_and_how_to_choose(tmp_path):
    first = dicom_series(tmp_path, description="arterial")
    second = dicom_series(tmp_path, modality="MR", description="T1")
    sentence = refusal(tmp_path)
    assert f"{first} (CT, arterial, 5 files)" in sentence
    assert f"{second} (MR, T1, 5 files)" in sentence
    assert "--series" in sentence
    assert read_image(tmp_path, series=second).modality == "MR"
    with pytest.raises(InputError, match="holds no series 1.2"):
        read_image(tmp_path, series="1.2")


def test_a_folder_without_dicom_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("no scan here")
    assert "without DICOM" in refusal(tmp_path)


def test_a_missing_slice_is_refused_with_the_gap(tmp_path):
    dicom_series(tmp_path, positions=[(0, 0, 0), (0, 0, 3), (0, 0, 6), (0, 0, 12)])
    assert "6.00 mm between slices 3 and 4, 3.00 mm elsewhere" in refusal(tmp_path)


def test_slices_at_one_place_and_a_tilted_gantry_are_refused(tmp_path):
    dicom_series(tmp_path / "a", positions=[(0, 0, 0), (0, 0, 0), (0, 0, 3), (0, 0, 3)])
    assert "at one place" in refusal(tmp_path / "a")
    dicom_series(tmp_path / "b", positions=[(0, 1.0 * k, 3.0 * k) for k in range(4)])
    assert "meet at 71.6 degrees" in refusal(tmp_path / "b")


def test_one_dicom_slice_alone_is_2d(tmp_path):
    dicom_series(tmp_path, positions=[(0, 0, 0)])
    assert "2D image" in refusal(tmp_path)
    assert "folder that holds all slices" in refusal(next(tmp_path.glob("*.dcm")))


def test_a_dicom_slice_cut_short_is_never_passed_over_in_silence(tmp_path):
    for place, folder in ((2, tmp_path / "a"), (-1, tmp_path / "b")):
        dicom_series(folder)
        by_position = sorted(
            folder.glob("*.dcm"), key=lambda p: pydicom.dcmread(p).ImagePositionPatient[2]
        )
        victim = by_position[place]
        victim.write_bytes(victim.read_bytes()[:-30])
    assert "a slice seems to be missing" in refusal(tmp_path / "a")
    assert victim.name in read_image(tmp_path / "b").warnings[0]
