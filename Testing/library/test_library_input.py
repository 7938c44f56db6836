"""What cannot be used is refused with one sentence, and the library stays as it was."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import phantoms
import pytest
import SimpleITK as sitk

from versemi.caselibrary import CaseLibrary
from versemi.errors import InputError


def contents(folder) -> dict[str, str]:
    """Every file with its digest."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def refuse(library, words, scan, **arguments):
    before = contents(library.folder)
    with pytest.raises(InputError, match=words) as refused:
        library.add(scan, **{"name": "a", "modality": "CT", **arguments})
    sentence = str(refused.value)
    assert "\n" not in sentence and sentence.endswith(".")
    assert contents(library.folder) == before


def moved(labels: sitk.Image) -> sitk.Image:
    labels.SetOrigin((0, 0, 0))
    return labels


SCAN = phantoms.ct(1)
LIVER = phantoms.labels(SCAN, liver=[1])
HALVES = phantoms.image(np.full(phantoms.SHAPE, 0.5, np.float32), SCAN)
STRANGE = phantoms.image(np.full(phantoms.SHAPE, 77, np.int16), SCAN)
TWO = sitk.Compose(LIVER, LIVER)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"labels": LIVER}, "correction is empty: no prompt"),
        ({"labels": phantoms.labels(SCAN), "prompts": ["liver"]}, "labels no voxel as liver"),
        ({"labels": moved(phantoms.labels(SCAN, liver=[1])), "prompts": ["liver"]}, "not lie on"),
        ({"labels": LIVER[:, :, 1:], "prompts": ["liver"]}, "7 x 6 x 4 voxels .* not lie on"),
        ({"labels": LIVER, "prompts": ["liver"], "predicted": LIVER[1:]}, "predicted .* not lie"),
        ({"labels": STRANGE, "prompts": ["liver"]}, r"belong to no prompt \(77\)"),
        ({"labels": HALVES, "prompts": ["liver"]}, r"belong to no prompt \(0.5\)"),
        ({"labels": TWO, "prompts": ["liver"]}, "2 values a voxel, as segments that overlap"),
        ({"labels": LIVER, "prompts": ["spleen"]}, "holds liver, beside .*spleen"),
        ({"labels": LIVER, "prompts": ["liver", "brain"]}, "prompt 'brain'; the prompts that"),
        ({"labels": LIVER, "prompts": ["foreground"]}, "prompt 'foreground'"),
        ({"labels": LIVER, "prompts": ["left_atrium"]}, "is for MR and the scan is CT"),
        ({"prompts": ["liver"]}, "no label map that could cover liver"),
        ({"modality": "MR"}, "said to be MR and looks like CT"),
        ({"modality": "PET"}, "'PET' is not known; it is CT or MR"),
        ({"predicted": STRANGE}, "predicted label map has values that belong to no prompt"),
    ],
)
def test_what_cannot_be_added_is_refused(library, arguments, words):
    library.add(phantoms.ct(2), name="another", modality="CT")
    refuse(library, words, SCAN, **arguments)


def test_an_unlabelled_mr_scan_is_not_taken_for_a_ct(library):
    refuse(library, "said to be CT and looks like MR: it lacks values", phantoms.mr(1))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.zeros(phantoms.SHAPE, np.int16), "value 0 in every voxel"),
        (np.full(phantoms.SHAPE, np.nan, np.float32), "not a number"),
        (np.arange(42, dtype=np.int16).reshape(1, 6, 7), "2D image"),
    ],
)
def test_a_scan_that_no_network_can_read_is_refused(library, values, words):
    refuse(library, words, phantoms.image(values))


def test_a_scan_that_is_there_is_refused_under_its_name(library):
    library.add(SCAN, name="My Scan", modality="CT")
    refuse(library, r"already, as 'My Scan' \(case my_scan\); add it with a label map", SCAN)


def test_a_correction_that_changes_nothing_is_refused(library):
    correction = {"labels": LIVER, "prompts": ["liver"]}
    library.add(SCAN, name="a", modality="CT", **correction)
    refuse(library, "already, as version 1 of 'a'", SCAN, **correction)
    # The same voxels with one prompt more say more: that no spleen is to be seen.
    both = {"labels": LIVER, "prompts": ["liver", "spleen"]}
    assert library.add(SCAN, name="a", modality="CT", **both).prompts == ("spleen", "liver")


def test_a_correction_under_another_modality_is_refused(library):
    library.add(SCAN, name="a", modality="CT")
    atrium = {"labels": phantoms.labels(SCAN, left_atrium=[1]), "prompts": ["left_atrium"]}
    refuse(library, "is CT there, not MR", SCAN, modality="MR", **atrium)


def test_a_correction_of_a_damaged_case_is_refused(library):
    case = library.add(SCAN, name="a", modality="CT")
    case.image_path.write_bytes(b"")
    refuse(library, "run 'versemi library verify'", SCAN, labels=LIVER, prompts=["liver"])


def test_a_case_that_is_not_there_is_one_sentence(library):
    library.add(SCAN, name="a", modality="CT")
    for id in ("b", "../a", ""):
        with pytest.raises(InputError, match="There is no case .* it has a"):
            library.case(id)


def test_a_folder_that_is_no_library_is_refused(tmp_path):
    with pytest.raises(InputError, match="There is no case library at"):
        CaseLibrary.open(tmp_path / "none")
    (tmp_path / "thesis.docx").touch()
    with pytest.raises(InputError, match="it has no library.json"):
        CaseLibrary.open(tmp_path)
    with pytest.raises(InputError, match="not empty; give a new folder"):
        CaseLibrary.create(tmp_path)
    with pytest.raises(InputError, match="is a file"):
        CaseLibrary.create(tmp_path / "thesis.docx")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.docx"]


def test_a_library_of_a_newer_version_is_refused(library):
    library.add(SCAN, name="a", modality="CT")
    marker = library.folder / "library.json"
    data = json.loads(marker.read_text())
    marker.write_text(json.dumps({**data, "format": data["format"] + 1}))
    before = contents(library.folder)
    for access in (CaseLibrary.open, CaseLibrary.create):
        with pytest.raises(InputError, match="has format 2, and this version reads up to 1"):
            access(library.folder)
    assert contents(library.folder) == before


def test_a_library_of_another_kind_is_refused(library):
    (library.folder / "library.json").write_text('{"kind": "books", "format": 1}')
    with pytest.raises(InputError, match="of another kind"):
        CaseLibrary.open(library.folder)


def test_a_damaged_description_loses_no_case(library):
    library.add(SCAN, name="a", modality="CT")
    marker = library.folder / "library.json"
    marker.write_text("{")
    with pytest.raises(InputError, match="its cases are not: move that file away"):
        CaseLibrary.open(library.folder)
    marker.rename(library.folder.parent / "away.json")
    assert [case.id for case in CaseLibrary.create(library.folder).cases()] == ["a"]
