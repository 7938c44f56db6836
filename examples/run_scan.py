"""One scan through Slicer's MRML: load, segment with the module's logic, save, export, draw."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from picture import Found, Scene, draw
from scans import REPOSITORY, DemoScan
from slices import ras_bounds
from surfaces import Camera
from surroundings import segment_surface, surroundings

sys.path.insert(0, str(REPOSITORY / "Testing"))

from SlicerRuntime import start  # noqa: E402

slicer = start()

from versemi.export import write_label_map  # noqa: E402
from versemi.tasks import get_task  # noqa: E402
from VerSemiSlicerLib import ModuleLogic, VolumeInput  # noqa: E402
from VerSemiSlicerLib.SegmentationResult import SegmentationRequest  # noqa: E402

Tell = Callable[[float, str], None]


@dataclass(frozen=True)
class ScanReport:
    """What a run brought.

    Attributes:
        scan: what was asked.
        found: the segments, in label order.
        seconds: by step, in the order they were taken.
        warnings: sentences of the engine.
        device: what computed.
        files: what was written.
        picture: the one of them that is the picture.
    """

    scan: DemoScan
    found: Sequence[Found]
    seconds: dict[str, float]
    warnings: Sequence[str]
    device: str
    files: Sequence[Path]
    picture: Path


class Runner:
    """Runs scans one after the other with one warm worker.

    Args:
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
    """

    def __init__(self, device: str) -> None:
        self._logic = ModuleLogic.makeLogic()
        self._device = device

    @property
    def pack(self) -> str:
        """Name and version of the model."""
        return f"{self._logic.catalog.packName} {self._logic.catalog.packVersion}"

    def close(self) -> None:
        """End the worker."""
        self._logic.close()

    def run(self, scan: DemoScan, out: Path, tell: Tell) -> ScanReport:
        """Run one scan; UserError where it cannot be segmented."""
        slicer.mrmlScene.Clear(0)
        clock = _Clock()
        with clock.step("load the scan"):
            volume = slicer.util.loadVolume(str(scan.image))
            roi = _add_roi(scan, volume)
        request = SegmentationRequest(
            volumeNode=volume,
            prompts=scan.prompts,
            roiNode=roi,
            modality=scan.modality,
            device=self._device,
        )
        self._logic.progressed.connect(tell)
        try:
            with clock.step("segment, all together"):
                result = self._logic.segment(request)
        finally:
            self._logic.progressed.disconnect(tell)
        for step, seconds in result.timings.items():
            clock.seconds[f"  in the engine: {step}"] = float(seconds)

        node = result.segmentationNode
        seg_path = out / f"{scan.name}.seg.nrrd"
        with clock.step("save the segmentation"):
            if not slicer.util.saveNode(node, str(seg_path)):
                raise OSError(f"{seg_path} could not be written.")
        with clock.step("export the label map"):
            labels = _labels(node, volume, scan.prompts)
            exported = write_label_map(
                _as_image(labels, volume),
                [get_task(prompt) for prompt in self._logic.catalog.inOrder(scan.prompts)],
                out / f"{scan.name}_labels.nii.gz",
            )
        found = _found(self._logic, result, scan, labels)
        picture = out / f"{scan.name}.png"
        with clock.step("draw the picture"):
            tell(1.0, "Drawing the picture")
            draw(_scene(scan, volume, node, labels, found, result.device, self.pack), picture)
        files = [seg_path, *exported, picture]
        return ScanReport(
            scan, found, clock.seconds, result.warnings, result.device, files, picture
        )


class _Clock:
    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        # Its place in the order is where it began.
        self.seconds[name] = 0.0
        yield
        self.seconds[name] = time.perf_counter() - started


def _add_roi(scan: DemoScan, volume: Any) -> Any:
    if scan.roi is None:
        return None
    roi = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "Region")
    roi.SetCenter(*((scan.roi[0] + scan.roi[1]) / 2))
    roi.SetSize(*(scan.roi[1] - scan.roi[0]))
    roi.SetAndObserveTransformNodeID(volume.GetTransformNodeID())
    return roi


def _labels(node: Any, volume: Any, prompts: Sequence[str]) -> np.ndarray:
    """The segments as MRML holds them, as one label map ``(k, j, i)`` on the volume's voxels."""
    labels = np.zeros(slicer.util.arrayFromVolume(volume).shape, np.uint8)
    for prompt, segment_id in _segments(node, prompts).items():
        mask = slicer.util.arrayFromSegmentBinaryLabelmap(node, segment_id, volume)
        if mask is not None:
            labels[mask > 0] = get_task(prompt).label
    return labels


