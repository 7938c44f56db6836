"""DICOM SEG: a segmentation in the form of DICOM, on the images that it was made from.

Written with highdicom from a ``.seg.nrrd`` file, which is where Slicer and `versemi.export` put
names, colours and terminology.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from versemi.dicomimages import require
from versemi.errors import InputError
from versemi.export import replacing
from versemi.headers import check_header
from versemi.tasks import Code

_TISSUE = Code("85756007", "Tissue")
#: Where a segment with a prompt's tag came from, by whether a person has looked at it.
_PROMPT_TAG, _REVIEWED = "VerSemiSlicer.Prompt", "Segmentation.Status:completed"
_MANUFACTURER = "VerSemi"


@dataclass(frozen=True)
class Segment:
    """A segment of a ``.seg.nrrd`` file.

    Attributes:
        name: as shown to people.
        color: RGB in 0..255.
        category, type, modifier, region, region_modifier: terminology; None where there is none.
        layer, value: which voxels are its own: those with `value` in `layer`.
        algorithm: ``"AUTOMATIC"``, ``"SEMIAUTOMATIC"`` where a person has reviewed it, or
            ``"MANUAL"`` where no prompt of VerSemi made it.
    """

    name: str
    color: tuple[int, int, int]
    category: Code
    type: Code
    modifier: Code | None
    region: Code | None
    region_modifier: Code | None
    layer: int
    value: int
    algorithm: str


@dataclass(frozen=True)
class Written:
    """A DICOM SEG file, the names of its segments, and of those that were empty."""

    path: Path
    segments: tuple[str, ...]
    empty: tuple[str, ...]


@dataclass(frozen=True)
class Plane:
    """Where a frame of the series lies: LPS mm; `spacing` between columns and between rows."""

    position: np.ndarray
    row: np.ndarray
    column: np.ndarray
    spacing: tuple[float, float]
    size: tuple[int, int]

    @property
    def depth(self) -> float:
        """Place along the normal, by which slices are sorted."""
        return float(self.position @ np.cross(self.row, self.column))

    def sample(self, layer: sitk.Image) -> np.ndarray:
        """The labels of `layer` in this plane, (rows, columns), by the nearest voxel."""
        reference = sitk.Image([*self.size, 1], layer.GetPixelID())
        axes = np.stack([self.row, self.column, np.cross(self.row, self.column)], axis=1)
        reference.SetDirection(axes.ravel().tolist())
        reference.SetOrigin(self.position.tolist())
        reference.SetSpacing([*self.spacing, 1.0])
        sampled = sitk.Resample(layer, reference, sitk.Transform(), sitk.sitkNearestNeighbor, 0)
        return np.asarray(sitk.GetArrayFromImage(sampled)[0])


def write_dicom_seg(
    segmentation: str | PathLike[str],
    series: Sequence[str | PathLike[str]],
    path: str | PathLike[str],
) -> Written:
    """Write the segments of a ``.seg.nrrd`` file as a DICOM SEG that refers to `series`.

    Segments may overlap. Voxels are those of the series: where the segmentation has another
    grid, the nearest voxel counts. Empty segments are left out.

    Args:
        segmentation: the ``.seg.nrrd`` file, in the series' own frame of reference.
        series: the files of one DICOM series: one a slice, or one with many frames.
        path: of the file to write, ending in ``.dcm``.

    Raises:
        InputError: the series or the segmentation cannot be used, or nothing of it lies in the
            images; or highdicom is not installed.
        OutputError: it could not be written; no part of it is left behind.
    """
    highdicom = require("highdicom")
    path = Path(path)
    layers, segments = read_segments(segmentation)
    sources = _read_series(series)
    planes = [plane for source in sources for plane in _planes(source)]
    if len(sources) > 1:
        order = sorted(range(len(planes)), key=lambda index: planes[index].depth)
        sources, planes = [sources[i] for i in order], [planes[i] for i in order]
    pixels, kept = _pixels(layers, segments, planes)
    empty = tuple(segment.name for segment in segments if segment not in kept)
    first = sources[0]
    try:
        dataset = highdicom.seg.Segmentation(
            source_images=sources,
            pixel_array=pixels,
            segmentation_type="BINARY",
            segment_descriptions=[_describe(highdicom, n + 1, s) for n, s in enumerate(kept)],
            series_instance_uid=highdicom.UID(),
            series_number=int(first.get("SeriesNumber") or 0) + 100,
            sop_instance_uid=highdicom.UID(),
            instance_number=1,
            manufacturer=_MANUFACTURER,
            manufacturer_model_name=_MANUFACTURER,
            software_versions=_version(),
            device_serial_number="none",
            content_label="SEGMENTATION",
            content_description="Segmentation by VerSemi",
            series_description="Segmentation",
        )
    except (ValueError, AttributeError, KeyError, TypeError) as error:
        raise InputError(
            f"The DICOM series cannot carry a segmentation ({error}); export the images again from"
            " where they came, or make a new series of the volume."
        ) from error
    with replacing(path) as temporary:
        dataset.save_as(temporary)
    return Written(path, tuple(segment.name for segment in kept), empty)


def read_segments(path: str | PathLike[str]) -> tuple[list[sitk.Image], list[Segment]]:
    """Read the layers of a ``.seg.nrrd`` file, label maps on one grid, and its segments.

    Raises:
        InputError: the file is missing, damaged, or holds no segments.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"There is no segmentation file {path}; check the path.")
    check_header(path)
    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError as error:
        raise InputError(f"{path.name} could not be read as a segmentation.") from error
    segments: list[Segment] = []
    while image.HasMetaDataKey(f"Segment{len(segments)}_ID"):
        segments.append(_segment(image, f"Segment{len(segments)}_"))
    if not segments:
        raise InputError(f"{path.name} holds no segments; save a segmentation as .seg.nrrd.")
    count = image.GetNumberOfComponentsPerPixel()
    if count == 1:
        return [image], segments
    return [sitk.VectorIndexSelectionCast(image, i) for i in range(count)], segments


