"""A case as others see it, and the record that keeps it in the library.

The record ``cases/<id>/case.json`` is what makes a case exist: it names every file of the case
with its SHA-256, is replaced in one step, and carries a checksum of itself. Files that a record
names never change; a correction adds files and replaces the record.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from versemi.caselibrary.descriptions import from_json, to_json
from versemi.caselibrary.transaction import patiently
from versemi.errors import InputError
from versemi.tasks import Task

SUFFIX = ".nii.gz"
CASES = "cases"
IMAGES = "imagesTr"
LABELS = "labelsTr"
ASIDE = "aside"
RECORD = "case.json"
_ID_LENGTH = 48
_CHUNK = 1 << 20
# What Windows does not allow as a file's name, and what a library's own folders are called.
_RESERVED = {"con", "prn", "aux", "nul", *(f"{d}{n}" for d in ("com", "lpt") for n in range(10))}
_RESERVED |= {name.lower() for name in (CASES, IMAGES, LABELS, ASIDE)}


@dataclass(frozen=True)
class Case:
    """One scan of a library, with what is known of it.

    Attributes:
        id: names the case and its files for good.
        name: as given when the scan was added.
        modality: ``"CT"`` or ``"MR"``.
        image_path: the scan, NIfTI, on the grid that it was added with.
        label_path: the newest label map, on the scan's grid; a voxel's value is its prompt's
            label. None where the scan is unlabelled. The file never changes: a correction writes
            another one.
        predicted_path: what the model had predicted there, with the same values; None if unknown.
        prompts: what the label map covers, in the order of their labels. Where it says 0, none of
            these is there; about all other prompts it says nothing.
        parent: the model whose prediction was corrected, None if there was none.
        version: 0 for an unlabelled scan, then one more with each correction.
        digest: SHA-256 of the voxels, whatever their axes and type of number.
        source: where the scan came from, in words.
        history: a dictionary for each version, oldest first: ``version``, ``time`` (ISO 8601,
            UTC), ``prompts`` (covered from then on), ``reviewed`` (by this correction),
            ``parent``, ``label`` and ``predicted`` (paths in the library, or None).
    """

    id: str
    name: str
    modality: str
    image_path: Path
    label_path: Path | None
    predicted_path: Path | None
    prompts: tuple[str, ...]
    parent: str | None
    version: int
    digest: str
    source: str = ""
    history: list[dict[str, Any]] = field(default_factory=list, hash=False)


@dataclass(frozen=True)
class StoredFile:
    """A file of a case: its path in the library, with slashes, and its SHA-256."""

    path: str
    sha256: str


@dataclass(frozen=True)
class Version:
    """One state of a case's label; number 0 is the unlabelled scan."""

    number: int
    time: str
    prompts: tuple[str, ...] = ()
    reviewed: tuple[str, ...] = ()
    parent: str | None = None
    label: StoredFile | None = None
    predicted: StoredFile | None = None


@dataclass(frozen=True)
class Record:
    """All that a library keeps of a case.

    Attributes:
        grid: of the scan, as `identity.Grid.to_json` writes it.
        versions: oldest first, at least one.
        tasks: descriptions of the prompts that the newest label covers.
    """

    id: str
    name: str
    modality: str
    source: str
    digest: str
    grid: Mapping[str, Any]
    image: StoredFile
    versions: tuple[Version, ...]
    tasks: tuple[Task, ...] = ()

    @property
    def newest(self) -> Version:
        """The state that counts."""
        return self.versions[-1]

    @property
    def predicted(self) -> StoredFile | None:
        """The newest prediction that was kept, be it older than the newest label."""
        return next((v.predicted for v in reversed(self.versions) if v.predicted), None)

    @property
    def files(self) -> tuple[StoredFile, ...]:
        """Every file of the case, those of older versions too."""
        more = [file for v in self.versions for file in (v.label, v.predicted) if file]
        return (self.image, *more)

    def case(self, folder: Path) -> Case:
        """The case as others see it; `folder` is the library."""

        def where(file: StoredFile | None) -> Path | None:
            return folder / file.path if file else None

        history: list[dict[str, Any]] = [
            {
                "version": v.number,
                "time": v.time,
                "prompts": list(v.prompts),
                "reviewed": list(v.reviewed),
                "parent": v.parent,
                "label": v.label.path if v.label else None,
                "predicted": v.predicted.path if v.predicted else None,
            }
            for v in self.versions
        ]
        return Case(
            id=self.id,
            name=self.name,
            modality=self.modality,
            image_path=folder / self.image.path,
            label_path=where(self.newest.label),
            predicted_path=where(self.predicted),
            prompts=self.newest.prompts,
            parent=next((v.parent for v in reversed(self.versions) if v.parent), None),
            version=self.newest.number,
            digest=self.digest,
            source=self.source,
            history=history,
        )

    def to_text(self) -> str:
        """The record as its file holds it, checksum included."""
        data = asdict(self)
        data["grid"] = dict(self.grid)
        data["tasks"] = [to_json(task) for task in self.tasks]
        data["sha256"] = _checksum(data)
        return json.dumps(data, indent=1, ensure_ascii=False) + "\n"


def read_record(folder: Path, id: str) -> Record | None:
    """Read the record of a case.

    Returns:
        None where there is none: the case does not exist, or its adding was never completed.

    Raises:
        InputError: it is there and damaged.
    """
    path = folder / CASES / id / RECORD
    try:
        data = json.loads(patiently(lambda: path.read_text(encoding="utf-8")))
        if data["sha256"] != _checksum(data):
            raise InputError(f"The record {path} was changed after it was written.")
        if data["id"] != id:
            raise InputError(f"The record {path} is that of the case '{data['id']}'.")
        return Record(
            id=id,
            name=str(data["name"]),
            modality=str(data["modality"]),
            source=str(data["source"]),
            digest=str(data["digest"]),
            grid=data["grid"],
            image=StoredFile(**data["image"]),
            versions=tuple(_version(entry) for entry in data["versions"]),
            tasks=tuple(from_json(entry) for entry in data["tasks"]),
        )
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise InputError(f"The record {path} cannot be read ({error.strerror}).") from None
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"The record {path} is damaged ({error}).") from None


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal.

    Raises:
        OSError: it cannot be read.
    """
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def make_id(name: str, taken: Callable[[str], bool]) -> str:
    """A name for a case's files that every file system takes, and that is not taken.

    Example:
        >>> make_id("Élan CT 3.5mm", {"elan_ct_3_5mm"}.__contains__)
        'elan_ct_3_5mm_2'
    """
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    stem = re.sub(r"[^a-z0-9-]+", "_", plain).strip("_-")[:_ID_LENGTH].rstrip("_-") or "case"
    if stem in _RESERVED:
        stem = f"case_{stem}"
    id, count = stem, 1
    while taken(id):
        count += 1
        id = f"{stem}_{count}"
    return id


def _version(data: Mapping[str, Any]) -> Version:
    def file(entry: Mapping[str, str] | None) -> StoredFile | None:
        return StoredFile(**entry) if entry else None

    return Version(
        number=int(data["number"]),
        time=str(data["time"]),
        prompts=tuple(data["prompts"]),
        reviewed=tuple(data["reviewed"]),
        parent=data["parent"],
        label=file(data["label"]),
        predicted=file(data["predicted"]),
    )


def _checksum(data: Mapping[str, Any]) -> str:
    """SHA-256 of a record's content without its own checksum, whatever its white space."""
    content = json.dumps({k: v for k, v in data.items() if k != "sha256"}, sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()
