"""MetaImage, with its voxels behind the header or in a file of their own."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from versemi.errors import InputError
from versemi.headers.checks import (
    CHUNK,
    check_axes,
    check_spacing,
    no_spacing,
    not_an_image,
    require_data_file,
    truncated,
)

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


def check_metaimage(path: Path) -> list[str]:
    """Check a MetaImage; as :func:`versemi.headers.check_header`."""
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
        return [] if spacing else [no_spacing(name)]
    else:
        require_data_file(path, data_file)
        holder, start = path.parent / data_file, max(int(fields.get("headersize", 0)), 0)
    if fields.get("compresseddata", "false").lower() == "true":
        needed = int(fields.get("compresseddatasize", 0))
    present = holder.stat().st_size - start
    if present < needed:
        raise truncated(holder, f"it holds {present:,} of {needed:,} bytes")
    return [] if spacing else [no_spacing(name)]


def _meta_fields(path: Path) -> tuple[dict[str, str], int]:
    """Fields of the header, keys in lower case, and the offset of the first byte behind it."""
    fields: dict[str, str] = {}
    with path.open("rb") as file:
        while line := file.readline(CHUNK):
            key, separator, value = line.decode("utf-8").partition("=")
            if not separator:
                raise not_an_image(path)
            fields[key.strip().lower()] = value.strip()
            if key.strip().lower() == "elementdatafile":
                return fields, file.tell()
    raise not_an_image(path)
