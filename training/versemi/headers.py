"""What the raw header of an image file says, before a reader mends or hides it.

SimpleITK reads a NIfTI spacing of 0 as 1 and of -2 as 2 without a word, and its NaN and infinite
voxels as 0; it keeps a sheared NRRD or MetaImage as it is, prefers a straight qform over a sheared
sform, and fills the missing end of a truncated NIfTI with zeros. So spacing, axes, length and such
voxels are read here from the bytes themselves.
"""

from __future__ import annotations

import gzip
import itertools
import math
import struct
import zlib
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

_CHUNK = 1 << 22
#: Codes of the NIfTI standard; at any other the reader prints to the process's own streams.
_NIFTI_TYPES = (2, 4, 8, 16, 32, 64, 128, 256, 512, 768, 1024, 1280, 1536, 1792, 2048, 2304)
#: Of these, those with values that are not finite, which the reader takes for 0 without a word.
_NIFTI_FLOATS = {16: "f4", 64: "f8"}
#: qform and sform say the same where they put no corner of the scan further apart, in voxels.
_SAME_PLACE = 0.1
_META_BYTES = {
    "MET_CHAR": 1,
    "MET_UCHAR": 1,
    "MET_SHORT": 2,
    "MET_USHORT": 2,
    "MET_INT": 4,
    "MET_UINT": 4,
    "MET_LONG": 4,
    "MET_ULONG": 4,
    "MET_LONG_LONG": 8,
    "MET_ULONG_LONG": 8,
    "MET_FLOAT": 4,
    "MET_DOUBLE": 8,
}


def image_suffix(path: Path) -> str:
    """Return the file's suffix in lower case, with a double one such as ``.nii.gz`` kept whole."""
    name = path.name.lower()
    for suffix in (*NIFTI_SUFFIXES, *NRRD_SUFFIXES, *META_SUFFIXES):
        if name.endswith(suffix) and not (suffix == ".img" and name.endswith(".img.gz")):
            return suffix
    return path.suffix.lower()


def check_header(path: Path) -> list[str]:
    """Check spacing, axes, length and a NIfTI's voxels as the file itself states them.

    Args:
        path: a NIfTI, NRRD or MetaImage file that exists.

    Returns:
        Sentences worth telling the user, though the file can be used.

    Raises:
        InputError: the spacing is zero, negative or not finite, the axes are sheared, the file
            ends before its voxels do, or voxels of a NIfTI are not finite.
    """
    suffix = image_suffix(path)
    try:
        if suffix in NIFTI_SUFFIXES:
            return _check_nifti(path)
        if suffix in NRRD_SUFFIXES:
            return _check_nrrd(path)
        return _check_meta(path)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise _truncated(path, f"its compressed data end in the middle ({error})") from error
    except (ValueError, LookupError, struct.error) as error:
        raise not_an_image(path) from error


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


def _truncated(path: Path, detail: str) -> InputError:
    return InputError(
        f"{path.name} is truncated or damaged: {detail}; copy or download the file again."
    )


def _open(path: Path) -> BinaryIO:
    """Open `path`, through gzip where its first bytes say so, whatever its name says."""
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    return gzip.open(path) if packed else path.open("rb")  # type: ignore[return-value]


def _require_voxels(path: Path, start: int, needed: int, dtype: np.dtype | None) -> None:
    """Require a file's bytes up to `needed`, and finite numbers from `start` on.

    A gzip file is read to its end, so that its checksum counts.

    Args:
        path: holds the voxels.
        start: offset of the first voxel.
        needed: offset behind the last one.
        dtype: of the voxels, where it has values that are not finite.
    """
    nan = infinite = 0
    with _open(path) as file:
        packed = isinstance(file, gzip.GzipFile)
        length = len(file.read(start)) if packed else path.stat().st_size
        if length >= needed and not packed and dtype is not None:
            file.seek(start)
        if packed or dtype is not None:
            done = start
            while chunk := file.read(_CHUNK):
                length += len(chunk) if packed else 0
                part = chunk[: max(needed - done, 0)]
                done += len(chunk)
                if dtype is not None:
                    values = np.frombuffer(part[: len(part) - len(part) % dtype.itemsize], dtype)
                    if not np.isfinite(values).all():
                        nan += int(np.isnan(values).sum())
                        infinite += int(np.isinf(values).sum())
    if length < needed:
        raise _truncated(path, f"it holds {length:,} of {needed:,} bytes")
    check_finite(path.name, nan, infinite)


# NIfTI ------------------------------------------------------------------------------------------


