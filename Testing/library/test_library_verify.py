"""Damage is found, reported and set aside; nothing is deleted."""

from __future__ import annotations

import json
import re

import phantoms
import pytest
import SimpleITK as sitk

from versemi.caselibrary import CaseLibrary


@pytest.fixture
def filled(library) -> CaseLibrary:
    for number, name in ((1, "a"), (2, "b"), (3, "c")):
        scan = phantoms.ct(number)
        library.add(scan, name=name, modality="CT")
        for prompt in ("liver", "spleen"):
            library.add(
                scan,
                name=name,
                modality="CT",
                labels=phantoms.labels(scan, **{prompt: [number]}),
                prompts=[prompt],
                predicted=phantoms.labels(scan, **{prompt: [0]}),
            )
    return library


def everything(library) -> set[bytes]:
    """The content of every file but of those that repeat others."""
    return {
        path.read_bytes()
        for path in library.folder.rglob("*")
        if path.is_file() and path.name not in ("dataset.json", "why.txt")
    }


def flip_a_byte(path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda f: flip_a_byte(f / "imagesTr/b.nii.gz"), "imagesTr/b.nii.gz is damaged"),
        (lambda f: flip_a_byte(f / "cases/b/label_v2.nii.gz"), "label_v2.nii.gz is damaged"),
        (lambda f: (f / "cases/b/label_v2.nii.gz").unlink(), "label_v2.nii.gz is missing"),
        (lambda f: flip_a_byte(f / "cases/b/case.json"), "record .* (was changed|is damaged)"),
        (lambda f: (f / "cases/b/case.json").write_text(""), "record .* is damaged"),
        (lambda f: (f / "cases/b/case.json").write_text("[1]"), "record .* is damaged"),
        (
            lambda f: (f / "cases/b/case.json").write_text((f / "cases/a/case.json").read_text()),
            "is that of the case 'a'",
        ),
    ],
)
def test_a_damaged_case_is_set_aside_with_all_that_is_left_of_it(filled, damage, words):
    damage(filled.folder)
    before = everything(filled)
    told = filled.verify(set_aside=False)
    assert everything(filled) == before and [f.aside for f in told] == [None] * len(told)
    findings = filled.verify()
    found = [finding for finding in findings if finding.kind == "damaged"]
    assert [finding.case for finding in found] == ["b"]
    assert re.search(words, found[0].problem)
    assert (found[0].aside / "why.txt").read_text().strip() == found[0].problem
    assert (found[0].aside / "imagesTr/b.nii.gz").is_file()
    assert everything(filled) == before
    assert [case.id for case in filled.cases()] == ["a", "c"] and filled.verify() == []
    listed = json.loads((filled.folder / "dataset.json").read_text())
    assert [entry["case"] for entry in listed["training"]] == ["a", "c"]
    # The scan can be added anew.
    assert filled.add(phantoms.ct(2), name="b", modality="CT").id == "b"


def test_a_new_library_has_nothing_wrong(library):
    assert library.verify() == [] and library.cases() == ()
    assert json.loads((library.folder / "dataset.json").read_text())["training"] == []


def test_a_damaged_record_hides_no_other_case(filled):
    (filled.folder / "cases/b/case.json").write_text("{")
    assert [case.id for case in filled.cases()] == ["a", "c"]
    assert list(filled.scan()[1]) == ["b"]


@pytest.mark.parametrize("name", ["label_v1.nii.gz", "predicted_v1.nii.gz"])
def test_a_loss_in_the_history_is_told_and_the_case_stays(filled, name):
    (filled.folder / "cases/b" / name).unlink()
    (finding,) = filled.verify()
    assert (finding.kind, finding.case, finding.aside) == ("damaged", "b", None)
    assert name in finding.problem and len(filled.cases()) == 3


def test_what_belongs_to_no_case_is_set_aside(filled):
    scan = phantoms.ct(9)
    for name in ("imagesTr/mine.nii.gz", "labelsTr/mine.nii.gz", "cases/b/label_v3.nii.gz"):
        sitk.WriteImage(scan, str(filled.folder / name))
    (filled.folder / "cases/unfinished").mkdir()
    (filled.folder / "cases/unfinished/label_v1.nii.gz").write_bytes(b"x")
    (filled.folder / "imagesTr/.DS_Store").touch()
    before = everything(filled)
    findings = filled.verify()
    assert [finding.kind for finding in findings] == ["leftover"] * 4
    assert all((finding.aside / "why.txt").is_file() for finding in findings)
    assert everything(filled) == before and filled.verify() == []
    # A new case of that name does not write over what somebody had put there.
    sitk.WriteImage(scan, str(filled.folder / "imagesTr/mine.nii.gz"))
    assert filled.add(phantoms.ct(10), name="mine", modality="CT").id == "mine_2"


def test_a_label_that_was_edited_in_place_is_kept_and_told(filled):
    edited = phantoms.labels(phantoms.ct(2), liver=[0, 4])
    path = filled.folder / "labelsTr/b.nii.gz"
    sitk.WriteImage(edited, str(path))
    content = path.read_bytes()
    damaged, outdated = filled.verify()
    assert damaged.kind == "damaged" and "add it to the library as a correction" in damaged.problem
    assert (damaged.aside / "labelsTr/b.nii.gz").read_bytes() == content
    assert outdated.kind == "outdated" and filled.verify() == []
    assert path.read_bytes() == filled.case("b").label_path.read_bytes()


@pytest.mark.parametrize("content", [None, "", '{"training": [{"case": "a"}]}'])
def test_the_description_for_others_is_written_anew(filled, content):
    path = filled.folder / "dataset.json"
    whole = path.read_text()
    path.unlink()
    if content is not None:
        path.write_text(content)
    (filled.folder / "labelsTr/b.nii.gz").unlink()
    assert [finding.kind for finding in filled.verify()] == ["outdated"]
    assert path.read_text() == whole
    assert (filled.folder / "labelsTr/b.nii.gz").is_file() and filled.verify() == []


def test_parts_of_a_killed_write_are_cleared_away_by_the_next(filled):
    for name in ("", "imagesTr", "labelsTr", "cases/a"):
        (filled.folder / name / ".part-0123abcd-a.nii.gz").write_bytes(b"half")
    filled.add(phantoms.ct(4), name="d", modality="CT")
    assert not list(filled.folder.rglob(".part-*"))