def _segment(image: sitk.Image, prefix: str) -> Segment:
    def text(key: str, default: str) -> str:
        key = prefix + key
        return image.GetMetaData(key) if image.HasMetaDataKey(key) else default

    tags = text("Tags", "")
    found = re.search(r"TerminologyEntry:([^|]*)", tags)
    parts = (found.group(1).split("~") if found else []) + [""] * 7
    algorithm = "MANUAL"
    if f"{_PROMPT_TAG}:" in tags:
        algorithm = "SEMIAUTOMATIC" if _REVIEWED in tags else "AUTOMATIC"
    red, green, blue = (round(255 * float(v)) for v in text("Color", "0.5 0.5 0.5").split())
    return Segment(
        name=text("Name", text("ID", "Segment")),
        color=(red, green, blue),
        category=_code(parts[1]) or _TISSUE,
        type=_code(parts[2]) or _TISSUE,
        modifier=_code(parts[3]),
        region=_code(parts[5]),
        region_modifier=_code(parts[6]),
        layer=int(text("Layer", "0")),
        value=int(text("LabelValue", "1")),
        algorithm=algorithm,
    )


def _code(triplet: str) -> Code | None:
    """Slicer's ``scheme^value^meaning``; None where it is empty."""
    parts = triplet.split("^")
    if len(parts) != 3 or not all(parts):
        return None
    scheme, value, meaning = parts
    return Code(value, meaning, scheme)


def _read_series(series: Sequence[str | PathLike[str]]) -> list[Any]:
    pydicom = require("pydicom")
    if not series:
        raise InputError("A DICOM SEG refers to DICOM images; give the files of their series.")
    sources = []
    for path in map(Path, series):
        try:
            sources.append(pydicom.dcmread(path, stop_before_pixels=True))
        except (OSError, pydicom.errors.InvalidDicomError) as error:
            reason = getattr(error, "strerror", None) or "it is no DICOM file"
            raise InputError(
                f"{path.name} of the DICOM series could not be read ({reason}); load the series"
                " again."
            ) from error
    for keyword, what in (
        ("SeriesInstanceUID", "series"),
        ("FrameOfReferenceUID", "frames of reference"),
    ):
        values = {str(source.get(keyword, "")) for source in sources}
        if "" in values:
            raise InputError(
                f"The DICOM images have no {keyword}, which a DICOM SEG refers to; export them"
                " again, or make a new series of the volume."
            )
        if len(values) > 1:
            raise InputError(
                f"The DICOM images are of {len(values)} {what}; give the files of one series."
            )
    return sources


