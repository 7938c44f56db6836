"""Reading one DICOM series from a folder, with GDCM inside SimpleITK."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk

from versemi.errors import InputError
from versemi.headers import check_axes

_MODALITY = "0008|0060"
_DESCRIPTION = "0008|103e"
_POSITION = "0020|0032"
_ORIENTATION = "0020|0037"

_SUFFIXES = (".dcm", ".ima")

#: Slices may lie unevenly by this share of their distance before one counts as missing.
_UNEVEN = 0.05


def modality_of(tag: str, name: str) -> tuple[str | None, list[str]]:
    """Return ``"CT"``, ``"MR"`` or None for a Modality tag, with a warning where it is neither."""
    tag = tag.strip().upper()
    if tag in ("CT", "MR"):
        return tag, []
    return None, [f"{name} has the modality {tag or '(none)'}; prompts are for CT and MR."]


def read_series(folder: Path, series: str | None) -> tuple[sitk.Image, str | None, list[str]]:
    """Read the series in `folder`, sorted by position, with rescale slope and intercept applied.

    Args:
        folder: its own files are looked at, not those of folders inside it.
        series: Series Instance UID, needed where there are several.

    Returns:
        The image, its modality where that is CT or MR, and warnings.

    Raises:
        InputError: no DICOM, several series and none chosen, slices that are missing, doubled,
            turned against each other or stacked askew, or pixel data that cannot be read.
    """
    uid = _choose(folder, series)
    files = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), uid)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(files)
    reader.MetaDataDictionaryArrayUpdateOn()
    name = folder.name or str(folder)
    try:
        image = reader.Execute()
    except RuntimeError as error:
        raise InputError(
            f"{name} holds a DICOM series whose slices cannot be read as one volume (sizes that"
            " differ, or a damaged file); export the series again."
        ) from error
    tag = reader.GetMetaData(0, _MODALITY) if reader.HasMetaDataKey(0, _MODALITY) else ""
    modality, warnings = modality_of(tag, name)
    if len(files) > 1:
        _check_stack(reader, len(files), name)
    return image, modality, warnings + _left_out(folder)


def _choose(folder: Path, series: str | None) -> str:
    found = sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder))
    name = folder.name or str(folder)
    if not found:
        raise InputError(
            f"{name} is a folder without DICOM files; give the folder that holds the slices, or an"
            " image file."
        )
    listing = "; ".join(_describe(folder, uid) for uid in found)
    if series is not None:
        if series in found:
            return series
        raise InputError(f"{name} holds no series {series}; it has: {listing}.")
    if len(found) > 1:
        raise InputError(
            f"{name} holds {len(found)} DICOM series: {listing}; choose one with --series UID, or"
            " move it into a folder of its own."
        )
    return found[0]


def _left_out(folder: Path) -> list[str]:
    """Warn of DICOM files that GDCM passes over in silence: damaged slices, or no image at all."""
    listed = {
        Path(file).name
        for uid in sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder))
        for file in sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), uid)
    }
    names = []
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.name not in listed and path.name.upper() != "DICOMDIR":
            with path.open("rb") as file:
                # A slice whose copy never began is empty, and known by its name alone.
                if file.read(132).endswith(b"DICM") or path.suffix.lower() in _SUFFIXES:
                    names.append(path.name)
    if not names:
        return []
    return [
        f"Left out for want of a readable image: {len(names)} DICOM"
        f" file{'s' if len(names) > 1 else ''} in {folder.name} ({', '.join(names[:3])}"
        f"{', ...' if len(names) > 3 else ''})."
    ]


def _describe(folder: Path, uid: str) -> str:
    files = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), uid)
    reader = sitk.ImageFileReader()
    reader.SetFileName(files[0])
    try:
        reader.ReadImageInformation()
        present = filter(reader.HasMetaDataKey, (_MODALITY, _DESCRIPTION))
        tags = [reader.GetMetaData(key).strip() for key in present]
    except RuntimeError:
        tags = ["unreadable"]
    count = f"{len(files)} file{'s' if len(files) != 1 else ''}"
    return f"{uid} ({', '.join([*filter(None, tags), count])})"


def _check_stack(reader: sitk.ImageSeriesReader, count: int, name: str) -> None:
    """Slices must be parallel, evenly spaced and straight above each other.

    The series reader itself takes the mean distance and the first orientation, whatever the rest
    says, so a missing slice or a tilted gantry would put the anatomy in the wrong place.
    """
    if not all(
        reader.HasMetaDataKey(i, key) for i in range(count) for key in (_POSITION, _ORIENTATION)
    ):
        raise InputError(
            f"{name} holds slices that do not say where they lie; export the series again as"
            " original axial images."
        )
    positions = np.array([_numbers(reader.GetMetaData(i, _POSITION)) for i in range(count)])
    turns = np.array([_numbers(reader.GetMetaData(i, _ORIENTATION)) for i in range(count)])
    if np.abs(turns - turns[0]).max() > 1e-3:
        raise InputError(
            f"{name} holds slices of different orientations in one series (a localizer?); keep"
            " those of one orientation in the folder."
        )
    row, column = turns[0, :3], turns[0, 3:]
    normal = np.cross(row, column)
    gaps = np.diff(positions @ normal)
    usual = float(np.median(np.abs(gaps)))
    if np.abs(gaps).min() < 1e-3:
        raise InputError(
            f"{name} holds several slices at one place (several time points or echoes in one"
            " series); keep one of them in the folder."
        )
    worst = int(np.argmax(np.abs(np.abs(gaps) - usual)))
    if abs(abs(gaps[worst]) - usual) > max(_UNEVEN * usual, 0.01):
        raise InputError(
            f"{name} has an uneven slice spacing: {abs(gaps[worst]):.2f} mm between slices"
            f" {worst + 1} and {worst + 2}, {usual:.2f} mm elsewhere; a slice seems to be missing,"
            " so export the whole series again."
        )
    stack = positions[-1] - positions[0]
    check_axes(name, np.stack([row, column, stack], axis=1), "DICOM gantry tilt")


def _numbers(text: str) -> list[float]:
    return [float(part) for part in text.split("\\")]
