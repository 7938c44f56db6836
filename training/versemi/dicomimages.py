"""Making a DICOM series of a scan that has none, one file a slice, with pydicom."""

from __future__ import annotations

import importlib
import shutil
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from versemi.errors import InputError, OutputError
from versemi.export import replacing

_CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
_MR_IMAGE = "1.2.840.10008.5.1.4.1.1.4"


def require(package: str) -> Any:
    """Import a package of the extra ``dicom``.

    Raises:
        InputError: it is not installed.
    """
    # The worker may have been started before the package was installed.
    importlib.invalidate_caches()
    try:
        return importlib.import_module(package)
    except ImportError:
        raise InputError(
            f"Writing DICOM needs the Python package {package}, which is missing; install it with"
            " pip install 'versemi[dicom]'."
        ) from None


def write_series(image: sitk.Image, folder: Path, *, modality: str, name: str) -> list[Path]:
    """Write a scan as a DICOM series of CT or MR images.

    Patient and study are new and carry `name` only: what is not known is not made up. CT keeps
    its values to a 65,000th of their range. MR values that are no 16-bit whole numbers are
    stretched over the 16 bits, as DICOM's MR images carry no slope.

    Args:
        image: 3D, one value a voxel, axes at right angles.
        folder: is made; where it is there already, one with a number behind its name.
        modality: ``"CT"`` or ``"MR"``.
        name: patient's name and series description.

    Returns:
        The files, in the order of the image's slices.

    Raises:
        InputError: pydicom is not installed.
        OutputError: it could not be written; no part of it is left behind.
    """
    pydicom = require("pydicom")
    folder = _unused(folder)
    part = folder.with_name(f".{uuid.uuid4().hex[:8]}-{folder.name}")
    voxels = sitk.GetArrayViewFromImage(image)
    stored, slope, intercept = _to_16_bits(voxels, modality)
    common = _common(pydicom, image, modality, name)
    names = []
    try:
        for index, plane in enumerate(stored):
            names.append(f"{index + 1:04d}.dcm")
            dataset = _slice(pydicom, image, index, plane, common)
            if modality == "CT":
                dataset.RescaleSlope, dataset.RescaleIntercept = _ds(pydicom, [slope, intercept])
                dataset.RescaleType = "HU"
            with replacing(part / names[-1]) as temporary:
                dataset.save_as(temporary, enforce_file_format=True)
        try:
            part.replace(folder)
        except OSError as error:
            raise OutputError(
                f"The folder {folder} could not be made ({error.strerror}); choose another folder."
            ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return [folder / name for name in names]


def _unused(folder: Path) -> Path:
    """`folder`, or the first of ``folder 2``, ``folder 3`` ... that is not there."""
    candidate, count = folder, 1
    while candidate.exists():
        count += 1
        candidate = folder.with_name(f"{folder.name} {count}")
    return candidate


def _to_16_bits(voxels: np.ndarray, modality: str) -> tuple[np.ndarray, float, float]:
    """Voxels as int16 or uint16, with slope and intercept that give the values back."""
    low, high = float(voxels.min()), float(voxels.max())
    whole = np.issubdtype(voxels.dtype, np.integer) or not np.any(voxels % 1)
    if whole and low >= -32768 and high <= 32767:
        return voxels.astype(np.int16), 1.0, 0.0
    if whole and modality == "MR" and low >= 0 and high <= 65535:
        return voxels.astype(np.uint16), 1.0, 0.0
    slope = (high - low) / 65535 or 1.0
    return np.rint((voxels - low) / slope).astype(np.uint16), slope, low


def _common(pydicom: Any, image: sitk.Image, modality: str, name: str) -> dict[str, Any]:
    """The attributes that all slices share."""
    direction = np.reshape(image.GetDirection(), (3, 3))
    spacing = image.GetSpacing()
    uid = pydicom.uid.generate_uid
    common = {
        "SpecificCharacterSet": "ISO_IR 192",
        "SOPClassUID": _CT_IMAGE if modality == "CT" else _MR_IMAGE,
        "ImageType": ["DERIVED", "SECONDARY", "AXIAL" if modality == "CT" else "OTHER"],
        # The caret says that there is a family name and nothing else.
        "PatientName": name.replace("^", " ").replace("=", " ")[:62] + "^",
        "PatientID": name[:64],
        "PatientBirthDate": "",
        "PatientSex": "",
        "StudyInstanceUID": uid(),
        "StudyDate": "",
        "StudyTime": "",
        "StudyID": "",
        "StudyDescription": "",
        "AccessionNumber": "",
        "ReferringPhysicianName": "",
        "SeriesInstanceUID": uid(),
        "SeriesNumber": 1,
        "SeriesDescription": f"{name} (made by VerSemi from an image file)"[:64],
        "Modality": modality,
        "PatientPosition": "",
        "Manufacturer": "VerSemi",
        "FrameOfReferenceUID": uid(),
        "PositionReferenceIndicator": "",
        "ImageOrientationPatient": _ds(pydicom, [*direction[:, 0], *direction[:, 1]]),
        "PixelSpacing": _ds(pydicom, [spacing[1], spacing[0]]),
        "SliceThickness": _ds(pydicom, [spacing[2]])[0],
        "SpacingBetweenSlices": _ds(pydicom, [spacing[2]])[0],
    }
    if modality == "CT":
        # Whether a dimension of a CT slice was measured, nobody knows here: they stay empty.
        common |= {"KVP": None, "AcquisitionNumber": None}
        del common["SpacingBetweenSlices"]
    else:
        common |= {
            "ScanningSequence": "RM",
            "SequenceVariant": "NONE",
            "ScanOptions": "",
            "MRAcquisitionType": "",
            "EchoTime": None,
            "EchoTrainLength": None,
        }
    return common


def _slice(
    pydicom: Any, image: sitk.Image, index: int, plane: np.ndarray, common: dict[str, Any]
) -> Any:
    dataset = pydicom.Dataset()
    for keyword, value in common.items():
        setattr(dataset, keyword, value)
    dataset.SOPInstanceUID = pydicom.uid.generate_uid()
    dataset.InstanceNumber = index + 1
    position = image.TransformIndexToPhysicalPoint((0, 0, index))
    dataset.ImagePositionPatient = _ds(pydicom, position)
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.Rows, dataset.Columns = plane.shape
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit = 15
    dataset.PixelRepresentation = int(plane.dtype == np.int16)
    dataset.PixelData = plane.astype(plane.dtype.newbyteorder("<")).tobytes()
    return dataset


def _ds(pydicom: Any, values: Any) -> list[Any]:
    """Numbers as DICOM's decimal strings, which hold 16 characters."""
    return [pydicom.valuerep.DSfloat(float(value), auto_format=True) for value in values]
