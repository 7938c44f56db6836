"""The registry of task prompts."""

from __future__ import annotations

import pytest
from pydicom.sr._concepts_dict import concepts

from versemi.errors import InputError
from versemi.preprocessing import DEFAULT_GROUPS
from versemi.tasks import FOREGROUND, TASKS, get_task, mirrored

SNOMED = {
    code: {entry[code][0] for entry in concepts["SCT"].values() if code in entry}
    for entry in concepts["SCT"].values()
    for code in entry
}


@pytest.mark.parametrize("task", TASKS.values(), ids=lambda task: task.id)
def test_every_code_is_in_the_dictionary_of_pydicom_with_a_kindred_meaning(task):
    for code in (task.category, task.type, task.modifier):
        if code is None:
            continue
        assert code.scheme == "SCT"
        assert code.value in SNOMED, code
        # The standard's category entries differ in wording; organs and sides must not.
        if code is not task.category:
            assert any(code.meaning.lower() in m.lower() for m in SNOMED[code.value]), code


def test_label_values_are_unique_and_fit_a_byte():
    labels = [task.label for task in TASKS.values()]
    assert len(set(labels)) == len(labels)
    assert all(0 < label < 256 for label in labels)


def test_label_values_never_change_because_old_label_maps_are_still_read():
    assert {t.id: t.label for t in TASKS.values()} == {
        "left_atrium": 1,
        "lung_tumour": 2,
        "spleen": 3,
        "pancreas": 4,
        "liver": 5,
        "right_kidney": 6,
        "left_kidney": 7,
        "gallbladder": 8,
        "esophagus": 9,
        "stomach": 10,
        "aorta": 11,
        "inferior_vena_cava": 12,
        "portal_and_splenic_veins": 13,
        "right_adrenal_gland": 14,
        "left_adrenal_gland": 15,
        "hippocampus_anterior": 16,
        "hippocampus_posterior": 17,
        "foreground": 255,
    }


def test_foreground_is_tissue_and_belongs_to_no_group():
    task = TASKS[FOREGROUND]
    assert (task.type.value, task.type.meaning) == ("85756007", "Tissue")
    assert task.group == ""


@pytest.mark.parametrize("task", [t for t in TASKS.values() if t.id != FOREGROUND])
def test_every_other_prompt_has_a_modality_and_a_group(task):
    assert task.modality in ("CT", "MR")
    assert task.group in DEFAULT_GROUPS


def test_mirroring_twice_changes_nothing_and_only_sided_organs_change():
    for task in TASKS.values():
        assert mirrored(mirrored(task.id)) == task.id
    assert mirrored("right_adrenal_gland") == "left_adrenal_gland"
    assert mirrored("liver") == "liver"


def test_sides_are_modifiers_of_one_shared_type():
    right, left = TASKS["right_kidney"], TASKS["left_kidney"]
    assert right.type == left.type
    assert (right.modifier.meaning, left.modifier.meaning) == ("Right", "Left")


def test_terminology_has_the_seven_parts_that_slicer_reads():
    parts = get_task("left_kidney").terminology.split("~")
    assert len(parts) == 7
    assert parts[2] == "SCT^64033007^Kidney"
    assert parts[3] == "SCT^7771000^Left"


def test_an_unknown_prompt_is_refused_with_the_known_ones():
    with pytest.raises(InputError, match="no task prompt 'spline'.*spleen"):
        get_task("spline")


def test_no_two_prompts_have_colours_that_an_eye_confuses():
    from itertools import combinations

    shown = [task for task in TASKS.values() if task.id != FOREGROUND]
    for a, b in combinations(shown, 2):
        distance = sum((x - y) ** 2 for x, y in zip(a.color, b.color, strict=True)) ** 0.5
        assert distance >= 45, f"{a.id} and {b.id}: {distance:.0f}"
