"""Many scans at once: what their results are called, what is done, and what failed."""

from __future__ import annotations

import csv
import functools
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from commands import Run, one_sentence
from versemi import batch
from versemi.cli import segment as segment_command
from versemi.manifest import Manifest, PromptSettings
from versemi.modelpack import ModelPack
from versemi.tasks import TASKS

PROMPTS = (PromptSettings(TASKS["spleen"]), PromptSettings(TASKS["liver"]))
MANIFEST = Manifest(name="stand-in", version="1", network={}, prompts=PROMPTS, groups={})
PACK = ModelPack(Path("packs/stand-in"), MANIFEST, digest="abc")


class StandIn:
    """Calls what is brighter than 100 by the first prompt; a scan of value 666 breaks it."""

    device = "cpu"

    def __init__(self) -> None:
        self.pack = PACK
        self.seen: list[int] = []

    def segment(self, image, tasks, *, roi=None, modality=None, progress=None, cancel=None):
        values = sitk.GetArrayFromImage(image)
        self.seen.append(int(values.max()))
        if values.max() == 666:
            raise ZeroDivisionError("of the beast")
        progress(0.5, "Looking")
        labels = sitk.GetImageFromArray((values > 100) * np.uint8(TASKS[tasks[0]].label))
        labels.CopyInformation(image)
        return SimpleNamespace(
            tasks=tuple(TASKS[task] for task in tasks),
            label_map=labels,
            uncertainty=lambda: sitk.Cast(labels, sitk.sitkFloat32),
            volumes_ml={task: float(values.max()) / 1000 for task in tasks},
            warnings=[],
        )


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    engine = StandIn()
    monkeypatch.setattr(segment_command, "load_pack", lambda path: engine.pack)
    monkeypatch.setattr(segment_command, "make_segmenter", lambda pack, device: engine)
    return engine


@pytest.fixture
def run(run: Run) -> Run:
    """Run ``versemi segment``."""
    return functools.partial(run, "segment")


def save(path: Path, value: int = 200) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.full((4, 5, 6), -900, np.int16)
    values[1:3] = value
    sitk.WriteImage(sitk.GetImageFromArray(values), str(path))
    return path


def report_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "segment_report.json").read_text())


def statuses(folder: Path) -> dict[str, str]:
    return {case["case"]: case["status"] for case in report_of(folder)["cases"]}


# What they are called ---------------------------------------------------------------------------


def test_results_of_scans_of_one_name_lie_side_by_side(engine, run, tmp_path):
    for site, value in (("site1", 201), ("site2", 202)):
        save(tmp_path / site / "ct.nii.gz", value)
    out = tmp_path / "out"
    both = (tmp_path / "site1", tmp_path / "site2")
    assert run(*both, "-t", "spleen", "-o", out)[0] == 0
    files = sorted(path.name for path in out.glob("*.seg.nrrd"))
    assert files == ["site1_ct.seg.nrrd", "site2_ct.seg.nrrd"]
    volumes = {case["case"]: case["volumes_ml"]["spleen"] for case in report_of(out)["cases"]}
    assert volumes == {"site1_ct": 0.201, "site2_ct": 0.202}


def test_a_later_run_never_takes_a_name_that_has_results_of_another_scan(engine, run, tmp_path):
    for site, value in (("site1", 201), ("site2", 202)):
        save(tmp_path / site / "ct.nii.gz", value)
    out = tmp_path / "out"
    for site in ("site1", "site2"):
        assert run(tmp_path / site, "-t", "spleen", "-o", out)[0] == 0
    assert run(tmp_path / "site1", tmp_path / "site2", "-t", "spleen", "-o", out)[0] == 0
    assert statuses(out) == {"ct": "already done", "site2_ct": "already done"}
    assert engine.seen == [201, 202]


# What failed ------------------------------------------------------------------------------------


