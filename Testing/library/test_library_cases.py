"""Scans go in, are corrected, and come out as they went in."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import phantoms
import pytest
import SimpleITK as sitk

from versemi.caselibrary import CaseLibrary
from versemi.caselibrary.case import make_id
from versemi.errors import InputError
from versemi.images import same_grid
from versemi.tasks import TASKS, Code, Task

OWN = Task(
    id="left_ear",
    name="Left ear",
    label=40,
    category=Code("123037004", "Anatomical Structure"),
    type=Code("117590005", "Ear"),
    color=(1, 2, 3),
    modality="CT",
    group="ct",
    region="head",
    modifier=Code("7771000", "Left"),
)


def voxels(path) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


def test_an_unlabelled_scan_comes_back_on_its_own_grid(library):
    scan = phantoms.mr(1)
    case = library.add(scan, name="Élan 3.5 mm", modality="MR", source="clinic A")
    assert (case.id, case.name, case.modality) == ("elan_3_5_mm", "Élan 3.5 mm", "MR")
    assert (case.version, case.prompts, case.label_path, case.parent) == (0, (), None, None)
    stored = sitk.ReadImage(str(case.image_path))
    assert same_grid(stored, scan) and stored.GetPixelID() == scan.GetPixelID()
    assert np.array_equal(sitk.GetArrayFromImage(stored), sitk.GetArrayFromImage(scan))
    assert CaseLibrary.open(library.folder).cases() == (case,)
    assert case.source == "clinic A" and [v["version"] for v in case.history] == [0]


def test_a_labelled_scan_keeps_label_prediction_and_parent(library):
    scan = phantoms.ct(1)
    labels = phantoms.labels(scan, liver=[1, 2], spleen=[3])
    predicted = phantoms.labels(scan, liver=[1], pancreas=[4])
    case = library.add(
        scan,
        name="a",
        modality="CT",
        labels=labels,
        prompts=["liver", "spleen", "liver"],
        predicted=predicted,
        parent="versemi-base 0.1",
    )
    # In the order of the label values, whatever the order in which they were named.
    assert case.version == 1 and case.prompts == ("spleen", "liver")
    assert case.parent == "versemi-base 0.1"
    assert phantoms.planes(sitk.ReadImage(str(case.label_path))) == [0, 5, 5, 3, 0]
    assert phantoms.planes(sitk.ReadImage(str(case.predicted_path))) == [0, 5, 0, 0, 4]
    assert same_grid(sitk.ReadImage(str(case.label_path)), scan)


def test_a_correction_is_a_new_version_and_old_ones_stay(library):
    scan = phantoms.ct(1)
    first = library.add(scan, name="a", modality="CT")
    second = library.add(
        scan, name="other name", modality="CT", labels=phantoms.labels(scan, liver=[1, 2]),
        prompts=["liver"], parent="p1",
    )  # fmt: skip
    third = library.add(
        scan, name="a", modality="CT", labels=phantoms.labels(scan, spleen=[2, 3]),
        prompts=["spleen"],
    )  # fmt: skip
    assert {first.id, second.id, third.id} == {"a"} and len(library.cases()) == 1
    assert [c.version for c in (first, second, third)] == [0, 1, 2]
    # The spleen took a slice from the liver; what the correction did not review stays otherwise.
    assert third.prompts == ("spleen", "liver") and third.name == "a" and third.parent == "p1"
    assert phantoms.planes(sitk.ReadImage(str(third.label_path))) == [0, 5, 3, 3, 0]
    assert phantoms.planes(sitk.ReadImage(str(second.label_path))) == [0, 5, 5, 0, 0]
    assert [(v["version"], v["prompts"], v["reviewed"], v["parent"]) for v in third.history] == [
        (0, [], [], None),
        (1, ["liver"], ["liver"], "p1"),
        (2, ["spleen", "liver"], ["spleen"], None),
    ]
    assert all((library.folder / v["label"]).is_file() for v in third.history[1:])
    assert third.image_path == first.image_path


def test_a_prompt_that_is_reviewed_again_is_replaced_not_joined(library):
    scan = phantoms.ct(1)
    for planes in ([1, 2], [3]):
        case = library.add(
            scan, name="a", modality="CT", labels=phantoms.labels(scan, liver=planes),
            prompts=["liver"],
        )  # fmt: skip
    assert phantoms.planes(sitk.ReadImage(str(case.label_path))) == [0, 0, 0, 5, 0]


def test_erasing_a_false_answer_is_a_correction(library):
    scan = phantoms.ct(1)
    answer = phantoms.labels(scan, lung_tumour=[1])
    case = library.add(
        scan, name="a", modality="CT", labels=phantoms.labels(scan), prompts=["lung_tumour"],
        predicted=answer,
    )  # fmt: skip
    assert case.version == 1 and case.prompts == ("lung_tumour",)
    assert not voxels(case.label_path).any()


@pytest.mark.parametrize(
    "change",
    [
        lambda scan: sitk.Cast(scan, sitk.sitkFloat32),
        lambda scan: sitk.Flip(scan, [False, False, True], False),
        lambda scan: sitk.PermuteAxes(scan, [2, 0, 1]),
    ],
    ids=["another type of number", "flipped slices", "exchanged axes"],
)
def test_the_same_scan_is_recognised_in_another_form(library, change):
    scan = phantoms.ct(1)
    first = library.add(scan, name="a", modality="CT")
    again = change(scan)
    with pytest.raises(InputError, match=r"in the library already, as 'a' \(case a\)"):
        library.add(again, name="b", modality="CT")
    # A label on the other form's grid arrives on the grid of the library's own copy.
    labels = change(phantoms.labels(scan, liver=[1]))
    case = library.add(again, name="b", modality="CT", labels=labels, prompts=["liver"])
    assert case.id == first.id and case.version == 1
    label = sitk.ReadImage(str(case.label_path))
    assert same_grid(label, scan) and phantoms.planes(label) == [0, 5, 0, 0, 0]


def test_the_same_scan_is_recognised_after_a_file(library, tmp_path):
    scan = phantoms.ct(1)
    sitk.WriteImage(scan, str(tmp_path / "a.nii.gz"))
    library.add(scan, name="a", modality="CT")
    with pytest.raises(InputError, match="already"):
        library.add(sitk.ReadImage(str(tmp_path / "a.nii.gz")), name="a", modality="CT")


def test_equal_voxels_in_another_place_are_another_scan(library):
    scan = phantoms.ct(1)
    library.add(scan, name="a", modality="CT")
    scan.SetOrigin((0, 0, 0))
    assert library.add(scan, name="a", modality="CT").id == "a_2"
    assert library.add(phantoms.ct(2), name="a", modality="CT").id == "a_3"
    assert len({case.digest for case in library.cases()}) == 2


def test_a_prompt_of_ones_own_is_kept_with_its_description(library):
    tasks = {**TASKS, OWN.id: OWN}
    scan = phantoms.ct(1)
    values = np.zeros(phantoms.SHAPE, np.uint8)
    values[2] = OWN.label
    known = CaseLibrary.open(library.folder, tasks=tasks)
    known.add(
        scan, name="a", modality="CT", labels=phantoms.image(values, scan), prompts=["left_ear"]
    )
    # Who does not know the prompt reads it from the library, and can go on with it.
    assert library.tasks["left_ear"] == OWN
    case = library.add(
        scan, name="a", modality="CT", labels=phantoms.labels(scan, liver=[0]), prompts=["liver"]
    )
    assert case.prompts == ("liver", "left_ear")
    listed = json.loads((library.folder / "dataset.json").read_text("utf-8"))
    assert [t["id"] for t in listed["tasks"]] == ["liver", "left_ear"]
    assert listed["tasks"][1]["modifier"]["meaning"] == "Left"
    assert listed["labels"]["left_ear"] == 40 and listed["labels"]["unused_39"] == 39


def test_a_label_value_keeps_its_meaning_in_a_library(library):
    scan = phantoms.ct(1)
    values = np.full(phantoms.SHAPE, OWN.label, np.uint8)
    add = {"name": "a", "modality": "CT", "labels": phantoms.image(values, scan)}
    CaseLibrary.open(library.folder, tasks={"left_ear": OWN}).add(scan, prompts=["left_ear"], **add)
    other = replace(OWN, id="right_ear")
    with pytest.raises(InputError, match="value 40, which in this library means 'left_ear'"):
        CaseLibrary.open(library.folder, tasks={"right_ear": other}).add(
            scan, prompts=["right_ear"], **add
        )
    other = replace(OWN, label=41)
    with pytest.raises(InputError, match="'left_ear' has the label value 41, .* 40"):
        CaseLibrary.open(library.folder, tasks={"left_ear": other}).add(
            scan, prompts=["left_ear"], **add
        )
    assert [case.version for case in library.cases()] == [1]


@pytest.mark.parametrize(
    ("name", "id"),
    [
        ("Ünïcode / slash", "unicode_slash"),
        ("日本", "case"),
        ("CON", "case_con"),
        ("cases", "case_cases"),
        ("../../etc", "etc"),
        ("x" * 300, "x" * 48),
    ],
)
def test_names_become_names_of_files_everywhere(name, id):
    assert make_id(name, lambda _: False) == id


def test_reading_a_library_imports_neither_numpy_nor_simpleitk(library, environment):
    library.add(phantoms.ct(1), name="a", modality="CT")
    code = (
        "import sys\nfrom versemi.caselibrary import CaseLibrary\n"
        f"library = CaseLibrary.open({str(library.folder)!r})\n"
        "print(library.case('a').name, len(library.cases()), len(library.verify()))\n"
        "print([m for m in ('torch', 'typer', 'SimpleITK', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert done.stdout.splitlines() == ["a 1 0", "[]"]
