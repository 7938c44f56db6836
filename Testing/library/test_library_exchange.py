"""Other programs read a library and what it exports: nnU-Net v2 and MONAI."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import phantoms
import pytest
import SimpleITK as sitk

from versemi.caselibrary import CaseLibrary
from versemi.caselibrary.nnunet import remap
from versemi.errors import InputError, OutputError
from versemi.tasks import TASKS


def add(library, number, *, mr=False, **planes):
    scan = phantoms.mr(number) if mr else phantoms.ct(number)
    labels = phantoms.labels(scan, **planes) if planes else None
    modality = "MR" if mr else "CT"
    return library.add(
        scan, name=f"n{number}", modality=modality, labels=labels, prompts=list(planes)
    )


@pytest.fixture
def filled(library) -> CaseLibrary:
    add(library, 1, liver=[1], spleen=[3])
    add(library, 2, liver=[0, 1])
    add(library, 3, spleen=[2], left_kidney=[4])
    add(library, 4)
    return library


def test_export_ignores_what_a_label_does_not_cover(filled, tmp_path):
    filled.export_nnunet(tmp_path / "Dataset101_A")
    description = json.loads((tmp_path / "Dataset101_A/dataset.json").read_text())
    assert description["labels"] == {
        "background": 0,
        "spleen": 1,
        "liver": 2,
        "left_kidney": 3,
        "ignore": 4,
    }
    assert description["channel_names"] == {"0": "CT"}
    assert (description["numTraining"], description["file_ending"]) == (3, ".nii.gz")
    planes = {
        n: phantoms.planes(sitk.ReadImage(str(tmp_path / f"Dataset101_A/labelsTr/n{n}.nii.gz")))
        for n in (1, 2, 3)
    }
    # Nobody looked for kidneys in the first two, nor for a spleen in the second.
    assert planes == {1: [4, 2, 4, 1, 4], 2: [2, 2, 4, 4, 4], 3: [4, 4, 1, 4, 3]}
    image = sitk.ReadImage(str(tmp_path / "Dataset101_A/imagesTr/n1_0000.nii.gz"))
    assert np.array_equal(sitk.GetArrayFromImage(image), sitk.GetArrayFromImage(phantoms.ct(1)))
    assert not (tmp_path / "Dataset101_A/imagesTr/n4_0000.nii.gz").exists()


def test_export_of_some_prompts_takes_the_others_for_background(filled, tmp_path):
    filled.export_nnunet(tmp_path / "out", prompts=["spleen"])
    description = json.loads((tmp_path / "out/dataset.json").read_text())
    assert description["labels"] == {"background": 0, "spleen": 1}
    assert [entry["case"] for entry in description["training"]] == ["n1", "n3"]
    label = sitk.ReadImage(str(tmp_path / "out/labelsTr/n3.nii.gz"))
    # The kidney is known not to be spleen.
    assert phantoms.planes(label) == [0, 0, 1, 0, 0]


def test_remap_keeps_to_what_is_known():
    spleen, liver, kidney = (TASKS[id] for id in ("spleen", "liver", "left_kidney"))
    labels = np.array([[[0, spleen.label, kidney.label]]], np.uint8)
    assert remap(labels, [spleen, kidney], [spleen, liver]).tolist() == [[[3, 1, 0]]]
    assert remap(labels, [spleen, kidney], [kidney]).tolist() == [[[0, 0, 1]]]


def test_export_wants_one_modality(filled, tmp_path):
    add(filled, 5, mr=True, left_atrium=[2])
    with pytest.raises(InputError, match="CT and MR, and a data set of nnU-Net has one"):
        filled.export_nnunet(tmp_path / "out")
    filled.export_nnunet(tmp_path / "out", modality="MR")
    description = json.loads((tmp_path / "out/dataset.json").read_text())
    assert description["channel_names"] == {"0": "MR"} and description["numTraining"] == 1


def test_export_says_what_keeps_it(filled, library, tmp_path):
    empty = CaseLibrary.create(tmp_path / "empty")
    with pytest.raises(InputError, match="no labelled case"):
        empty.export_nnunet(tmp_path / "out")
    with pytest.raises(InputError, match="a label that covers pancreas"):
        filled.export_nnunet(tmp_path / "out", prompts=["pancreas"])
    with pytest.raises(InputError, match="prompt 'brain'"):
        filled.export_nnunet(tmp_path / "out", prompts=["brain"])
    with pytest.raises(InputError, match="not empty; give a new folder"):
        filled.export_nnunet(library.folder)
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="choose another folder"):
        filled.export_nnunet(tmp_path / "file" / "out")
    filled.case("n2").label_path.write_bytes(b"")
    with pytest.raises(InputError, match="run 'versemi library verify'"):
        filled.export_nnunet(tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a library é", "empty", "file"]


def test_monai_reads_the_lists_of_a_library_and_of_its_export(filled, tmp_path):
    datalist = pytest.importorskip("monai.data.decathlon_datalist")
    filled.export_nnunet(tmp_path / "out")
    for folder in (filled.folder, tmp_path / "out"):
        read = datalist.load_decathlon_datalist(str(folder / "dataset.json"), True, "training")
        assert [entry["case"] for entry in read] == ["n1", "n2", "n3"]
        assert [entry["prompts"] for entry in read][0] == ["spleen", "liver"]
        for entry in read:
            image, label = (sitk.ReadImage(entry[key]) for key in ("image", "label"))
            assert image.GetSize() == label.GetSize() == phantoms.SHAPE[::-1]
    unlabelled = datalist.load_decathlon_datalist(
        str(filled.folder / "dataset.json"), True, "unlabelled"
    )
    assert [entry["case"] for entry in unlabelled] == ["n4"]


CHECK = """
import multiprocessing.dummy, sys
from types import SimpleNamespace
from nnunetv2.experiment_planning import verify_dataset_integrity as integrity

# Threads do what its processes would, of which each would first import all of it again.
integrity.multiprocessing = SimpleNamespace(get_context=lambda method: multiprocessing.dummy)
for folder in sys.argv[1:]:
    try:
        integrity.verify_dataset_integrity(folder, num_processes=1)
    except RuntimeError as error:
        print("Refused:", error)
"""


def test_nnunet_finds_no_fault_with_a_library_nor_with_its_export(filled, tmp_path, environment):
    """Its own integrity check, in a process of its own as it starts others."""
    pytest.importorskip("nnunetv2", reason="nnU-Net v2 is not installed here")
    good, bad = tmp_path / "Dataset101_Good", tmp_path / "Dataset102_Bad"
    for folder in (good, bad):
        filled.export_nnunet(folder)
    description = json.loads((bad / "dataset.json").read_text())
    del description["labels"]["ignore"]
    (bad / "dataset.json").write_text(json.dumps(description))
    done = subprocess.run(
        [sys.executable, "-c", CHECK, *map(str, (filled.folder, good, bad))],
        capture_output=True,
        text=True,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    whole, _, faulty = done.stdout.rpartition("verify_dataset_integrity Done")
    assert whole.count("verify_dataset_integrity Done") == 1
    assert "Error" not in whole and "mismatch" not in whole
    # The check does look: a value without a name does not pass.
    assert "Unexpected labels found" in faulty and "Refused" in faulty
