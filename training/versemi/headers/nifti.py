"""NIfTI-1 and NIfTI-2, in one file or in two."""

from __future__ import annotations

import gzip
import itertools
import math
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from versemi.errors import InputError
from versemi.headers.checks import (
    check_axes,
    check_spacing,
    image_suffix,
    not_an_image,
    open_packed,
    require_voxels,
)

#: Codes of the NIfTI standard; at any other the reader prints to the process's own streams.
_NIFTI_TYPES = (2, 4, 8, 16, 32, 64, 128, 256, 512, 768, 1024, 1280, 1536, 1792, 2048, 2304)
#: Of these, those with values that are not finite, which the reader takes for 0 without a word.
_NIFTI_FLOATS = {16: "f4", 64: "f8"}
#: qform and sform say the same where they put no corner of the scan further apart, in voxels.
_SAME_PLACE = 0.1


def check_nifti(path: Path) -> list[str]:
    """Check a NIfTI, its voxels included; as :func:`versemi.headers.check_header`."""
    header_path, data_path = _nifti_pair(path)
    with open_packed(header_path) as file:
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
        require_voxels(data_path, start, needed, dtype)
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
