"""The module over the real worker, with a pack of random weights: the two speak one protocol."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer

from VerSemiSlicerLib.Errors import UserError
from VerSemiSlicerLib.ModuleLogic import makeModel
from VerSemiSlicerLib.SegmentationLogic import SegmentationLogic
from VerSemiSlicerLib.SegmentationResult import SegmentationRequest
from VerSemiSlicerLib.WorkerCommand import WorkerCommand
from VerSemiSlicerLib.WorkerLink import WorkerLink
from VerSemiSlicerLib.WorkerProcess import WorkerProcess

THREADS = {"OMP_NUM_THREADS": "2"}
GRID = np.diag([-2.0, 2.0, 3.0, 1.0])


def logic_over(pack: Path, folder: Path) -> SegmentationLogic:
    def start(device: str) -> WorkerProcess:
        command = WorkerCommand(python=sys.executable, environment=THREADS)
        return WorkerProcess(command.line(pack, device), command.fullEnvironment())

    catalog = makeModel(str(pack)).catalog
    return SegmentationLogic(catalog, WorkerLink(start), str(folder))


@pytest.fixture(scope="module")
def engine_logic(
    tiny_pack: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SegmentationLogic]:
    """One worker for all tests of this file: it takes some seconds to start."""
    made = logic_over(tiny_pack, tmp_path_factory.mktemp("Aufnahmen für VerSemi"))
    yield made
    made.close()


def noise(shape: tuple[int, int, int] = (40, 44, 48)) -> np.ndarray:
    values = np.random.default_rng(1).normal(60, 60, shape).astype(np.int16)
    values[:, :6] = -1000
    return values


def test_the_catalog_is_the_packs(tiny_pack: Path) -> None:
    catalog = makeModel(str(tiny_pack)).catalog
    assert (catalog.packName, catalog.packVersion) == ("tiny", "0.0.1")
    assert len(catalog.tasks) == 17
    assert "foreground" not in catalog
    assert [title for title, _ in catalog.groups()] == [
        "Heart \N{MIDDLE DOT} MR",
        "Chest \N{MIDDLE DOT} CT",
        "Abdomen \N{MIDDLE DOT} CT",
        "Brain \N{MIDDLE DOT} MR",
    ]


def test_a_left_handed_volume_under_a_transform_is_segmented_by_the_real_engine(
    engine_logic: SegmentationLogic, add_volume: Any
) -> None:
    volume = add_volume(GRID, values=noise())
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    volume.SetAndObserveTransformNodeID(transform.GetID())

    result = engine_logic.segment(
        SegmentationRequest(
            volume, ["left_kidney", "liver"], modality="CT", wantsUncertainty=True, device="cpu"
        )
    )

    node = result.segmentationNode
    assert node.GetParentTransformNode() is transform
    assert [row.segmentId for row in result.rows] == ["liver", "left_kidney"]
    assert result.device.startswith("cpu")
    assert result.timings
    for row in result.rows:
        count = 0
        if row.volumeMl:
            mask = slicer.util.arrayFromSegmentBinaryLabelmap(node, row.segmentId, volume)
            count = int((mask > 0).sum())
        assert row.volumeMl == pytest.approx(count * 0.012, rel=1e-3)
    uncertainty = slicer.util.arrayFromVolume(result.uncertaintyNode)
    assert uncertainty.shape == noise().shape
    assert 0 <= uncertainty.min() <= uncertainty.max() <= 1


def test_the_engine_refuses_what_only_it_can_see_in_its_own_sentence(
    engine_logic: SegmentationLogic, add_volume: Any
) -> None:
    volume = add_volume(values=np.full((20, 20, 20), 7, np.int16))
    with pytest.raises(UserError, match="7"):
        engine_logic.segment(SegmentationRequest(volume, ["liver"], device="cpu"))


def test_an_roi_outside_the_volume_is_refused_by_the_engine(
    engine_logic: SegmentationLogic, add_volume: Any
) -> None:
    roi = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode")
    roi.SetCenter(5000.0, 0.0, 0.0)
    roi.SetSize(20.0, 20.0, 20.0)
    with pytest.raises(UserError, match="(?i)region of interest"):
        engine_logic.segment(
            SegmentationRequest(add_volume(values=noise()), ["liver"], roiNode=roi, device="cpu")
        )


def test_prompts_of_other_modalities_warn_and_are_answered(
    engine_logic: SegmentationLogic, add_volume: Any
) -> None:
    result = engine_logic.segment(
        SegmentationRequest(
            add_volume(GRID, values=noise()), ["left_atrium"], modality="CT", device="cpu"
        )
    )
    assert len(result.rows) == 1
    assert any("MR" in warning for warning in result.warnings)


def test_the_real_worker_can_be_cancelled_killed_and_revived(
    engine_logic: SegmentationLogic, add_volume: Any
) -> None:
    outcomes: list[str] = []
    engine_logic.cancelled.connect(lambda: outcomes.append("cancelled"))
    engine_logic.failed.connect(lambda sentence, detail: outcomes.append(sentence))
    volume = add_volume(values=noise((80, 90, 90)))
    request = SegmentationRequest(volume, ["liver"], modality="CT", device="cpu")

    engine_logic.start(request)
    engine_logic.poll()
    engine_logic.cancel()
    engine_logic.waitUntilDone(timeout=60)
    assert outcomes == ["cancelled"]

    engine_logic.start(request)
    worker = engine_logic.worker
    assert isinstance(worker, WorkerProcess)
    time.sleep(0.05)
    os.kill(worker.pid, signal.SIGKILL)
    engine_logic.waitUntilDone(timeout=60)
    revived = engine_logic.segment(
        SegmentationRequest(
            add_volume(GRID, values=noise()), ["spleen"], modality="CT", device="cpu"
        )
    )
    assert len(revived.rows) == 1


def test_a_corrected_result_goes_into_a_library_and_to_dicom_through_the_real_worker(
    engine_logic: SegmentationLogic, add_volume: Any, tmp_path: Path
) -> None:
    pytest.importorskip("highdicom")
    from versemi.caselibrary import CaseLibrary
    from VerSemiSlicerLib import Segments
    from VerSemiSlicerLib.ExportFormat import ExportFormat
    from VerSemiSlicerLib.ExportLogic import ExportLogic, ExportRequest
    from VerSemiSlicerLib.LibraryLogic import KeepRequest, LibraryLogic

    volume = add_volume(GRID, values=noise())
    node = engine_logic.segment(
        SegmentationRequest(volume, ["liver"], modality="CT", device="cpu")
    ).segmentationNode
    mask = np.zeros(noise().shape, np.uint8)
    mask[10:20, 10:20, 10:20] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(mask, node, "liver", volume)
    Segments.setReviewed(node.GetSegmentation().GetSegment("liver"), True)
    said: list[Any] = []
    link, catalog = engine_logic.link, engine_logic.catalog
    library, export = LibraryLogic(catalog, link), ExportLogic(catalog, link)
    for client in (library, export):
        client.finished.connect(said.append)
        client.failed.connect(lambda sentence, detail: said.append(sentence))

    library.start(KeepRequest(str(tmp_path / "library"), volume, node, "CT"))
    link.waitUntilIdle(timeout=60)
    format, folder = ExportFormat.DICOM, str(tmp_path / "export")
    export.start(ExportRequest(volume, node, ["liver"], format, folder, True, "CT"))
    link.waitUntilIdle(timeout=60)

    case, written = said
    (kept,) = CaseLibrary.open(tmp_path / "library").cases()
    assert (kept.id, kept.prompts, kept.parent) == (case.case, ("liver",), "tiny 0.0.1")
    assert kept.predicted_path is not None
    assert len(written.files) == noise().shape[0] + 1
    assert all(Path(file).is_file() for file in written.files)


def test_a_damaged_pack_is_told_in_the_engines_sentence(
    tiny_pack: Path, tmp_path: Path, add_volume: Any
) -> None:
    """Damaged after the panel was opened: the worker finds it out when it starts."""
    import shutil

    pack = tmp_path / "pack"
    shutil.copytree(tiny_pack, pack)
    logic = logic_over(pack, tmp_path)
    weights = pack / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    try:
        with pytest.raises(UserError, match="damaged"):
            logic.segment(SegmentationRequest(add_volume(values=noise((20, 20, 20))), ["liver"]))
    finally:
        logic.close()
