"""Which scans a command line names, and what each is called."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from versemi.cases import find_images, folded, is_one_scan, name_cases
from versemi.errors import InputError


def slice_of(path: Path) -> Path:
    """What begins like a DICOM file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(128) + b"DICM")
    return path


# Which scans ------------------------------------------------------------------------------------


def test_a_folder_of_images_is_a_scan_for_each_and_nothing_else_in_it_is(tmp_path):
    names = ["b.nii.gz", "a.mha", "c.NRRD", "pair.hdr"]
    others = ["pair.img", "a.seg.nrrd", ".hidden.nii", "notes.csv", "a.raw"]
    for name in names + others:
        (tmp_path / name).touch()
    slice_of(tmp_path / "slice.img")
    (tmp_path / "deeper").mkdir()
    (tmp_path / "deeper" / "d.nii").touch()
    assert [path.name for path in find_images([tmp_path])] == sorted(names)
    assert not is_one_scan([tmp_path])


def test_a_folder_of_dicom_is_one_scan_and_a_folder_of_such_folders_is_many(tmp_path):
    first = slice_of(tmp_path / "patient" / "study" / "series1" / "1").parent
    slice_of(first / "2")
    second = slice_of(tmp_path / "patient" / "series2" / "1.dcm").parent
    (tmp_path / "patient" / "series3").mkdir()
    slice_of(tmp_path / "patient" / "DICOMDIR")
    assert is_one_scan([first]) and find_images([first]) == [first]
    assert find_images([tmp_path / "patient"]) == [second, first]
    assert not is_one_scan([tmp_path / "patient"])


def test_a_folder_without_a_scan_stands_for_itself_so_that_somebody_hears_of_it(tmp_path):
    (tmp_path / "readme.md").touch()
    assert find_images([tmp_path]) == [tmp_path] and is_one_scan([tmp_path])


def test_a_list_names_images_and_folders_relative_to_itself(tmp_path, monkeypatch):
    (tmp_path / "images").mkdir()
    a, b = (tmp_path / "images" / name for name in ("a.nii", "b ö.nii"))
    a.touch()
    b.touch()
    listed = tmp_path / "list.TXT"
    text = "# ours\r\n\r\n images/b ö.nii \r\nimages\r\nmissing.nii\r\n"
    listed.write_bytes(b"\xef\xbb\xbf" + text.encode())
    monkeypatch.chdir(tmp_path / "images")
    # Each once, also where the command line says it again in other words.
    assert find_images([listed, Path("a.nii")]) == [b, a, tmp_path / "missing.nii"]
    assert not is_one_scan([listed])


def test_a_list_that_is_none_is_refused(tmp_path):
    listed = tmp_path / "list.txt"
    with pytest.raises(InputError, match="cannot be read"):
        find_images([listed])
    listed.write_text("\n# nothing\n")
    with pytest.raises(InputError, match="names no image"):
        find_images([listed])
    listed.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="not text in UTF-8"):
        find_images([listed])


# What they are called ---------------------------------------------------------------------------


def names_of(*paths: str) -> list[str]:
    return [case.name for case in name_cases([Path(p) for p in paths], {}, lambda *_: True)]


def test_images_of_one_name_are_told_apart_by_the_folders_above_or_their_suffix():
    assert names_of("/d/x/ct.nii.gz", "/d/y/mr.nii") == ["ct", "mr"]
    assert names_of("/d/x/ct.nii.gz", "/d/y/ct.nii", "/d/mr.nii") == ["x_ct", "y_ct", "mr"]
    assert names_of("/p1/s/ct.nii", "/p2/s/ct.nii") == ["p1_s_ct", "p2_s_ct"]
    assert names_of("/d/ct.nii.gz", "/d/ct.nrrd") == ["ct_nii_gz", "ct_nrrd"]
    assert names_of("/d/x/CT.nii", "/d/y/ct.nii") == ["x_CT", "y_ct"]


def test_where_the_folders_cannot_tell_images_apart_a_checksum_of_the_path_does():
    inside, other, beside = names_of("/d/x/ct.nii", "/d/y/ct.nii", "/d/x_ct.nii")
    assert other == "y_ct"
    assert re.fullmatch("ct_[0-9a-f]{12}", inside) and re.fullmatch("x_ct_[0-9a-f]{12}", beside)


PARTS = st.sampled_from(["a", "A", "b", "a_b", "b_a", "é", "e\u0301"])
PATHS = st.builds(
    lambda parts, suffix: PurePosixPath("/", *parts).as_posix() + suffix,
    st.lists(PARTS, min_size=1, max_size=4),
    st.sampled_from([".nii", ".nii.gz", "_nii.mha", ".mha"]),
)


@given(st.lists(PATHS, unique=True, max_size=12))
@settings(max_examples=200, deadline=None)
def test_whatever_the_paths_no_two_scans_have_the_same_name(paths):
    names = names_of(*paths)
    assert len({folded(name) for name in names}) == len(paths)