def _segments(node: Any, prompts: Sequence[str]) -> dict[str, str]:
    """The segment of each prompt, by the name that the module gave it."""
    segmentation = node.GetSegmentation()
    return {
        prompt: segmentation.GetSegmentIdBySegmentName(get_task(prompt).name) for prompt in prompts
    }


def _as_image(labels: np.ndarray, volume: Any) -> sitk.Image:
    """A label map with the volume's geometry, in LPS as SimpleITK has it."""
    matrix = np.diag([-1.0, -1.0, 1.0, 1.0]) @ VolumeInput.ijkToRas(volume)
    spacing = np.linalg.norm(matrix[:3, :3], axis=0)
    image = sitk.GetImageFromArray(labels)
    image.SetOrigin(matrix[:3, 3].tolist())
    image.SetSpacing(spacing.tolist())
    image.SetDirection((matrix[:3, :3] / spacing).ravel().tolist())
    return image


def _found(logic: Any, result: Any, scan: DemoScan, labels: np.ndarray) -> list[Found]:
    reference = None
    if scan.reference is not None:
        reference_node = slicer.util.loadLabelVolume(str(scan.reference))
        reference = slicer.util.arrayFromVolume(reference_node)
    found = []
    for prompt, row in zip(logic.catalog.inOrder(scan.prompts), result.rows, strict=True):
        label = get_task(prompt).label
        dice = None
        if reference is not None:
            dice = _dice(labels == label, reference == scan.values[prompt])
        red, green, blue = (channel / 255 for channel in row.color)
        found.append(Found(row.name, label, (red, green, blue), row.volumeMl, dice))
    return found


def _dice(one: np.ndarray, other: np.ndarray) -> float | None:
    """Overlap of two masks; None where both are empty, which says nothing."""
    total = int(one.sum()) + int(other.sum())
    return 2.0 * int((one & other).sum()) / total if total else None


def _scene(
    scan: DemoScan,
    volume: Any,
    node: Any,
    labels: np.ndarray,
    found: Sequence[Found],
    device: str,
    pack: str,
) -> Scene:
    image = slicer.util.arrayFromVolume(volume)
    ijk_to_ras = VolumeInput.ijkToRas(volume)
    node.CreateClosedSurfaceRepresentation()
    names = {segment.name: segment.color for segment in found}
    solid = [
        segment_surface(node, segment_id, names[get_task(prompt).name])
        for prompt, segment_id in _segments(node, scan.prompts).items()
    ]
    around = surroundings(scan.surroundings, image, labels, ijk_to_ras)
    shown = None
    if scan.around is not None and (scan.roi is not None or labels.any()):
        box = scan.roi if scan.roi is not None else _bounds(labels, ijk_to_ras)
        shown = box + np.array([[-scan.around], [scan.around]])
    if scan.modality == "CT":
        window = (-120.0, 260.0)
    else:
        low, high = np.percentile(image[image > image.min()], (0.5, 99.9))
        window = (float(low), float(high))
    return Scene(
        title=scan.title,
        subtitle=f"Segmented by VerSemiSlicer with {pack} on {device}. Not a medical device.",
        image=image,
        labels=labels,
        ijk_to_ras=ijk_to_ras,
        window=window,
        found=found,
        surfaces=[*solid, *around],
        camera=Camera(scan.looks_from),
        framed=solid if scan.roi is None and labels.any() else None,
        roi=scan.roi,
        shown=shown,
    )


def _bounds(labels: np.ndarray, ijk_to_ras: np.ndarray) -> np.ndarray:
    """The RAS box around all that is labelled, ``(2, 3)``."""
    index = np.argwhere(labels)[:, ::-1]
    return ras_bounds(ijk_to_ras, index.min(axis=0), index.max(axis=0))
