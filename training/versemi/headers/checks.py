"""What every format's header must keep to, and how its bytes are looked at."""

from __future__ import annotations

import gzip
import math
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from versemi.errors import InputError

#: Two axes count as perpendicular up to this cosine of their angle (0.06 degrees).
SHEAR_TOLERANCE = 1e-3

NIFTI_SUFFIXES = (".nii", ".nii.gz", ".hdr", ".img", ".img.gz")
NRRD_SUFFIXES = (".nrrd", ".nhdr")
META_SUFFIXES = (".mha", ".mhd")
#: Bytes that are read at a time.
CHUNK = 1 << 22


def image_suffix(path: Path) -> str:
    """Return the file's suffix in lower case, with a double one such as ``.nii.gz`` kept whole."""
    name = path.name.lower()
    for suffix in (*NIFTI_SUFFIXES, *NRRD_SUFFIXES, *META_SUFFIXES):
        if name.endswith(suffix) and not (suffix == ".img" and name.endswith(".img.gz")):
            return suffix
    return path.suffix.lower()


def check_spacing(name: str, spacing: Sequence[float], field: str) -> None:
    """Refuse a spacing that is zero, negative or not finite; `field` names where it stands."""
    if all(math.isfinite(s) and s > 0 for s in spacing):
        return
    raise InputError(
        f"{name} has a spacing of {' x '.join(f'{s:g}' for s in spacing)} mm ({field}); every"
        " spacing must be a positive number, so correct the header or export the scan again."
    )


def check_axes(name: str, axes: np.ndarray, field: str) -> None:
    """Refuse axes that are not perpendicular.

    Args:
        name: the file, for the message.
        axes: (3, 3), one image axis a column, of any length but zero.
        field: where the axes stand in the header, for the message.
    """
    unit = axes / np.linalg.norm(axes, axis=0)
    cosines = unit.T @ unit
    for first, second in ((0, 1), (0, 2), (1, 2)):
        if abs(cosines[first, second]) > SHEAR_TOLERANCE:
            angle = math.degrees(math.acos(float(np.clip(cosines[first, second], -1, 1))))
            raise InputError(
                f"{name} has a sheared orientation: its axes {'ijk'[first]} and {'ijk'[second]}"
                f" meet at {angle:.1f} degrees instead of 90 ({field}); resample it to a"
                " straight grid first, or correct the header."
            )


def check_finite(name: str, nan: int, infinite: int) -> None:
    """Refuse an image with voxels that are not a number, or infinite, as many as these."""
    counts = [f"{nan:,} that are not a number (NaN)"] * bool(nan)
    counts += [f"{infinite:,} that are infinite"] * bool(infinite)
    if counts:
        raise InputError(
            f"{name} has voxels without a usable value: {' and '.join(counts)}; replace them,"
            " for example by the lowest value of the scan."
        )


def not_an_image(path: Path) -> InputError:
    """The error for a file whose content is not what its name promises."""
    return InputError(
        f"{path.name} is not an image that can be read; give a NIfTI (.nii, .nii.gz), NRRD (.nrrd,"
        " .nhdr) or MetaImage (.mha, .mhd) file, or a folder with one DICOM series."
    )


def truncated(path: Path, detail: str) -> InputError:
    """The error for a file that ends before its voxels do; `detail` says where."""
    return InputError(
        f"{path.name} is truncated or damaged: {detail}; copy or download the file again."
    )


def open_packed(path: Path) -> BinaryIO:
    """Open `path`, through gzip where its first bytes say so, whatever its name says."""
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    return gzip.open(path) if packed else path.open("rb")  # type: ignore[return-value]


def require_voxels(path: Path, start: int, needed: int, dtype: np.dtype | None) -> None:
    """Require a file's bytes up to `needed`, and finite numbers from `start` on.

    A gzip file is read to its end, so that its checksum counts.

    Args:
        path: holds the voxels.
        start: offset of the first voxel.
        needed: offset behind the last one.
        dtype: of the voxels, where it has values that are not finite.
    """
    nan = infinite = 0
    with open_packed(path) as file:
        packed = isinstance(file, gzip.GzipFile)
        length = len(file.read(start)) if packed else path.stat().st_size
        if length >= needed and not packed and dtype is not None:
            file.seek(start)
        if packed or dtype is not None:
            done = start
            while chunk := file.read(CHUNK):
                length += len(chunk) if packed else 0
                part = chunk[: max(needed - done, 0)]
                done += len(chunk)
                if dtype is not None:
                    values = np.frombuffer(part[: len(part) - len(part) % dtype.itemsize], dtype)
                    if not np.isfinite(values).all():
                        nan += int(np.isnan(values).sum())
                        infinite += int(np.isinf(values).sum())
    if length < needed:
        raise truncated(path, f"it holds {length:,} of {needed:,} bytes")
    check_finite(path.name, nan, infinite)


def require_data_file(path: Path, data_file: str | None) -> None:
    """A header with detached voxels needs the file that it names."""
    if not data_file or data_file.upper().startswith("LIST") or "%" in data_file:
        return
    if not (path.parent / data_file).is_file():
        raise InputError(
            f"{path.name} keeps its voxels in {data_file}, which is missing; put that file in the"
            " same folder."
        )


def no_spacing(name: str) -> str:
    """What to tell the user of a header without a spacing."""
    return f"{name} states no spacing; 1 mm is assumed."