def _planes(source: Any) -> list[Plane]:
    """The planes of the frames of a DICOM image."""
    groups = source.get("PerFrameFunctionalGroupsSequence")
    try:
        if groups is None:
            return [_plane(source, source, source, source)]
        (shared,) = source.SharedFunctionalGroupsSequence
        planes = []
        for group in groups:
            position, orientation, measures = (
                (group if keyword in group else shared)[keyword][0]
                for keyword in (
                    "PlanePositionSequence",
                    "PlaneOrientationSequence",
                    "PixelMeasuresSequence",
                )
            )
            planes.append(_plane(source, position, orientation, measures))
    except (AttributeError, KeyError, IndexError, ValueError, TypeError) as error:
        raise InputError(
            "A DICOM image of the series does not say where it lies; export the series again as"
            " original images, or make a new series of the volume."
        ) from error
    return planes


def _plane(source: Any, position: Any, orientation: Any, measures: Any) -> Plane:
    cosines = np.array(orientation.ImageOrientationPatient, dtype=float)
    between_rows, between_columns = (float(v) for v in measures.PixelSpacing)
    return Plane(
        np.array(position.ImagePositionPatient, dtype=float),
        cosines[:3],
        cosines[3:],
        (between_columns, between_rows),
        (int(source.Columns), int(source.Rows)),
    )


def _pixels(
    layers: Sequence[sitk.Image], segments: Sequence[Segment], planes: Sequence[Plane]
) -> tuple[np.ndarray, list[Segment]]:
    """Segment numbers in the frames, and the segments that these number, from 1.

    Returns:
        (frames, rows, columns), or, where segments overlap, 0 and 1 in (frames, rows, columns,
        segments).
    """
    if len({plane.size for plane in planes}) > 1:
        raise InputError(
            "The images of the DICOM series differ in size; give the files of one series."
        )
    sampled = [np.stack([plane.sample(layer) for plane in planes]) for layer in layers]
    there = [set(np.unique(labels).tolist()) for labels in sampled]
    kept = [segment for segment in segments if segment.value in there[segment.layer]]
    if not kept:
        _explain_nothing(layers, segments)
    if len({segment.layer for segment in kept}) == 1:
        labels = sampled[kept[0].layer]
        numbers = np.zeros(int(labels.max()) + 1, np.uint8 if len(kept) < 256 else np.uint16)
        for index, segment in enumerate(kept):
            numbers[segment.value] = index + 1
        return numbers[labels], kept
    masks = [sampled[segment.layer] == segment.value for segment in kept]
    return np.stack(masks, axis=-1).astype(np.uint8), kept


def _explain_nothing(layers: Sequence[sitk.Image], segments: Sequence[Segment]) -> None:
    names = ", ".join(segment.name for segment in segments)
    if any(np.any(sitk.GetArrayViewFromImage(layer)) for layer in layers):
        raise InputError(
            f"No voxel of {names} lies in the images of the DICOM series; choose the volume that"
            " the series was loaded as."
        )
    raise InputError(f"There is nothing to export: {names} has 0 voxels; draw it first.")


def _describe(highdicom: Any, number: int, segment: Segment) -> Any:
    coded = highdicom.sr.CodedConcept

    def concept(code: Code) -> Any:
        return coded(code.value, code.scheme, code.meaning)

    algorithm = None
    if segment.algorithm != "MANUAL":
        algorithm = highdicom.AlgorithmIdentificationSequence(
            name="VerSemi",
            version=_version(),
            family=coded("123110", "DCM", "Artificial Intelligence"),
        )
    description = highdicom.seg.SegmentDescription(
        segment_number=number,
        segment_label=segment.name[:64],
        segmented_property_category=concept(segment.category),
        segmented_property_type=concept(segment.type),
        algorithm_type=segment.algorithm,
        algorithm_identification=algorithm,
        anatomic_regions=[concept(segment.region)] if segment.region else None,
        display_color=highdicom.color.CIELabColor.from_rgb(*segment.color),
    )
    # Sides: highdicom has no argument for what modifies a code.
    if segment.modifier:
        item = description.SegmentedPropertyTypeCodeSequence[0]
        item.SegmentedPropertyTypeModifierCodeSequence = [concept(segment.modifier)]
    if segment.region and segment.region_modifier:
        item = description.AnatomicRegionSequence[0]
        item.AnatomicRegionModifierSequence = [concept(segment.region_modifier)]
    return description


def _version() -> str:
    import versemi

    return versemi.__version__
