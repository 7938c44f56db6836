"""``versemi library`` from a shell."""

from __future__ import annotations

import json
import os
from pathlib import Path

import phantoms
import pytest
import SimpleITK as sitk

from versemi.caselibrary import CaseLibrary


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "library"


@pytest.fixture
def scans(tmp_path: Path) -> list[Path]:
    """Two CT and one MR."""
    images = {"one": phantoms.ct(1), "[two] b": phantoms.ct(2), "three": phantoms.mr(3)}
    for name, image in images.items():
        sitk.WriteImage(image, str(tmp_path / f"{name}.nii.gz"))
    return [tmp_path / f"{name}.nii.gz" for name in images]


@pytest.fixture
def masks(tmp_path: Path, scans) -> list[Path]:
    """For each scan: 1 in the second slice, 7 in the third."""
    paths = []
    for scan in scans:
        image = sitk.ReadImage(str(scan))
        mask = sitk.Image(image.GetSize(), sitk.sitkUInt8)
        mask.CopyInformation(image)
        mask[:, :, 1], mask[:, :, 2] = 1, 7
        paths.append(tmp_path / f"mask of {scan.name}")
        sitk.WriteImage(mask, str(paths[-1]))
    return paths


def rows(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege on Windows")
def test_a_link_is_called_by_its_own_name(run, folder, scans, tmp_path):
    (tmp_path / "store").mkdir()
    target = scans[0].rename(tmp_path / "store" / "0001.nii.gz")
    link = tmp_path / "patient.nii.gz"
    link.symlink_to(target)
    assert run("library", "add", folder, link)[0] == 0
    (case,) = CaseLibrary.open(folder).cases()
    assert (case.id, case.name, case.source) == ("patient", "patient", str(target))


def test_unlabelled_scans_are_added_and_listed(run, folder, scans):
    code, out, err = run("library", "add", folder, *scans)
    assert (code, err) == (0, "")
    assert rows(out)[0] == ["Case", "Name", "Modality", "Version", "Prompts"]
    # The modality is guessed where the file does not say.
    assert rows(out)[1:] == [
        ["one", "one", "CT", "unlabelled", "-"],
        ["two_b", "[two]", "b", "CT", "unlabelled", "-"],
        ["three", "three", "MR", "unlabelled", "-"],
    ]
    code, out, _ = run("library", "list", folder)
    assert code == 0 and out.splitlines()[-1] == "3 cases, 0 with a label and 3 without"
    assert [row[0] for row in rows(out)[1:-1]] == ["one", "three", "two_b"]


def test_a_mask_is_translated_by_its_map(run, folder, scans, masks):
    run("library", "add", folder, *scans)
    meaning = ("--map", "1=spleen", "--map", "7=background")
    code, out, _ = run("library", "add", folder, scans[0], "--label", masks[0], *meaning)
    assert code == 0 and rows(out)[1] == ["one", "one", "CT", "1", "spleen"]
    case = CaseLibrary.open(folder).case("one")
    assert phantoms.planes(sitk.ReadImage(str(case.label_path))) == [0, 3, 0, 0, 0]
    assert case.source == str(scans[0])


def test_each_of_many_scans_takes_its_own_mask(run, folder, scans, masks):
    labels = [argument for mask in masks[:2] for argument in ("--label", mask)]
    meaning = ("--map", "1=liver", "--map", "7=liver")
    code, _, _ = run("library", "add", folder, *scans[:2], *labels, *meaning)
    assert code == 0
    for case in CaseLibrary.open(folder).cases():
        assert phantoms.planes(sitk.ReadImage(str(case.label_path))) == [0, 5, 5, 0, 0]


def test_one_scan_that_cannot_be_added_does_not_keep_the_others(run, folder, scans, tmp_path):
    (tmp_path / "bad.nii.gz").write_bytes(b"no image")
    run("library", "add", folder, scans[0])
    code, out, err = run("library", "add", folder, scans[0], tmp_path / "bad.nii.gz", scans[1])
    assert code == 2 and [row[0] for row in rows(out)[1:]] == ["two_b"]
    lines = err.splitlines()
    assert len(lines) == 3 and "in the library already, as 'one'" in lines[0]
    assert "bad.nii.gz is not an image" in lines[1]
    assert lines[2].startswith("2 of 3 scans were not added")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--label", "MASK"], "belong together"),
        (["--map", "1=spleen"], "belong together"),
        (["--label", "MASK", "--label", "MASK", "--map", "1=liver"], "1 scans and 2 masks"),
        (["--label", "MASK", "--map", "spleen"], "--map spleen is not understood"),
        (["--label", "MASK", "--map", "0=spleen"], "--map 0=spleen is not understood"),
        (["--label", "MASK", "--map", "1=spleen", "--map", "1=liver"], "two meanings"),
        (["--label", "MASK", "--map", "1=background"], "names no prompt"),
        (["--label", "MASK", "--map", "1=spleen"], "has the value 7"),
        (["--label", "MASK", "--map", "1=brain", "--map", "7=background"], "prompt 'brain'"),
        (["--modality", "MR"], "looks like CT"),
        (["--modality", "PET"], "'PET' is not one of"),
    ],
)
def test_what_is_wrong_with_an_add_is_one_sentence(run, folder, scans, masks, arguments, words):
    given = [str(masks[0]) if argument == "MASK" else argument for argument in arguments]
    code, out, err = run("library", "add", folder, scans[0], *given)
    assert code == 2 and out == "" and words in err and len(err.splitlines()) == 1
    assert not folder.exists() or CaseLibrary.open(folder).cases() == ()


