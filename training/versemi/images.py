"""Reading scans: NIfTI, NRRD, MetaImage and folders of DICOM, each checked before it is used."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Literal

import numpy as np
import SimpleITK as sitk

from versemi.dicomseries import modality_of, read_series
from versemi.errors import InputError
from versemi.headers import (
    META_SUFFIXES,
    NIFTI_SUFFIXES,
    NRRD_SUFFIXES,
    check_axes,
    check_finite,
    check_header,
    check_spacing,
    image_suffix,
    not_an_image,
)

#: Below this, in Hounsfield units, lies fat and air; MR intensities do not go there.
_FAT_HU = -50
_SAMPLES_PER_AXIS = 64
#: A scan of whole numbers has more values than this, a label map of organs has fewer.
_LABEL_VALUES = 32
#: No scan of a patient is longer than the first, few are shorter than the second, in mm: the
#: spacing is then in other units.
_LONGEST, _SHORTEST = 5000.0, 5.0
_READERS = {
    **dict.fromkeys(NIFTI_SUFFIXES, "NiftiImageIO"),
    **dict.fromkeys(NRRD_SUFFIXES, "NrrdImageIO"),
    **dict.fromkeys(META_SUFFIXES, "MetaImageIO"),
}
_COMPLEX = (sitk.sitkComplexFloat32, sitk.sitkComplexFloat64)


@dataclass(frozen=True)
class ScanFile:
    """A scan as read from disk.

    Attributes:
        image: 3D, one value a voxel.
        modality: ``"CT"`` or ``"MR"`` where the file says so (DICOM), else None.
        path: where it was read.
        warnings: sentences for the user.
    """

    image: sitk.Image
    modality: str | None
    path: Path
    warnings: list[str] = field(default_factory=list)


def read_image(path: str | PathLike[str], *, series: str | None = None) -> ScanFile:
    """Read a scan from a NIfTI, NRRD or MetaImage file, or from a folder of DICOM.

    Args:
        path: a file, or a folder that holds one DICOM series.
        series: Series Instance UID, to choose from a folder with several.

    Raises:
        InputError: with one sentence, when the scan is missing, is not a 3D image of one value a
            voxel, is damaged, or has a geometry or voxels that nothing can be computed from.
    """
    return _read(Path(path), series, content=True)


def read_label_map(path: str | PathLike[str]) -> sitk.Image:
    """Read a label map, which unlike a scan may be empty of any structure.

    Raises:
        InputError: as for `read_image`, except that one constant value is allowed.
    """
    return _read(Path(path), None, content=False).image


def check_image(image: sitk.Image, name: str = "The image") -> sitk.Image:
    """Check that a network can be run on `image`.

    Args:
        image: any image; a trailing axis of length 1 is dropped.
        name: how messages call it.

    Returns:
        The image in three dimensions.

    Raises:
        InputError: not 3D, several values a voxel, empty, sheared, without a proper spacing, one
            constant value, or voxels that are not finite.
    """
    image = _check_form(image, name)
    _check_content(image, name)
    return image


def guess_modality(image: sitk.Image) -> Literal["CT", "MR"]:
    """Guess the modality from the intensities, on a subsample of the voxels.

    Hounsfield units put fat near -100 and air near -1000, and any trunk or head holds plenty of
    both, also where the scan was clipped to a soft-tissue window. MR intensities are not
    negative, or, where somebody has standardised them, only by a few units.
    """
    return "CT" if float(np.mean(_sample(image) <= _FAT_HU)) >= 0.005 else "MR"


def same_grid(first: sitk.Image, second: sitk.Image) -> bool:
    """Whether both images have the same voxels in the same places, up to a tenth of a voxel."""
    if first.GetSize() != second.GetSize():
        return False
    tolerance = 0.1 * min(first.GetSpacing())
    size = first.GetSize()
    corners = [(0, 0, 0), (size[0], 0, 0), (0, size[1], 0), (0, 0, size[2])]
    return all(
        np.allclose(
            first.TransformContinuousIndexToPhysicalPoint(corner),
            second.TransformContinuousIndexToPhysicalPoint(corner),
            rtol=0,
            atol=tolerance,
        )
        for corner in corners
    )


def _read(path: Path, series: str | None, *, content: bool) -> ScanFile:
    # Readers print to the process's own streams what is said here in one sentence.
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    warnings: list[str] = []
    modality: str | None = None
    try:
        if not path.exists():
            raise InputError(f"There is no file or folder {path}; check the path.")
        if path.is_dir():
            image, modality, warnings = read_series(path, series)
        else:
            image, modality, warnings = _read_file(path)
    except PermissionError as error:
        denied = error.filename or path
        raise InputError(f"{denied} may not be read; check its permissions.") from error
    except OSError as error:
        raise InputError(f"{path} could not be read ({error.strerror}); check the path.") from error
    name = path.name or str(path)
    image = _check_form(image, name)
    if content:
        _check_content(image, name)
        warnings = warnings + _oddities(image, name)
    return ScanFile(image, modality, path, warnings)


def _read_file(path: Path) -> tuple[sitk.Image, str | None, list[str]]:
    if path.stat().st_size == 0:
        raise InputError(f"{path.name} is empty (0 bytes); copy or download the file again.")
    warnings: list[str] = []
    known = _READERS.get(image_suffix(path))
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    if known:
        warnings = check_header(path)
        # Named, or it would not know MetaImage by a suffix in capitals.
        reader.SetImageIO(known)
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise not_an_image(path) from error
    _check_shape(reader.GetSize(), path.name)
    if reader.GetNumberOfComponents() > 1:
        raise _several_values(path.name, reader.GetNumberOfComponents())
    dicom = reader.HasMetaDataKey("0008|0060")
    if not known and not dicom:
        # Other formats that SimpleITK knows (TIFF, VTK, ...) carry no orientation to rely on.
        raise not_an_image(path)
    try:
        image = reader.Execute()
    except RuntimeError as error:
        raise InputError(
            f"{path.name} is truncated or damaged: its header can be read, its voxels cannot;"
            " copy or download the file again."
        ) from error
    if dicom:
        modality, more = modality_of(reader.GetMetaData("0008|0060"), path.name)
        return image, modality, warnings + more
    return image, None, warnings


def _check_shape(size: tuple[int, ...], name: str) -> None:
    """Refuse what is not 3D, and what holds no voxel; trailing axes of length 1 do not count."""
    text = " x ".join(str(n) for n in size)
    if 0 in size:
        raise InputError(f"{name} is empty ({text} voxels); choose a scan that holds an image.")
    if len(size) > 3 and set(size[3:]) != {1}:
        raise InputError(
            f"{name} has {len(size)} dimensions ({text}); save one 3D volume of it and give that."
        )
    if len(size) < 3 or size[2] == 1:
        raise InputError(
            f"{name} is a 2D image ({text}); a 3D scan is needed, so give the whole volume, or for"
            " DICOM the folder that holds all slices."
        )


def _several_values(name: str, count: int) -> InputError:
    return InputError(
        f"{name} has {count} values a voxel (a colour or vector image); give a scan with one"
        " intensity a voxel."
    )


def _check_form(image: sitk.Image, name: str) -> sitk.Image:
    _check_shape(image.GetSize(), name)
    if image.GetNumberOfComponentsPerPixel() > 1:
        raise _several_values(name, image.GetNumberOfComponentsPerPixel())
    if image.GetPixelID() in _COMPLEX:
        raise InputError(f"{name} has complex voxels; save their magnitude and give that.")
    while image.GetDimension() > 3:
        image = image[..., 0]
    check_spacing(name, image.GetSpacing(), "as read")
    check_axes(name, np.array(image.GetDirection()).reshape(3, 3), "as read")
    if not np.isfinite(image.GetOrigin()).all():
        raise InputError(
            f"{name} lies at {image.GetOrigin()}, which is no place; correct the origin in its"
            " header."
        )
    if max(_lengths(image)) > _LONGEST:
        raise InputError(
            f"{name} spans {_in_mm(_lengths(image))}, which no scan of a patient does; its"
            f" spacing of {_in_mm(image.GetSpacing())} seems to be in other units, so correct the"
            " header or export the scan again."
        )
    return image


def _lengths(image: sitk.Image) -> list[float]:
    return [n * s for n, s in zip(image.GetSize(), image.GetSpacing(), strict=True)]


def _in_mm(lengths: Iterable[float]) -> str:
    return f"{' x '.join(f'{length:g}' for length in lengths)} mm"


def _oddities(image: sitk.Image, name: str) -> list[str]:
    """Sentences on a scan that can be segmented, though perhaps nobody wants that."""
    found = []
    if max(_lengths(image)) < _SHORTEST:
        found.append(
            f"{name} spans only {_in_mm(_lengths(image))}; if its spacing is not in mm, correct"
            " the header."
        )
    voxels = _sample(image)
    if np.issubdtype(voxels.dtype, np.integer) and voxels.min() >= 0:
        values = np.unique(voxels)
        if len(values) <= _LABEL_VALUES:
            found.append(
                f"{name} holds only {len(values)} different values and looks like a label map;"
                " the scan itself is needed."
            )
    return found


def _sample(image: sitk.Image) -> np.ndarray:
    """A subsample of the voxels, ``(z, y, x)``, at most 128 along each axis."""
    steps = [max(1, size // _SAMPLES_PER_AXIS) for size in image.GetSize()]
    view = sitk.GetArrayViewFromImage(image)[:: steps[2], :: steps[1], :: steps[0]]
    return np.asarray(view)


def _check_content(image: sitk.Image, name: str) -> None:
    voxels = sitk.GetArrayViewFromImage(image)
    if np.issubdtype(voxels.dtype, np.floating):
        # Slice by slice: a mask of a whole long scan would cost as much memory as the scan.
        nan = sum(int(np.isnan(plane).sum()) for plane in voxels)
        infinite = sum(int(np.isinf(plane).sum()) for plane in voxels)
        check_finite(name, nan, infinite)
    low, high = voxels.min(), voxels.max()
    if low == high:
        raise InputError(
            f"{name} has the value {low:g} in every voxel; choose a scan that shows something."
        )
