"""Which scans a command line names, which files each is made of, and what each is called."""

from __future__ import annotations

import hashlib
import os
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from versemi.errors import InputError
from versemi.headers import META_SUFFIXES, NIFTI_SUFFIXES, NRRD_SUFFIXES, image_suffix

_IMAGE_SUFFIXES = (*NIFTI_SUFFIXES, *NRRD_SUFFIXES, *META_SUFFIXES)
_PAIR_SUFFIXES = (".hdr", ".img", ".img.gz")
_HEADER_BYTES = 1 << 16
_CHUNK = 1 << 22


@dataclass(frozen=True)
class Case:
    """One scan; `name` begins the names of its results, `image` is an absolute path."""

    name: str
    image: Path


# Which scans ------------------------------------------------------------------------------------


def is_one_scan(given: Sequence[Path]) -> bool:
    """Whether a command line names one scan, and not a folder of images or a list."""
    return len(given) == 1 and not _is_list(given[0]) and _in_path(given[0]) == [given[0]]


def find_images(given: Sequence[Path]) -> list[Path]:
    """Find the scans that paths name.

    Args:
        given: image files, folders, and lists (``.txt``: one path a line, relative to the list's
            folder; ``#`` begins a comment). A folder is taken by what lies in it: NIfTI, NRRD or
            MetaImage files are a scan each; a folder of DICOM is one scan; of a folder of
            folders, each that holds DICOM is a scan, at any depth.

    Returns:
        Absolute paths, each once, in the order given, those of a folder by name. A path that does
        not exist is among them, and a folder that holds no scan: these cases fail.

    Raises:
        InputError: a list cannot be read or names nothing.
    """
    found: dict[str, Path] = {}
    for path in given:
        for entry in _in_list(path) if _is_list(path) else [path]:
            for image in _in_path(entry):
                absolute = Path(os.path.abspath(image))
                found.setdefault(os.path.normcase(absolute), absolute)
    return list(found.values())


def mixed_folders(given: Sequence[Path]) -> list[Path]:
    """The folders among paths that hold DICOM beside images, and of which it is left out."""
    return [path for path in given if path.is_dir() and _holds_dicom(path) and _images_in(path)]


def check_output(folder: Path, given: Sequence[Path], images: Sequence[Path]) -> None:
    """Refuse to write results where a later run would take them for scans.

    Raises:
        InputError: `folder` is one that was given, or holds one of the images.
    """
    taken = {path.resolve() for path in (*given, *images) if path.is_dir()}
    taken |= {image.parent.resolve() for image in images if not image.is_dir()}
    if folder.resolve() in taken:
        raise InputError(
            f"{folder} holds the images, and the next run would take the results for scans;"
            " choose another folder with -o."
        )


def _is_list(path: Path) -> bool:
    return path.suffix.lower() == ".txt" and not os.path.isdir(path)


def _in_list(path: Path) -> list[Path]:
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except OSError as error:
        raise InputError(f"The list {path} cannot be read ({error.strerror}).") from None
    except UnicodeDecodeError:
        raise InputError(
            f"The list {path} is not text in UTF-8; write one path a line, or give the images"
            " themselves."
        ) from None
    entries = [path.parent / line for line in lines if line and not line.startswith("#")]
    if not entries:
        raise InputError(f"The list {path} names no image; write one path a line.")
    return entries


def _in_path(path: Path) -> list[Path]:
    """The scans of a file or folder; a folder that holds none stands for itself."""
    # Unlike Path's own, false for what cannot be a name; reading it then says why.
    if not os.path.isdir(path):
        return [path]
    if images := _images_in(path):
        return images
    if _holds_dicom(path):
        return [path]
    inside = sorted(Path(folder) for folder, _, _ in os.walk(path))
    return [folder for folder in inside if _holds_dicom(folder)] or [path]


def _files(folder: Path) -> list[Path]:
    """The files of a folder by name, without hidden ones; none where it may not be read."""
    try:
        return sorted(p for p in folder.iterdir() if p.is_file() and not p.name.startswith("."))
    except OSError:
        return []


def _images_in(folder: Path) -> list[Path]:
    return [file for file in _files(folder) if _is_image(file)]


def _is_image(file: Path) -> bool:
    suffix = image_suffix(file)
    # What Slicer saves as .seg.nrrd is a segmentation.
    if suffix not in _IMAGE_SUFFIXES or file.name.lower().endswith(".seg.nrrd"):
        return False
    if suffix not in _PAIR_SUFFIXES:
        return True
    # A pair is one image, and some archives call their DICOM slices .img.
    header = file.with_name(file.name[: -len(suffix)] + ".hdr")
    return not (suffix != ".hdr" and header.is_file()) and not _is_dicom(file)