def test_show_tells_files_and_history(run, folder, scans, masks):
    run("library", "add", folder, scans[0])
    meaning = ("--map", "1=spleen", "--map", "7=liver")
    run("library", "add", folder, scans[0], "--label", masks[0], *meaning)
    code, out, _ = run("library", "show", folder, "one")
    case = CaseLibrary.open(folder).case("one")
    assert code == 0 and str(case.image_path) in out and str(case.label_path) in out
    last = out.splitlines()[-1].split()
    assert last[0] == "1" and last[2:] == ["spleen,", "liver", "spleen,", "liver", "-"]
    assert run("library", "show", folder, "two")[0] == 2


def test_verify_tells_and_sets_aside(run, folder, scans):
    run("library", "add", folder, *scans)
    assert run("library", "verify", folder)[:2] == (0, "3 cases are as they were written.\n")
    (folder / "imagesTr" / "one.nii.gz").write_bytes(b"")
    code, out, _ = run("library", "verify", folder, "--report-only")
    assert code == 2 and out.startswith("Damaged: case one:") and "moved" not in out
    code, out, _ = run("library", "verify", folder)
    assert code == 2 and "It was moved to" in out and "2 cases can be used" in out
    assert run("library", "verify", folder)[:2] == (0, "2 cases are as they were written.\n")


def test_list_tells_of_damaged_cases(run, folder, scans):
    run("library", "add", folder, *scans)
    (folder / "cases" / "one" / "case.json").write_text("{")
    code, out, err = run("library", "list", folder)
    assert code == 0 and "2 cases" in out and "1 damaged cases are not shown (one)" in err


def test_export_says_what_it_wrote(run, folder, scans, masks, tmp_path):
    for scan, mask, names in zip(
        scans[:2], masks[:2], ("spleen liver", "liver liver"), strict=True
    ):
        one, seven = names.split()
        meaning = ("--map", f"1={one}", "--map", f"7={seven}")
        run("library", "add", folder, scan, "--label", mask, *meaning)
    code, out, err = run("library", "export", folder, tmp_path / "Dataset101_A")
    assert (code, err) == (0, "")
    assert rows(out)[1:5] == [
        ["background", "0"],
        ["spleen", "1", "1"],
        ["liver", "2", "2"],
        ["ignore", "3"],
    ]
    code, out, err = run("library", "export", folder, tmp_path / "liver", "-t", "liver")
    assert code == 0 and "wants a name like Dataset101_Atrium" in err
    description = json.loads((tmp_path / "liver" / "dataset.json").read_text())
    assert description["labels"] == {"background": 0, "liver": 1}
    assert run("library", "export", folder, tmp_path / "mr", "--modality", "MR")[0] == 2


@pytest.mark.parametrize("command", ["list", "verify", "show", "export"])
def test_reading_does_not_make_a_library(run, folder, command):
    more = {"show": ["a"], "export": ["out"]}.get(command, [])
    code, _, err = run("library", command, folder, *more)
    assert code == 2 and "There is no case library at" in err and not folder.exists()


def test_an_empty_library_says_how_to_fill_it(run, folder):
    CaseLibrary.create(folder)
    assert "no cases yet" in run("library", "list", folder)[1]