def _check_nifti(path: Path) -> list[str]:
    header_path, data_path = _nifti_pair(path)
    with _open(header_path) as file:
        if isinstance(file, gzip.GzipFile) and not header_path.name.lower().endswith(".gz"):
            raise InputError(
                f"{header_path.name} is compressed, though its name does not say so; rename it to"
                f" {header_path.name}.gz."
            )
        head = file.read(540)
    if len(head) < 348:
        raise not_an_image(path)
    version, order = _nifti_version(path, head)
    if version == 1:
        dim = struct.unpack_from(f"{order}8h", head, 40)
        datatype, bits = struct.unpack_from(f"{order}2h", head, 70)
        pixdim = struct.unpack_from(f"{order}8f", head, 76)
        offset = int(struct.unpack_from(f"{order}f", head, 108)[0])
        qform_code, sform_code = struct.unpack_from(f"{order}2h", head, 252)
        quaternion = struct.unpack_from(f"{order}6f", head, 256)
        rows = struct.unpack_from(f"{order}12f", head, 280)
    else:
        dim = struct.unpack_from(f"{order}8q", head, 16)
        datatype, bits = struct.unpack_from(f"{order}2h", head, 12)
        pixdim = struct.unpack_from(f"{order}8d", head, 104)
        offset = struct.unpack_from(f"{order}q", head, 168)[0]
        qform_code, sform_code = struct.unpack_from(f"{order}2i", head, 344)
        quaternion = struct.unpack_from(f"{order}6d", head, 352)
        rows = struct.unpack_from(f"{order}12d", head, 400)
    axes = min(dim[0], 3)
    if not 1 <= dim[0] <= 7 or any(size < 0 for size in dim[1 : dim[0] + 1]):
        raise not_an_image(path)
    if datatype not in _NIFTI_TYPES:
        raise not_an_image(path)
    warnings: list[str] = []
    # pixdim[0] is the handedness of the qform, legally -1; only the others are lengths.
    check_spacing(path.name, pixdim[1 : axes + 1], "NIfTI pixdim")
    if qform_code > 0 and not all(map(math.isfinite, quaternion)):
        raise InputError(
            f"{path.name} has an orientation that is not a number (NIfTI qform); correct the"
            " header or export the scan again."
        )
    if sform_code > 0 and axes == 3:
        sform = np.array(rows, dtype=float).reshape(3, 4)
        if not np.isfinite(sform).all():
            raise InputError(
                f"{path.name} has an orientation that is not a number (NIfTI sform); correct the"
                " header or export the scan again."
            )
        lengths = np.linalg.norm(sform[:, :3], axis=0)
        check_spacing(path.name, lengths.tolist(), "NIfTI sform")
        check_axes(path.name, sform[:, :3], "NIfTI sform")
        if not np.allclose(lengths, pixdim[1:4], rtol=0.01):
            warnings.append(
                f"{path.name} states two spacings: pixdim"
                f" {' x '.join(f'{s:g}' for s in pixdim[1:4])} mm and sform"
                f" {' x '.join(f'{s:g}' for s in lengths)} mm; pixdim is used."
            )
        elif qform_code > 0:
            apart = _apart(sform, _qform(quaternion, pixdim), dim[1:4])
            if apart > _SAME_PLACE * float(lengths.min()):
                warnings.append(
                    f"{path.name} states two places, qform and sform, that lie up to {apart:.1f} mm"
                    " apart; the one that Slicer shows is used."
                )
    start = offset if header_path == data_path else 0
    # A file of two or four dimensions is refused later by its shape: no need to read it through.
    if math.prod(dim[4 : dim[0] + 1]) <= 1:
        needed = start + math.prod(dim[1 : dim[0] + 1]) * bits // 8
        floating = _NIFTI_FLOATS.get(datatype)
        dtype = np.dtype(order + floating) if floating else None
        _require_voxels(data_path, start, needed, dtype)
    return warnings


def _qform(quaternion: Sequence[float], pixdim: Sequence[float]) -> np.ndarray:
    """The matrix (3, 4) from voxel index to RAS mm that a quaternion b, c, d and an offset mean.

    Source: the NIfTI-1 standard, method 2.
    """
    b, c, d = quaternion[:3]
    a = math.sqrt(max(0.0, 1.0 - b * b - c * c - d * d))
    rotation = np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
        ]
    )
    lengths = np.array([pixdim[1], pixdim[2], pixdim[3] * (-1 if pixdim[0] < 0 else 1)])
    return np.column_stack([rotation * lengths, quaternion[3:6]])


def _apart(first: np.ndarray, second: np.ndarray, size: Sequence[int]) -> float:
    """How far apart two matrices (3, 4) put a scan's corners at most, in mm."""
    corners = np.array(list(itertools.product(*((0, n - 1) for n in size), (1,))))
    return float(np.linalg.norm(corners @ (first - second).T, axis=1).max())


def _nifti_pair(path: Path) -> tuple[Path, Path]:
    """Header file and data file of a NIfTI image, which are one file except for .hdr/.img."""
    suffix = image_suffix(path)
    if suffix in (".nii", ".nii.gz"):
        return path, path
    stem = path.name[: -len(suffix)]
    header = path if suffix == ".hdr" else path.with_name(stem + ".hdr")
    for candidate in (path.with_name(stem + ".img"), path.with_name(stem + ".img.gz")):
        if candidate.is_file() and header.is_file():
            return header, candidate
    missing = stem + (".img" if suffix == ".hdr" else ".hdr")
    raise InputError(
        f"{path.name} comes in two files and {missing} is missing; put it in the same folder."
    )


