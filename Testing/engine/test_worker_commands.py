"""What the worker can do besides segmenting: keeping a case, and exporting to DICOM."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from test_worker import Conversation

from versemi.caselibrary import CaseLibrary
from versemi.dicomimages import write_series
from versemi.export import write_segmentation
from versemi.tasks import TASKS

LIVER = TASKS["liver"]


def ct() -> sitk.Image:
    """A scan with air, fat and organs in it, (8, 12, 14) voxels (z, y, x)."""
    values = np.random.default_rng(5).normal(40, 60, (8, 12, 14)).astype(np.int16)
    values[:, :3] = -1000
    values[:, 3:5] = -100
    image = sitk.GetImageFromArray(values)
    image.SetSpacing([1.0, 1.0, 2.5])
    image.SetOrigin([4.0, -7.0, 11.0])
    return image


def label_map(like: sitk.Image, part: Any = np.s_[2:5, 6:9, 3:8]) -> sitk.Image:
    values = np.zeros(like.GetSize()[::-1], np.uint8)
    values[part] = LIVER.label
    made = sitk.GetImageFromArray(values)
    made.CopyInformation(like)
    return made


@pytest.fixture
def talk():
    engine = SimpleNamespace(
        pack=SimpleNamespace(name="stand-in", version="1.2", tasks=(LIVER,)), device="cpu"
    )
    conversation = Conversation(lambda: engine)
    conversation.hear()
    yield conversation
    conversation.close()
    conversation.end()


@pytest.fixture
def order(tmp_path: Path) -> dict[str, Any]:
    """A request to keep a corrected scan, with all its files."""
    image = ct()
    sitk.WriteImage(image, str(tmp_path / "größe.nrrd"))
    sitk.WriteImage(label_map(image), str(tmp_path / "labels.nrrd"))
    sitk.WriteImage(label_map(image, np.s_[2:5, 6:9, 3:6]), str(tmp_path / "predicted.nrrd"))
    return {
        "id": 1,
        "command": "keep",
        "library": str(tmp_path / "Bibliothek"),
        "image": str(tmp_path / "größe.nrrd"),
        "labels": str(tmp_path / "labels.nrrd"),
        "prompts": ["liver"],
        "predicted": str(tmp_path / "predicted.nrrd"),
        "parent": "versemi-base 0.1.0",
        "modality": "CT",
        "name": "Anna, größe",
        "source": "a test",
    }


def test_a_corrected_case_goes_into_the_library_with_all_that_is_known_of_it(talk, order):
    talk.say(**order)
    event = talk.hear()
    assert event["event"] == "result", event
    case = CaseLibrary.open(order["library"]).case(event["case"])
    assert event["version"] == case.version == 1
    assert event["message"] == (f"'Anna, größe' is in the library as case {case.id}, with Liver.")
    assert (case.modality, case.parent, case.source) == ("CT", "versemi-base 0.1.0", "a test")
    assert case.prompts == ("liver",)
    for path, expected in (
        (case.image_path, order["image"]),
        (case.label_path, order["labels"]),
        (case.predicted_path, order["predicted"]),
    ):
        found, wanted = sitk.ReadImage(str(path)), sitk.ReadImage(expected)
        np.testing.assert_array_equal(sitk.GetArrayFromImage(found), sitk.GetArrayFromImage(wanted))
        assert found.GetOrigin() == pytest.approx(wanted.GetOrigin())


def test_a_second_correction_is_told_as_a_new_version(talk, order, tmp_path):
    talk.say(**order)
    first = talk.hear()
    changed = label_map(ct(), np.s_[2:6, 6:9, 3:8])
    sitk.WriteImage(changed, order["labels"])
    talk.say(**{**order, "id": 2})
    event = talk.hear()
    assert (event["case"], event["version"]) == (first["case"], 2)
    assert event["message"].endswith("It is version 2 of the case.")


def test_a_scan_without_a_label_goes_in_by_itself_and_its_modality_is_guessed(talk, order):
    scan = {**order, "labels": None, "predicted": None, "prompts": [], "modality": None}
    talk.say(**scan)
    event = talk.hear()
    assert event["event"] == "result", event
    assert event["message"].endswith("without a label.")
    case = CaseLibrary.open(order["library"]).case(event["case"])
    assert case.modality == "CT" and case.label_path is None and case.version == 0


@pytest.mark.parametrize(
    ("changes", "kind", "words"),
    [
        ({"library": None}, "input", "'library' is missing"),
        ({"image": "/nowhere/scan.nii"}, "input", "There is no file"),
        ({"labels": "/nowhere/labels.nii"}, "input", "There is no file"),
        ({"prompts": []}, "input", "one or more prompts"),
        ({"prompts": ["tail"]}, "input", "tail"),
        ({"modality": "PT"}, "input", "'PT'"),
        ({"name": 5}, "input", "'name' cannot be 5"),
        ({"source": 5}, "input", "'source' cannot be 5"),
        ({"predicted": 5}, "input", "'predicted' cannot be 5"),
    ],
)
def test_a_case_that_cannot_be_kept_is_told_and_leaves_no_library(
    talk, order, changes, kind, words
):
    talk.say(**{**order, **changes})
    event = talk.hear()
    assert (event["event"], event["kind"]) == ("error", kind), event
    assert words in event["message"]
    library = Path(order["library"])
    assert not library.exists() or CaseLibrary.open(library).cases() == ()


def test_a_library_folder_that_cannot_be_made_is_an_error_of_the_library(talk, order):
    talk.say(**{**order, "library": order["image"]})
    event = talk.hear()
    assert event["event"] == "error" and "is a file; give a folder" in event["message"]


@pytest.fixture
def export(tmp_path: Path) -> dict[str, Any]:
    """A request to export a segmentation onto its DICOM series."""
    pytest.importorskip("highdicom")
    image = ct()
    series = write_series(image, tmp_path / "series", modality="CT", name="Anna")
    seg = write_segmentation(label_map(image), [LIVER], tmp_path / "s.seg.nrrd")
    sitk.WriteImage(image, str(tmp_path / "volume.nrrd"))
    return {
        "id": 7,
        "command": "export",
        "segmentation": str(seg),
        "series": [str(path) for path in series],
        "image": None,
        "modality": None,
        "name": "Anna",
        "output": str(tmp_path / "out" / "liver.dcm"),
    }


def test_an_export_writes_a_dicom_seg_on_the_series_that_is_given(talk, export):
    talk.say(**export)
    event = talk.hear()
    assert event["event"] == "result", event
    assert event["files"] == [export["output"]]
    assert event["message"] == "Wrote liver.dcm with 1 segment."


def test_an_export_without_a_series_makes_one_of_the_scan_first(talk, export, tmp_path):
    import highdicom
    import pydicom

    talk.say(**{**export, "series": None, "image": str(tmp_path / "volume.nrrd")})
    event = talk.hear()
    assert event["event"] == "result", event
    *images, output = event["files"]
    assert output == export["output"] and len(images) == 8
    assert str(tmp_path / "out" / "liver images") in event["message"]
    seg = highdicom.seg.segread(output)
    uids = [pydicom.dcmread(path).SOPInstanceUID for path in images]
    pixels = seg.get_pixels_by_source_instance(uids, assert_missing_frames_are_empty=True)
    expected = sitk.GetArrayFromImage(label_map(ct())) > 0
    np.testing.assert_array_equal(pixels[..., 0] > 0, expected)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"series": None}, "the DICOM files in 'series', or the scan in 'image'"),
        ({"series": []}, "one or more paths"),
        ({"series": ["/nowhere/1.dcm"]}, "could not be read"),
        ({"segmentation": "/nowhere/s.seg.nrrd"}, "There is no segmentation file"),
        ({"output": None}, "'output' is missing"),
    ],
)
def test_an_export_that_cannot_be_made_is_told_and_leaves_nothing(talk, export, changes, words):
    talk.say(**{**export, **changes})
    event = talk.hear()
    assert (event["event"], event["kind"]) == ("error", "input"), event
    assert words in event["message"]
    assert not Path(export["output"]).exists()


def test_a_kept_case_can_be_cancelled_before_it_is_begun(talk, order):
    """A line with both requests, so that the second is heard while the first is read."""
    big = {**order, "library": order["library"] + " 2"}
    lines = [
        json.dumps(r)
        for r in (order, {**big, "id": 2}, {"id": 3, "command": "cancel", "request": 2})
    ]
    talk.say_raw("\n".join(lines).encode())
    assert talk.hear()["event"] == "result"
    assert talk.hear() == {"event": "cancelled", "id": 2}
    assert not Path(big["library"]).exists()
