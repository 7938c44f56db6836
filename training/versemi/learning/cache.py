"""Scans prepared once, mapped into memory afterwards.

An entry is a folder named by a hash of the files' bytes and of everything that shapes the
result, with ``image.npy`` (float16 in [-1, 1]) and, for a labelled scan, ``labels.npy`` (uint8,
label values of the registry), both ``(z, y, x)``, and their checksums. An entry is complete or
absent: it is renamed into place. A damaged one is made again.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from versemi.errors import InputError, OutputError
from versemi.geometry import Grid, image_corners
from versemi.images import read_image, read_label_map, same_grid
from versemi.preprocessing import GroupSettings, intensity_limits, prepare, prepare_labels

_FORMAT = 3
_CHUNK = 2**20
_IMAGE, _LABELS, _CHECKSUMS = "image.npy", "labels.npy", "checksums.json"


@dataclass(frozen=True)
class CachedCase:
    """One prepared scan: its name and the folder with its arrays."""

    name: str
    folder: Path

    @property
    def image(self) -> np.ndarray:
        """Intensities, float16 ``(z, y, x)``, mapped."""
        return np.load(self.folder / _IMAGE, mmap_mode="r")

    @property
    def labels(self) -> np.ndarray:
        """Label values of the registry, uint8 ``(z, y, x)``, mapped."""
        return np.load(self.folder / _LABELS, mmap_mode="r")

    @cached_property
    def labelled(self) -> bool:
        """Whether the scan was prepared with its labels."""
        return (self.folder / _LABELS).is_file()


def cached_case(
    name: str,
    image_path: Path,
    label_path: Path | None,
    values: Mapping[int, int],
    settings: GroupSettings,
    scale: float,
    cache: Path,
) -> CachedCase:
    """Return the prepared scan, preparing it if the cache does not hold it whole.

    Args:
        name: of the case.
        image_path: the scan.
        label_path: its labels on the same grid; None for a scan to learn from without labels.
        values: label value in the file -> label value of the registry; 0 for one that is to be
            background.
        settings: of the prompt group.
        scale: factor on the group's spacing; 1 for the fine level.
        cache: folder of all entries.

    Raises:
        InputError: a file cannot be read or holds no number somewhere, the label lies on another
            grid, or has a value that `values` does not know.
        OutputError: the cache cannot be written.
    """
    spacing = tuple(s * scale for s in settings.spacing)
    recipe = {
        "format": _FORMAT,
        "values": sorted(values.items()) if label_path else None,
        "spacing": spacing,
        "normalisation": settings.normalisation,
        "limits": settings.limits,
    }
    digest = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode())
    try:
        for path in filter(None, (image_path, label_path)):
            status = path.stat()
            digest.update(_digest(path.absolute(), status.st_size, status.st_mtime_ns))
    except OSError as error:
        raise InputError(f"{error.filename} cannot be read ({error.strerror}).") from None
    folder = cache / digest.hexdigest()[:32]
    if not _whole(folder):
        scan = read_image(image_path).image
        grid = Grid.covering(image_corners(scan), spacing)
        arrays = {_IMAGE: prepare(scan, grid, intensity_limits(scan, settings)).astype(np.float16)}
        if label_path:
            arrays[_LABELS] = prepare_labels(_mapped(scan, label_path, values), grid)
        _write(folder, arrays)
    return CachedCase(name, folder)


@lru_cache(maxsize=2**16)
def _digest(path: Path, size: int, mtime_ns: int) -> bytes:
    """SHA-256 of a file; a coarse and a fine source of one run read it once."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.digest()


def _mapped(scan: sitk.Image, label_path: Path, values: Mapping[int, int]) -> sitk.Image:
    """The label file with the registry's values."""
    label = read_label_map(label_path)
    if not same_grid(scan, label):
        raise InputError(
            f"The label {label_path} lies on another grid than its scan (size {label.GetSize()} "
            f"against {scan.GetSize()}, or turned or shifted); resample the label to the scan."
        )
    given = sitk.GetArrayFromImage(label)
    mapped = np.zeros(given.shape, dtype=np.uint8)
    for value in np.unique(given):
        if value == 0:
            continue
        if int(value) != value or int(value) not in values:
            raise InputError(
                f"The label {label_path} has the value {value:g}, which the table of labels does "
                f"not know ({', '.join(str(v) for v in sorted(values))}); add it there, or correct "
                "the label."
            )
        mapped[given == value] = values[int(value)]
    image = sitk.GetImageFromArray(mapped)
    image.CopyInformation(scan)
    return image


def _whole(folder: Path) -> bool:
    """Whether an entry is there with every byte that was written; a damaged one is taken away."""
    if not folder.is_dir():
        return False
    try:
        checksums = json.loads((folder / _CHECKSUMS).read_text(encoding="utf-8"))
        whole = all(
            zlib.crc32((folder / name).read_bytes()) == value for name, value in checksums.items()
        )
    except (OSError, ValueError, AttributeError):
        whole = False
    if not whole:
        shutil.rmtree(folder, ignore_errors=True)
    return whole


def _write(folder: Path, arrays: Mapping[str, np.ndarray]) -> None:
    temporary: Path | None = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".new-"))
        checksums = {}
        for name, array in arrays.items():
            np.save(temporary / name, array)
            checksums[name] = zlib.crc32((temporary / name).read_bytes())
        (temporary / _CHECKSUMS).write_text(json.dumps(checksums), encoding="utf-8")
        os.replace(temporary, folder)
    except OSError as error:
        if temporary:
            shutil.rmtree(temporary, ignore_errors=True)
        if not folder.is_dir():  # unless another process was quicker
            raise OutputError(
                f"The prepared scan could not be written to {folder.parent}"
                f" ({error.strerror or error}); make room, or choose another folder with --cache."
            ) from None
