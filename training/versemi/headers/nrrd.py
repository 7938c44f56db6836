"""NRRD, with its voxels behind the header or in a file of their own."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from versemi.headers.checks import (
    CHUNK,
    check_axes,
    check_spacing,
    no_spacing,
    not_an_image,
    require_data_file,
)


def check_nrrd(path: Path) -> list[str]:
    """Check an NRRD; as :func:`versemi.headers.check_header`."""
    fields = _nrrd_fields(path)
    name = path.name
    require_data_file(path, fields.get("data file") or fields.get("datafile"))
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
    return [no_spacing(name)]


def _nrrd_fields(path: Path) -> dict[str, str]:
    fields: dict[str, str] = {}
    with path.open("rb") as file:
        if not file.readline(16).startswith(b"NRRD000"):
            raise not_an_image(path)
        while line := file.readline(CHUNK).strip():
            key, separator, value = line.decode("utf-8", "replace").partition(": ")
            if separator and not key.startswith("#"):
                fields[key.strip().lower()] = value.strip()
    return fields
