"""What the worker can do: each command makes the fields of a result out of a request."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from versemi.errors import Cancelled, InputError
from versemi.worker.requests import Request, field, modality, strings

if TYPE_CHECKING:
    from versemi.inference import Segmenter

_PROGRESS_INTERVAL = 0.1
_READING_SHARE, _WRITING_SHARE = 0.05, 0.05


@dataclass(frozen=True)
class Job:
    """One request with what its command needs.

    Attributes:
        request: the request as it came.
        segmenter: the pack at work.
        report: takes a fraction in [0, 1] and a sentence.
        is_cancelled: whether somebody has asked to stop.
    """

    request: Request
    segmenter: Segmenter
    report: Callable[[float, str], None]
    is_cancelled: Callable[[], bool]

    @property
    def id(self) -> int:
        """The request's number."""
        return int(self.request["id"])

    def go_on(self) -> None:
        """Raise Cancelled where somebody has asked to stop."""
        if self.is_cancelled():
            raise Cancelled("Cancelled.")


class Progress:
    """Passes progress on, never backwards and not more often than a person can read."""

    def __init__(self, emit: Callable[[dict[str, Any]], None]) -> None:
        self._emit = emit
        self._fraction = -1.0
        self._message = ""
        self._time = float("-inf")

    def __call__(self, fraction: float, message: str) -> None:
        """Take in where the request stands."""
        fraction = max(self._fraction, min(1.0, fraction))
        now = time.monotonic()
        if message == self._message and now - self._time < _PROGRESS_INTERVAL:
            return
        self._fraction, self._message, self._time = fraction, message, now
        self._emit({"fraction": round(fraction, 3), "message": message})


def list_tasks(job: Job) -> dict[str, Any]:
    """The prompts of the pack."""
    keys = ("id", "name", "label", "color", "modality", "group", "region", "terminology")
    tasks = job.segmenter.pack.tasks
    return {"tasks": [{key: getattr(task, key) for key in keys} for task in tasks]}


def segment(job: Job) -> dict[str, Any]:
    """Segment a scan, into files in the folder that the request names."""
    from versemi.export import write_volume
    from versemi.geometry import Roi
    from versemi.images import read_image

    request = job.request
    image = field(request, "image", str)
    tasks = strings(request, "tasks", "prompts")
    output = Path(field(request, "output", str))
    roi = field(request, "roi", dict, optional=True)
    chosen = modality(request)
    uncertainty = field(request, "uncertainty", bool, optional=True)
    box = Roi.from_json(roi) if roi is not None else None

    def progress(fraction: float, message: str) -> None:
        job.report(_READING_SHARE + (1 - _READING_SHARE - _WRITING_SHARE) * fraction, message)

    job.go_on()
    job.report(0.0, "Reading the scan")
    scan = read_image(image)
    result = job.segmenter.segment(
        scan.image,
        tasks,
        roi=box,
        modality=chosen or scan.modality,
        progress=progress,
        cancel=job.is_cancelled,
    )
    job.go_on()
    job.report(1 - _WRITING_SHARE, "Writing the result")
    label_map = write_volume(result.label_map, output / f"label_map_{job.id}.nrrd")
    uncertainty_map = (
        write_volume(result.uncertainty(), output / f"uncertainty_{job.id}.nrrd")
        if uncertainty
        else None
    )
    return {
        "label_map": str(label_map),
        "uncertainty": str(uncertainty_map) if uncertainty_map else None,
        "labels": {task.id: task.label for task in result.tasks},
        "volumes_ml": dict(result.volumes_ml),
        "warnings": [*scan.warnings, *result.warnings],
        "timings": dict(result.timings),
        "device": result.device,
    }


def keep(job: Job) -> dict[str, Any]:
    """Put a scan, with or without a correction, into a library."""
    from versemi.caselibrary import CaseLibrary
    from versemi.images import guess_modality, read_image, read_label_map
    from versemi.tasks import TASKS

    request = job.request
    library = Path(field(request, "library", str))
    image = field(request, "image", str)
    labels = field(request, "labels", str, optional=True)
    predicted = field(request, "predicted", str, optional=True)
    parent = field(request, "parent", str, optional=True)
    name = field(request, "name", str)
    source = field(request, "source", str, optional=True)
    prompts = strings(request, "prompts", "prompts") if labels else []
    chosen = modality(request)

    job.go_on()
    job.report(0.0, "Reading the scan")
    scan = read_image(image)
    correction = read_label_map(labels) if labels else None
    prediction = read_label_map(predicted) if predicted else None
    # From here on it is done or it is not: half a case is no case.
    job.go_on()
    job.report(0.3, "Writing into the library")
    # A pack may know prompts that the registry does not.
    tasks = {**TASKS, **{task.id: task for task in job.segmenter.pack.tasks}}
    case = CaseLibrary.create(library, tasks=tasks).add(
        scan.image,
        name=name,
        modality=chosen or scan.modality or guess_modality(scan.image),
        labels=correction,
        prompts=prompts,
        predicted=prediction,
        parent=parent,
        source=source or "",
    )
    message = f"'{name}' is in the library as case {case.id}, without a label."
    if prompts:
        names = [tasks[prompt].name for prompt in prompts]
        listed = " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
        message = f"'{name}' is in the library as case {case.id}, with {listed}."
    if case.version > 1:
        message += f" It is version {case.version} of the case."
    return {"case": case.id, "version": case.version, "message": message}


def export(job: Job) -> dict[str, Any]:
    """Write a DICOM SEG, and before it a series of the scan where there is none."""
    from versemi.dicomimages import write_series
    from versemi.dicomseg import write_dicom_seg
    from versemi.images import guess_modality, read_image

    request = job.request
    segmentation = field(request, "segmentation", str)
    output = Path(field(request, "output", str))
    image = field(request, "image", str, optional=True)
    name = field(request, "name", str)
    chosen = modality(request)
    if field(request, "series", list, optional=True) is not None:
        series = [Path(path) for path in strings(request, "series", "paths")]
    elif image is None:
        raise InputError("An export needs the DICOM files in 'series', or the scan in 'image'.")
    else:
        series = []

    job.go_on()
    made = []
    if not series and image is not None:
        job.report(0.0, "Making a DICOM series of the scan")
        scan = read_image(image).image
        folder = output.with_name(f"{output.stem} images")
        made = series = write_series(
            scan, folder, modality=chosen or guess_modality(scan), name=name
        )
    job.go_on()
    job.report(0.5, "Writing the DICOM SEG")
    written = write_dicom_seg(segmentation, series, output)
    parts = [f"Wrote {written.path.name} with {len(written.segments)} segments."]
    if len(written.segments) == 1:
        parts = [f"Wrote {written.path.name} with 1 segment."]
    if made:
        parts.append(f"The series of {len(made)} images that it refers to is in {made[0].parent}.")
    if written.empty:
        parts.append(f"Left out, for they are empty: {', '.join(written.empty)}.")
    files = [str(path) for path in (*made, written.path)]
    return {"files": files, "message": " ".join(parts)}


COMMANDS: dict[str, Callable[[Job], dict[str, Any]]] = {
    "segment": segment,
    "keep": keep,
    "export": export,
    "list_tasks": list_tasks,
}
