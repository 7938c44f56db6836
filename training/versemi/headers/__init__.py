"""What the raw header of an image file says, before a reader mends or hides it.

SimpleITK reads a NIfTI spacing of 0 as 1 and of -2 as 2 without a word, and its NaN and infinite
voxels as 0; it keeps a sheared NRRD or MetaImage as it is, prefers a straight qform over a sheared
sform, and fills the missing end of a truncated NIfTI with zeros. So spacing, axes, length and such
voxels are read here from the bytes themselves.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path

from versemi.headers.checks import (
    META_SUFFIXES,
    NIFTI_SUFFIXES,
    NRRD_SUFFIXES,
    check_axes,
    check_finite,
    check_spacing,
    image_suffix,
    not_an_image,
    truncated,
)
from versemi.headers.metaimage import check_metaimage
from versemi.headers.nifti import check_nifti
from versemi.headers.nrrd import check_nrrd

__all__ = [
    "META_SUFFIXES",
    "NIFTI_SUFFIXES",
    "NRRD_SUFFIXES",
    "check_axes",
    "check_finite",
    "check_header",
    "check_spacing",
    "image_suffix",
    "not_an_image",
]


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
            return check_nifti(path)
        if suffix in NRRD_SUFFIXES:
            return check_nrrd(path)
        return check_metaimage(path)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise truncated(path, f"its compressed data end in the middle ({error})") from error
    except (ValueError, LookupError, struct.error) as error:
        raise not_an_image(path) from error