def test_one_bad_scan_stops_no_other_and_the_report_says_why(engine, run, tmp_path):
    images = tmp_path / "images"
    save(images / "a.nii.gz", 201)
    (images / "b.nii.gz").write_bytes(b"no image")
    save(images / "c.nii.gz", 203)
    save(images / "d.nii.gz", 666)
    out = tmp_path / "out"
    code, printed, err = run(images, images / "gone.nii", "-t", "spleen", "-t", "liver", "-o", out)
    assert code == segment_command.SOME_FAILED == 1
    assert statuses(out) == {
        "a": "done",
        "b": "failed",
        "c": "done",
        "d": "failed",
        "gone": "failed",
    }
    reasons = {case["case"]: case["reason"] for case in report_of(out)["cases"]}
    assert reasons["a"] == "" and "b.nii.gz is not an image" in reasons["b"]
    assert "ZeroDivisionError: of the beast" in reasons["d"] and "test_batch.py" in reasons["d"]
    assert "There is no file" in reasons["gone"]
    # A table in the terminal, of what failed; a line a scan in the log.
    rows = [line.split()[0] for line in printed.splitlines()[1:] if line and line[0] != " "]
    assert rows[:3] == ["b", "d", "gone"] and "5 scans: 2 done, 3 failed" in printed
    assert "[3/5] c done" in err.splitlines() and "Traceback" not in err
    # And one for a spreadsheet.
    with (out / "segment_report.csv").open(encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["status"] for row in table] == ["done", "failed", "done", "failed", "failed"]
    assert table[2]["spleen_ml"] == table[2]["liver_ml"] == "0.203" and table[1]["liver_ml"] == ""
    assert table[1]["reason"] == reasons["b"] and table[1]["image"] == str(images / "b.nii.gz")


def test_what_failed_is_tried_again_and_what_is_done_is_not(engine, run, tmp_path):
    images, out = tmp_path / "images", tmp_path / "out"
    save(images / "a.nii.gz", 201)
    (images / "b.nii.gz").write_bytes(b"no image")
    assert run(images, "-t", "spleen", "-o", out)[0] == 1
    save(images / "b.nii.gz", 202)
    code, printed, err = run(images, "-t", "spleen", "-o", out)
    assert code == 0 and engine.seen == [201, 202]
    assert "2 scans: 1 done, 1 already done" in printed and "Failed" not in printed
    assert statuses(out) == {"a": "already done", "b": "done"}
    assert report_of(out)["cases"][0]["volumes_ml"] == {"spleen": 0.201}


def test_without_anything_to_do_the_model_is_not_even_loaded(engine, run, tmp_path, monkeypatch):
    image, out = save(tmp_path / "images" / "a.nii.gz"), tmp_path / "out"
    assert run(image.parent, "-t", "spleen", "-o", out)[0] == 0
    monkeypatch.setattr(segment_command, "make_segmenter", None)
    assert run(image.parent, "-t", "spleen", "-o", out)[0] == 0


# What is done -----------------------------------------------------------------------------------


@pytest.fixture
def once(engine, run, tmp_path):
    """A run over one folder has been; gives its image, its output, and how to run it again."""
    image = save(tmp_path / "images" / "a.nii.gz", 201)
    out = tmp_path / "out"

    def again(*more: Any, prompts: tuple[str, ...] = ("spleen", "liver")) -> int:
        """How many scans were segmented."""
        before = len(engine.seen)
        asked = [argument for prompt in prompts for argument in ("-t", prompt)]
        assert run(tmp_path / "images", *asked, "-o", out, *more)[0] == 0
        return len(engine.seen) - before

    assert again() == 1
    return SimpleNamespace(image=image, out=out, again=again)


def test_the_same_question_to_the_same_scan_is_not_asked_again(once):
    assert once.again() == 0
    assert once.again(prompts=("liver", "spleen", "liver")) == 0


def test_a_scan_that_was_only_touched_or_copied_is_the_same(once, tmp_path):
    os.utime(once.image, (1, 1))
    assert once.again() == 0
    shutil.move(tmp_path / "images", tmp_path / "old")
    (tmp_path / "images").mkdir()
    shutil.copy(tmp_path / "old" / "a.nii.gz", once.image)
    assert once.again() == 0


def test_another_scan_in_its_place_is_segmented(once):
    before = once.image.stat()
    # As long as the other, so that time and content have to tell them apart.
    content = bytearray(once.image.read_bytes())
    content[4] ^= 1  # the time in the header of gzip
    once.image.write_bytes(content)
    assert once.image.stat().st_size == before.st_size
    assert once.again() == 1


