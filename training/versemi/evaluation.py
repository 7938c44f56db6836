"""Measuring: overlap and surface distances of a pack on labelled cases, each on its own grid."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import SimpleITK as sitk

from versemi.errors import InputError
from versemi.export import write_text
from versemi.geometry import bounding_box
from versemi.images import read_image, read_label_map, same_grid
from versemi.tasks import get_task

if TYPE_CHECKING:
    from versemi.calibration import Calibration
    from versemi.geometry import Roi
    from versemi.inference import Segmenter

METRICS = ("dice", "jaccard", "hd95_mm", "assd_mm")
RULE = (
    "Per case, on the grid of its own file, distances in mm between voxel centres of the surfaces:"
    " hd95_mm is the larger of the two directed 95th percentiles, assd_mm the mean over both"
    " surfaces. Reference and prediction both empty: nothing is defined, the case is left out of"
    " the means and counted as both_empty. Only one of them empty: dice and jaccard are 0, the"
    " distances are undefined (null) and left out, and the case is counted as missed (nothing"
    " found) or false_positive (nothing there). A task's mean is over its cases; the mean in all"
    " is the mean of the tasks' means."
)
_SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".mha", ".mhd", ".nhdr")


@dataclass(frozen=True)
class Scores:
    """What a prediction is worth; None where a number is undefined.

    Attributes:
        dice: 0..1.
        jaccard: 0..1.
        hd95_mm: 95% Hausdorff distance.
        assd_mm: average symmetric surface distance.
        outcome: ``"both_present"``, ``"both_empty"``, ``"missed"`` or ``"false_positive"``.
    """

    dice: float | None
    jaccard: float | None
    hd95_mm: float | None
    assd_mm: float | None
    outcome: str


@dataclass(frozen=True)
class LabelledCase:
    """An image and the label map of the same name."""

    name: str
    image: Path
    label: Path


def score(
    prediction: np.ndarray, reference: np.ndarray, spacing: tuple[float, float, float]
) -> Scores:
    """Compare two masks.

    Args:
        prediction: bool, (D, H, W).
        reference: bool, (D, H, W).
        spacing: mm along W, H, D, in SimpleITK's order.
    """
    found, there = int(prediction.sum()), int(reference.sum())
    if not found and not there:
        return Scores(None, None, None, None, "both_empty")
    if not found or not there:
        return Scores(0.0, 0.0, None, None, "false_positive" if found else "missed")
    common = int((prediction & reference).sum())
    to_reference, to_prediction = surface_distances(prediction, reference, spacing)
    return Scores(
        dice=2 * common / (found + there),
        jaccard=common / (found + there - common),
        hd95_mm=float(max(np.percentile(d, 95) for d in (to_reference, to_prediction))),
        assd_mm=float(np.concatenate([to_reference, to_prediction]).mean()),
        outcome="both_present",
    )


def surface_distances(
    first: np.ndarray, second: np.ndarray, spacing: tuple[float, float, float]
) -> tuple[np.ndarray, np.ndarray]:
    """Distance of every surface voxel of each mask to the nearest surface voxel of the other.

    A surface voxel has a face neighbour outside the mask, and outside the image counts as such.
    Computed in the box around both masks, by exact Euclidean distance maps (Maurer et al., *A
    linear time algorithm for computing exact Euclidean distance transforms*, IEEE TPAMI 2003).

    Args:
        first: bool, (D, H, W), not empty.
        second: bool, (D, H, W), not empty.
        spacing: mm along W, H, D.

    Returns:
        Millimetres, one per surface voxel of `first` and of `second`.
    """
    box = bounding_box(first | second)
    assert box is not None
    surfaces = [_surface(mask[box], spacing) for mask in (first, second)]
    distances = [
        sitk.GetArrayFromImage(
            # Inside its object the map is negative, and a surface has no inside: all zero there.
            sitk.Abs(
                sitk.SignedMaurerDistanceMap(surface, squaredDistance=False, useImageSpacing=True)
            )
        )
        for surface in surfaces
    ]
    on_first, on_second = (sitk.GetArrayViewFromImage(s).astype(bool) for s in surfaces)
    return distances[1][on_first], distances[0][on_second]


def find_cases(folder: str | PathLike[str], names: Sequence[str] = ()) -> list[LabelledCase]:
    """List the labelled cases of a folder in the Decathlon or nnU-Net layout.

    Args:
        folder: holds ``imagesTr/`` and ``labelsTr/`` with the same file names; nnU-Net's
            ``_0000`` at the end of an image's name is allowed for.
        names: restrict to these cases, in this order; all of them where empty.

    Raises:
        InputError: a folder is missing, there is no label, a label has no image, or a name is
            unknown.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"There is no folder {folder}; check the path.")
    for part in ("imagesTr", "labelsTr"):
        if not (folder / part).is_dir():
            raise InputError(
                f"{folder} has no folder {part}; scans belong into imagesTr and label maps of the"
                " same name into labelsTr."
            )
    images = files_by_case(folder / "imagesTr")
    labels = files_by_case(folder / "labelsTr")
    if not labels:
        raise InputError(f"{folder / 'labelsTr'} holds no label map; nothing can be measured.")
    cases = []
    for name in names or sorted(labels):
        if name not in labels:
            raise InputError(
                f"There is no case {name} among the {len(labels)} in {folder / 'labelsTr'}; they"
                f" have names such as {', '.join(sorted(labels)[:3])}."
            )
        image = images.get(name, images.get(f"{name}_0000"))
        if image is None:
            raise InputError(
                f"The label {labels[name].name} has no image of that name in"
                f" {folder / 'imagesTr'}; add the scan or take the label away."
            )
        cases.append(LabelledCase(name, image, labels[name]))
    return cases


