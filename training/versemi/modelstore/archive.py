"""A pack as one zip file, to be carried to another machine; on the way in it is a stranger's."""

from __future__ import annotations

import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from versemi.errors import InputError
from versemi.export import replacing
from versemi.manifest import MANIFEST, WEIGHTS
from versemi.modelstore.entry import PACK_FILES, RECORD

_MEMBERS = (*PACK_FILES, RECORD)
_LARGEST_WEIGHTS = 512 * 2**20
_LARGEST_TEXT = 4 * 2**20
_CHUNK = 2**20
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED = 1
_SUFFIX = ".zip"
#: NotImplementedError, of a newer zip, is a RuntimeError.
_BROKEN = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    ValueError,
    RuntimeError,
    OverflowError,
)


def write_archive(folder: Path, file: Path) -> Path:
    """Write a pack's folder as a zip, whole or not at all.

    The weights are stored as they are: numbers hardly get smaller.

    Raises:
        InputError: the file exists, or is not called ``.zip``.
        OutputError: it could not be written.
    """
    if file.suffix.lower() != _SUFFIX:
        raise InputError(f"{file} is to become a zip file; give it a name that ends in {_SUFFIX}.")
    if file.exists():
        raise InputError(f"{file} exists already; choose another name, or take it away.")
    with replacing(file) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name in _MEMBERS:
            if (folder / name).is_file():
                archive.write(folder / name, name)
    return file


def read_archive(file: Path, folder: Path) -> None:
    """Unpack a zip of a pack into an empty folder, and flush it to the disk.

    Only a pack's own files are taken, each once, as plain files at the top, none larger than
    such a file may be. Nothing is known of the weights yet; `ModelPack.load` compares checksums.

    Raises:
        InputError: it is no zip, is damaged, or holds anything else.
        OSError: the folder could not be written.
    """
    if not file.is_file():
        raise InputError(f"There is no file {file}; check the path.")
    if file.stat().st_size > _LARGEST_WEIGHTS + len(_MEMBERS) * _LARGEST_TEXT:
        raise InputError(f"{file} is larger than any model pack; check that it is the right file.")
    try:
        archive = zipfile.ZipFile(file)
    except (*_BROKEN, OSError) as error:
        raise InputError(
            f"{file} is not a zip file, or is damaged ({error}); give what 'versemi models export'"
            " has written."
        ) from None
    with archive:
        members = archive.infolist()
        for member in members:
            _check(member, file)
        names = [member.filename for member in members]
        for name in names:
            if names.count(name) > 1:
                raise _refusal(file, f"it holds {name} twice")
        for name in (MANIFEST, WEIGHTS):
            if name not in names:
                raise _refusal(file, f"it has no {name}")
        for member in members:
            _extract(archive, member, file, folder / member.filename)


def _check(member: zipfile.ZipInfo, file: Path) -> None:
    name = member.filename
    # The exact names leave no room for a path, whatever separators it is written with.
    if name not in _MEMBERS:
        raise _refusal(file, f"it holds {name[:80]!r}, which is no part of a pack")
    mode = member.external_attr >> 16
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        raise _refusal(file, f"{name} in it is a link or another special file")
    if member.flag_bits & _ENCRYPTED:
        raise _refusal(file, f"{name} in it is encrypted")
    if member.compress_type not in _METHODS:
        raise _refusal(file, f"{name} in it is compressed in an unusual way")
    limit = _LARGEST_WEIGHTS if name == WEIGHTS else _LARGEST_TEXT
    if member.file_size > limit:
        raise _refusal(file, f"{name} in it is larger than {limit // 2**20} MiB")


def _extract(archive: zipfile.ZipFile, member: zipfile.ZipInfo, file: Path, target: Path) -> None:
    with open(target, "xb") as stream:
        for chunk in _content(archive, member, file):
            stream.write(chunk)
        stream.flush()
        os.fsync(stream.fileno())


def _content(archive: zipfile.ZipFile, member: zipfile.ZipInfo, file: Path) -> Iterator[bytes]:
    """What a member holds; zipfile reads no more than the size that was checked."""
    try:
        with archive.open(member) as source:
            while chunk := source.read(_CHUNK):
                yield chunk
    except (*_BROKEN, OSError) as error:
        raise InputError(
            f"{file} is damaged ({error}); copy it again from where it came."
        ) from None


def _refusal(file: Path, what: str) -> InputError:
    return InputError(
        f"{file} is not taken in: {what}; give what 'versemi models export' has written."
    )