def test_another_question_is_asked(once):
    assert once.again(prompts=("spleen",)) == 1
    assert once.again("--roi=-3,3,-3,3,0,3", prompts=("spleen",)) == 1
    assert once.again("--roi=-3,3,-3,3,0,2", prompts=("spleen",)) == 1
    assert once.again("--roi=-3,3,-3,3,0,2", prompts=("spleen",)) == 0
    assert once.again("--modality", "CT") == 1
    assert once.again("--modality", "CT", "--no-uncertainty") == 1


def test_another_pack_is_asked_also_where_only_its_manifest_changed(once, engine):
    engine.pack = replace(PACK, digest="def")
    assert once.again() == 1
    other = (replace(PROMPTS[0], keep="largest"), PROMPTS[1])
    engine.pack = replace(engine.pack, manifest=replace(MANIFEST, prompts=other))
    assert once.again() == 1
    assert once.again() == 0


@pytest.mark.parametrize(
    "name", ["a.seg.nrrd", "a_label_map.nii.gz", "a_label_map.labels.csv", "a_uncertainty.nii.gz"]
)
def test_a_result_that_is_gone_is_made_again(once, name):
    (once.out / name).unlink()
    assert once.again() == 1 and (once.out / name).is_file()


def test_a_result_that_somebody_corrected_is_left_alone(once):
    (once.out / "a.seg.nrrd").write_text("corrected by hand")
    assert once.again() == 0
    assert (once.out / "a.seg.nrrd").read_text() == "corrected by hand"


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": 2}'])
def test_a_record_that_cannot_be_relied_on_is_none(once, content):
    (once.out / "a.versemi.json").write_text(content)
    assert once.again() == 1 and once.again() == 0


def test_voxels_in_a_file_of_their_own_count_as_the_scan(engine, run, tmp_path):
    image, out = save(tmp_path / "images" / "a.mhd", 201), tmp_path / "out"
    sitk.WriteImage(sitk.ReadImage(str(image)), str(image), False)
    voxels = image.with_suffix(".raw")
    assert run(image.parent, "-t", "spleen", "-o", out)[0] == 0
    content = np.frombuffer(voxels.read_bytes(), np.int16).copy()
    content[content == 201] = 202
    voxels.write_bytes(content.tobytes())
    assert run(image.parent, "-t", "spleen", "-o", out)[0] == 0
    assert engine.seen == [201, 202]


def test_a_run_that_is_interrupted_while_it_writes_leaves_no_case_that_passes_for_done(
    engine, run, tmp_path, monkeypatch
):
    images, out = tmp_path / "images", tmp_path / "out"
    for value in (201, 202, 203):
        save(images / f"{value}.nii.gz", value)
    assert run(images, "-t", "liver", "-o", out)[0] == 0
    written = batch.write_volume

    def interrupted(image, path):
        if "202" in path.name:
            raise KeyboardInterrupt
        return written(image, path)

    monkeypatch.setattr(batch, "write_volume", interrupted)
    assert run(images, "-t", "spleen", "-o", out)[0] == 130
    assert statuses(out) == {"201": "done", "202": "not reached", "203": "not reached"}
    monkeypatch.setattr(batch, "write_volume", written)
    engine.seen.clear()
    # Nor for done under the question before, whose files are half replaced.
    assert run(images, "-t", "liver", "-o", out)[0] == 0
    assert engine.seen == [201, 202]


# The command line -------------------------------------------------------------------------------


def test_a_command_that_cannot_be_carried_out_is_one_sentence_and_nothing_is_computed(
    engine, run, tmp_path
):
    images = save(tmp_path / "images" / "a.nii.gz").parent
    to = ("-t", "spleen", "-o", tmp_path / "out")
    sentence = one_sentence(run(images, "-t", "spleen", "-o", images))
    assert "holds the images" in sentence
    assert "holds the images" in one_sentence(
        run(images / "a.nii.gz", images / "b.nii.gz", "-t", "spleen", "-o", images)
    )
    assert "alone with it" in one_sentence(run(images, images, "--series", "1.2", *to))
    (tmp_path / "list.txt").touch()
    assert "names no image" in one_sentence(run(tmp_path / "list.txt", *to))
    assert "does not know" in one_sentence(run(images, "-t", "brain", *to[2:]))
    assert not (tmp_path / "out").exists()
    (tmp_path / "file").touch()
    assert "could not be written" in one_sentence(
        run(images, "-t", "spleen", "-o", tmp_path / "file")
    )
    assert engine.seen == []