def evaluate(
    segmenter: Segmenter,
    cases: Sequence[LabelledCase],
    labels: Mapping[str, int],
    *,
    roi: Roi | None = None,
    progress: Callable[[float, str], None] | None = None,
    calibration: Calibration | None = None,
) -> dict[str, Any]:
    """Segment every case and compare with its label; one inference a case serves all tasks.

    Args:
        segmenter: does the segmenting.
        cases: what to measure on, at least one.
        labels: for each task identifier its value in the label maps.
        roi: restricts the segmentation of every case.
        progress: called with a fraction 0..1 and a sentence.
        calibration: counts every case too, which takes longer than the segmenting.

    Returns:
        Plain data for JSON: ``mean``, ``cases``, ``tasks``, ``rule``, ``pack``, ``device`` and,
        where it was asked for, ``calibration``. Dice and Jaccard are fractions 0..1, an undefined
        number is None.

    Raises:
        InputError: a case cannot be read, its label lies on another grid, or a label value occurs
            in no case.
    """
    _check_cases(cases, labels)
    modalities = {get_task(task).modality for task in labels}
    modality = modalities.pop() if len(modalities) == 1 else None
    rows: list[dict[str, Any]] = []
    warnings: list[str] = []
    for index, case in enumerate(cases):
        image, reference = _read_pair(case)
        report = _share(progress, index, len(cases), case.name)
        result = segmenter.segment(image, list(labels), roi=roi, modality=modality, progress=report)
        warnings += [f"{case.name}: {text}" for text in result.warnings]
        if calibration:
            calibration.add(result, reference)
        predicted = sitk.GetArrayViewFromImage(result.label_map)
        volume = math.prod(image.GetSpacing()) / 1000
        for task, value in labels.items():
            found, there = predicted == get_task(task).label, reference == value
            rows.append(
                {
                    "case": case.name,
                    "task": task,
                    **asdict(score(found, there, image.GetSpacing())),
                    "volume_ml": round(float(found.sum()) * volume, 3),
                    "reference_ml": round(float(there.sum()) * volume, 3),
                }
            )
    tasks = {task: _summary([r for r in rows if r["task"] == task]) for task in labels}
    return {
        "mean": {m: mean_of_known([summary[m] for summary in tasks.values()]) for m in METRICS},
        "tasks": {task: {"label": labels[task], **tasks[task]} for task in tasks},
        "cases": rows,
        "warnings": warnings,
        "rule": RULE,
        "pack": {"name": segmenter.pack.name, "version": segmenter.pack.version},
        "device": segmenter.device,
        **({"calibration": calibration.report()} if calibration else {}),
    }


def write_report(report: Mapping[str, Any], path: str | PathLike[str]) -> Path:
    """Write what `evaluate` returned as JSON, whole or not at all.

    Raises:
        OutputError: it could not be written.
    """
    return write_text(json.dumps(report, indent=1, allow_nan=False) + "\n", path)


def _surface(mask: np.ndarray, spacing: tuple[float, float, float]) -> sitk.Image:
    """Surface voxels of a mask as a uint8 image with a rim of one voxel around it."""
    image = sitk.GetImageFromArray(np.pad(mask, 1).astype(np.uint8))
    image.SetSpacing(spacing)
    inside = sitk.BinaryErode(image, [1, 1, 1], sitk.sitkCross, 0, 1, False)
    return image - inside


def files_by_case(folder: Path) -> dict[str, Path]:
    """The images of a folder by their names without suffix."""
    cases = {}
    for path in sorted(folder.iterdir()):
        suffix = next((s for s in _SUFFIXES if path.name.lower().endswith(s)), None)
        if suffix and not path.name.startswith("."):
            cases[path.name[: -len(suffix)]] = path
    return cases


def _read_pair(case: LabelledCase) -> tuple[sitk.Image, np.ndarray]:
    image = read_image(case.image).image
    label = read_label_map(case.label)
    if not same_grid(image, label):
        raise InputError(
            f"The label of {case.name} lies on another grid than its image (size"
            f" {label.GetSize()} against {image.GetSize()}, spacing {_text(label.GetSpacing())}"
            f" against {_text(image.GetSpacing())} mm, or turned or shifted); resample the label"
            " to the image."
        )
    return image, sitk.GetArrayFromImage(label)


def _check_cases(cases: Sequence[LabelledCase], labels: Mapping[str, int]) -> None:
    """Read everything once before the first case is segmented: a run may take hours."""
    absent = dict(labels)
    for case in cases:
        present = np.unique(_read_pair(case)[1])
        absent = {task: value for task, value in absent.items() if value not in present}
    for task, value in absent.items():
        raise InputError(
            f"The label value {value}, given for {task}, occurs in none of the {len(cases)}"
            " cases; give the value that this structure has in labelsTr."
        )


def _text(spacing: Sequence[float]) -> str:
    return " x ".join(f"{s:.3g}" for s in spacing)


def _share(
    progress: Callable[[float, str], None] | None, index: int, count: int, case: str
) -> Callable[[float, str], None] | None:
    """Progress within one of several cases as progress in all."""
    if progress is None:
        return None

    def report(fraction: float, message: str) -> None:
        progress((index + fraction) / count, f"{case}: {message}")

    return report


def _summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    outcomes = [row["outcome"] for row in rows]
    return {
        **{metric: mean_of_known([row[metric] for row in rows]) for metric in METRICS},
        "cases": len(rows),
        **{kind: outcomes.count(kind) for kind in ("both_empty", "missed", "false_positive")},
    }


def mean_of_known(values: Sequence[float | None]) -> float | None:
    """Mean of the values that are defined; None where none is."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