def _nifti_version(path: Path, head: bytes) -> tuple[int, str]:
    for order in "<>":
        size = struct.unpack_from(f"{order}i", head)[0]
        if size == 348 and head[344:347] in (b"n+1", b"ni1"):
            return 1, order
        if size == 540 and head[4:7] in (b"n+2", b"ni2") and len(head) == 540:
            return 2, order
    raise not_an_image(path)


# NRRD -------------------------------------------------------------------------------------------


def _check_nrrd(path: Path) -> list[str]:
    fields = _nrrd_fields(path)
    name = path.name
    _require_data_file(path, fields.get("data file") or fields.get("datafile"))
    if directions := fields.get("space directions"):
        vectors = [
            [float(v) for v in part.strip().strip("()").split(",")]
            for part in directions.replace(") (", ")|(").replace("none", "|").split("|")
            if part.strip()
        ]
        axes = np.array(vectors[:3], dtype=float).T
        lengths = np.linalg.norm(axes, axis=0)
        check_spacing(name, lengths.tolist(), "NRRD space directions")
        if axes.shape == (3, 3):
            check_axes(name, axes, "NRRD space directions")
        return []
    if spacings := fields.get("spacings"):
        check_spacing(name, [float(s) for s in spacings.split()][:3], "NRRD spacings")
        return []
    return [_no_spacing(name)]


def _nrrd_fields(path: Path) -> dict[str, str]:
    fields: dict[str, str] = {}
    with path.open("rb") as file:
        if not file.readline(16).startswith(b"NRRD000"):
            raise not_an_image(path)
        while line := file.readline(_CHUNK).strip():
            key, separator, value = line.decode("utf-8", "replace").partition(": ")
            if separator and not key.startswith("#"):
                fields[key.strip().lower()] = value.strip()
    return fields


# MetaImage --------------------------------------------------------------------------------------


def _check_meta(path: Path) -> list[str]:
    fields, data_start = _meta_fields(path)
    name = path.name
    spacing = fields.get("elementspacing") or fields.get("elementsize")
    for numbers in (fields["dimsize"], spacing or fields["dimsize"]):
        if len(numbers.split()) != int(fields["ndims"]):
            raise not_an_image(path)
    if spacing:
        check_spacing(name, [float(s) for s in spacing.split()][:3], "MetaImage ElementSpacing")
    matrix = next(
        (fields[k] for k in ("transformmatrix", "orientation", "rotation") if k in fields), ""
    ).split()
    if len(matrix) == 9:
        axes = np.array([float(v) for v in matrix]).reshape(3, 3).T
        if not np.allclose(np.linalg.norm(axes, axis=0), 1, atol=1e-3):
            raise InputError(
                f"{name} has an orientation of {' '.join(matrix)} (MetaImage TransformMatrix),"
                " which is not made of unit vectors; correct the header or export the scan again."
            )
        check_axes(name, axes, "MetaImage TransformMatrix")
    data_file = fields["elementdatafile"]
    count = math.prod(int(n) for n in fields["dimsize"].split())
    count *= int(fields.get("elementnumberofchannels", 1))
    needed = count * _META_BYTES[fields["elementtype"].removesuffix("_ARRAY")]
    if data_file.upper() == "LOCAL":
        holder, start = path, data_start
    elif data_file.upper().startswith("LIST") or "%" in data_file:
        return [] if spacing else [_no_spacing(name)]
    else:
        _require_data_file(path, data_file)
        holder, start = path.parent / data_file, max(int(fields.get("headersize", 0)), 0)
    if fields.get("compresseddata", "false").lower() == "true":
        needed = int(fields.get("compresseddatasize", 0))
    present = holder.stat().st_size - start
    if present < needed:
        raise _truncated(holder, f"it holds {present:,} of {needed:,} bytes")
    return [] if spacing else [_no_spacing(name)]


def _meta_fields(path: Path) -> tuple[dict[str, str], int]:
    """Fields of the header, keys in lower case, and the offset of the first byte behind it."""
    fields: dict[str, str] = {}
    with path.open("rb") as file:
        while line := file.readline(_CHUNK):
            key, separator, value = line.decode("utf-8").partition("=")
            if not separator:
                raise not_an_image(path)
            fields[key.strip().lower()] = value.strip()
            if key.strip().lower() == "elementdatafile":
                return fields, file.tell()
    raise not_an_image(path)


# Shared -----------------------------------------------------------------------------------------


def _require_data_file(path: Path, data_file: str | None) -> None:
    """A header with detached voxels needs the file that it names."""
    if not data_file or data_file.upper().startswith("LIST") or "%" in data_file:
        return
    if not (path.parent / data_file).is_file():
        raise InputError(
            f"{path.name} keeps its voxels in {data_file}, which is missing; put that file in the"
            " same folder."
        )


def _no_spacing(name: str) -> str:
    return f"{name} states no spacing; 1 mm is assumed."