def _holds_dicom(folder: Path) -> bool:
    return any(
        _is_dicom(file)
        for file in _files(folder)
        if file.name.upper() != "DICOMDIR" and not file.name.lower().endswith(".gz")
    )


def _is_dicom(file: Path) -> bool:
    try:
        with file.open("rb") as stream:
            return stream.read(132).endswith(b"DICM")
    except OSError:
        return False


# What they are made of --------------------------------------------------------------------------


def stamp_of(image: Path) -> tuple[int, int]:
    """Length in bytes and last change in nanoseconds, over all files of a scan.

    Raises:
        OSError: it is not there or may not be read.
    """
    stats = [part.stat() for part in _parts(image)]
    return sum(s.st_size for s in stats), max((s.st_mtime_ns for s in stats), default=0)


def digest_of(image: Path) -> str:
    """SHA-256 of a scan's bytes, over all its files.

    Raises:
        OSError: it is not there or may not be read.
    """
    return _digest(image, stamp_of(image))


@lru_cache(maxsize=4096)
def _digest(image: Path, stamp: tuple[int, int]) -> str:
    """As `digest_of`; a scan that changes gets another `stamp`, and is read again."""
    whole = hashlib.sha256()
    for path in _parts(image):
        part = hashlib.sha256()
        with path.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                part.update(chunk)
        whole.update(part.digest())
    return whole.hexdigest()


def _parts(image: Path) -> list[Path]:
    if image.is_dir():
        return _files(image)
    suffix = image_suffix(image)
    beside: list[Path] = []
    if suffix in _PAIR_SUFFIXES:
        stem = image.name[: -len(suffix)]
        beside = [image.with_name(stem + other) for other in _PAIR_SUFFIXES]
    elif suffix in (".mhd", ".nhdr"):
        with image.open("rb") as stream:
            header = stream.read(_HEADER_BYTES).decode("utf-8", "replace")
        beside = [file for file in _files(image.parent) if file.name in header]
    return [image, *(part for part in beside if part != image and part.is_file())]


# What they are called ---------------------------------------------------------------------------


def stem_of(image: Path) -> str:
    """A file's name without its suffix, or a folder's name; a link's own, not its target's."""
    path = Path(os.path.abspath(image))
    return path.name if path.is_dir() else path.name[: len(path.name) - len(image_suffix(path))]


def name_cases(
    images: Sequence[Path],
    kept: Mapping[Path, str],
    may_take: Callable[[Path, str], bool],
) -> list[Case]:
    """Give every image a name that no other has.

    An image is called by its file's or folder's name. Those of the same name are called by as
    many of the folders above them as tell them apart (``site1_ct``, ``site2_ct``), those that
    differ by their suffix alone by that (``ct_nii_gz``, ``ct_nrrd``), and what is still alike
    (``/d/x/ct.nii``, ``/d/x_ct.nii``) by a checksum of the path. Names that differ by case alone
    count as the same, as they do for the file systems of Windows and macOS.

    Args:
        images: absolute paths, each once.
        kept: names that stay, of images that have results already.
        may_take: told an image and a name (folded by `folded`), whether the name is free.
    """
    doubled = Counter((image.parent, folded(stem_of(image))) for image in images)
    taken = {folded(name) for name in kept.values()}

    def name(image: Path, level: int) -> str:
        stem = stem_of(image)
        if doubled[image.parent, folded(stem)] > 1:
            stem += image_suffix(image).replace(".", "_")
        above = image.parent.parts[1:]
        if level <= len(above):
            return "_".join([*above[len(above) - level :], stem])
        return f"{stem}_{hashlib.sha256(os.fsencode(image)).hexdigest()[:12]}"

    levels = {image: 0 for image in images if image not in kept}
    while True:
        names = {image: name(image, level) for image, level in levels.items()}
        counts = Counter(map(folded, names.values()))
        clashing = [
            image
            for image, given in names.items()
            if counts[folded(given)] > 1
            or folded(given) in taken
            or not may_take(image, folded(given))
        ]
        longer = [image for image in clashing if name(image, levels[image] + 1) != names[image]]
        if not longer:
            return [Case(kept.get(image) or names[image], image) for image in images]
        for image in longer:
            levels[image] += 1


def folded(name: str) -> str:
    """What names have in common that not every file system tells apart."""
    return unicodedata.normalize("NFC", name).casefold()