def test_a_single_scan_leaves_no_report_and_takes_back_what_a_record_said(engine, run, tmp_path):
    image, out = save(tmp_path / "images" / "a.nii.gz"), tmp_path / "out"
    assert run(image, "-t", "spleen", "-o", out)[0] == 0
    assert len(list(out.iterdir())) == 4
    assert run(image.parent, "-t", "spleen", "-o", out)[0] == 0
    assert run(image, "-t", "liver", "-o", out)[0] == 0
    assert run(image.parent, "-t", "spleen", "-o", out)[0] == 0
    assert len(engine.seen) == 4


def test_all_asks_each_scan_by_its_own_modality_and_says_so(engine, run, tmp_path):
    images = tmp_path / "images"
    save(images / "ct.nii.gz")
    sitk.WriteImage(
        sitk.GetImageFromArray(np.arange(120, dtype=np.int16).reshape(4, 5, 6)),
        str(images / "mr.nii.gz"),
    )
    code, out, err = run(images, "--all", "-o", tmp_path / "out")
    assert code == 1 and statuses(tmp_path / "out") == {"ct": "done", "mr": "failed"}
    assert "Warning: ct: The scan is CT (guessed from the intensities" in err
    assert "has no prompts for MR" in out


def test_dicom_beside_images_is_left_out_aloud(engine, run, tmp_path):
    mixed = save(tmp_path / "mixed" / "a.nii.gz").parent
    write_series(mixed, 202)
    code, _, err = run(mixed, "-t", "spleen", "-o", tmp_path / "out")
    assert code == 0 and statuses(tmp_path / "out") == {"a": "done"}
    assert "mixed holds images and DICOM; only the images are taken" in err


def test_a_folder_of_dicom_series_is_segmented_series_by_series(engine, run, tmp_path):
    study = tmp_path / "study"
    for series, value in (("s1", 201), ("s2", 202)):
        write_series(study / series, value)
    out = tmp_path / "out"
    code, _, err = run(study, "-t", "spleen", "-o", out)
    assert code == 0, err
    assert engine.seen == [201, 202] and statuses(out) == {"s1": "done", "s2": "done"}
    write_series(study / "s2", 203)
    assert run(study, "-t", "spleen", "-o", out)[0] == 0
    assert engine.seen == [201, 202, 203] and statuses(out)["s1"] == "already done"


def write_series(folder: Path, value: int) -> None:
    """Three slices of CT. By pydicom, for GDCM would turn the process's locale into C."""
    folder.mkdir(parents=True, exist_ok=True)
    for z in range(3):
        uid = f"1.2.826.0.1.3680043.2.1125.1.{z + 1}"
        slice_ = Dataset()
        slice_.file_meta = FileMetaDataset()
        slice_.file_meta.MediaStorageSOPClassUID = slice_.SOPClassUID = CTImageStorage
        slice_.file_meta.MediaStorageSOPInstanceUID = slice_.SOPInstanceUID = uid
        slice_.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        slice_.StudyInstanceUID, slice_.SeriesInstanceUID = "1.2.3", "1.2.3.4"
        slice_.Modality, slice_.InstanceNumber = "CT", z + 1
        slice_.ImagePositionPatient = [0, 0, z]
        slice_.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        slice_.PixelSpacing, slice_.SliceThickness = [1, 1], 1
        slice_.Rows, slice_.Columns, slice_.SamplesPerPixel = 5, 6, 1
        slice_.PhotometricInterpretation = "MONOCHROME2"
        slice_.BitsAllocated, slice_.BitsStored, slice_.HighBit = 16, 16, 15
        slice_.PixelRepresentation = 1
        values = np.full((5, 6), -900, "<i2")
        values[1:3] = value
        slice_.PixelData = values.tobytes()
        slice_.save_as(folder / f"{z}.dcm", enforce_file_format=True)
