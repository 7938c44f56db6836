"""Looking through a whole library, and setting aside what is damaged."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from versemi.caselibrary.case import (
    ASIDE,
    CASES,
    IMAGES,
    LABELS,
    RECORD,
    SUFFIX,
    Record,
    StoredFile,
    sha256_of,
)
from versemi.caselibrary.datasetjson import DATASET, is_current, stage_repetitions
from versemi.caselibrary.transaction import PART, Transaction, move_aside, refused

REASON = "why.txt"


@dataclass(frozen=True)
class Finding:
    """Something that is wrong with a library.

    Attributes:
        kind: ``"damaged"``, a file is not as it was written; ``"leftover"``, files belong to no
            case, as after a write that was interrupted; ``"outdated"``, ``dataset.json`` or
            ``labelsTr/`` did not say what the cases say.
        case: its identifier, or None.
        problem: a sentence.
        aside: the folder it was moved to; None if it was left where it is, or written anew.
    """

    kind: Literal["damaged", "leftover", "outdated"]
    case: str | None
    problem: str
    aside: Path | None = None


def verify(
    folder: Path,
    records: Sequence[Record],
    damaged: dict[str, str],
    *,
    set_aside: bool,
) -> list[Finding]:
    """Compare every file of a library with what was written.

    Args:
        folder: the library.
        records: all that can be read.
        damaged: a sentence for each case whose record cannot.
        set_aside: move what is damaged or left over, and write anew what is out of date; the
            caller holds the lock then.

    Raises:
        OutputError: the library may not be written.
    """
    findings: list[Finding] = []
    aside = _Aside(folder) if set_aside else None

    def report(
        kind: Literal["damaged", "leftover"], case: str | None, problem: str, *paths: Path
    ) -> None:
        moved = aside.move(problem, *paths) if aside and paths else None
        findings.append(Finding(kind, case, problem, moved))

    lost = dict(damaged)
    whole = []
    for record in records:
        problems = {file: _problem(folder, file) for file in record.files}
        needed = [file for file in (record.image, record.newest.label) if file]
        broken = [problems[file] for file in needed if problems[file]]
        if broken:
            lost[record.id] = " ".join(broken)
            continue
        whole.append(record)
        for problem in filter(None, problems.values()):
            # What an older version or a prediction lost does not make the case useless.
            report("damaged", record.id, problem)
    for id, problem in lost.items():
        report("damaged", id, problem, *_places(folder, id))
    for id, path in list(_foreign_copies(folder, whole)):
        problem = (
            f"{path.relative_to(folder).as_posix()} is not the label map that the library wrote"
            " there; if somebody corrected it, add it to the library as a correction."
        )
        report("damaged", id, problem, path)
    for path in list(_leftovers(folder, whole, lost)):
        problem = (
            f"{path.relative_to(folder).as_posix()} belongs to no case: adding it was interrupted,"
            " or it was put there by hand; 'versemi library add' adds a scan."
        )
        report("leftover", None, problem, path)
    stale = {record.id for record in whole if _is_stale(folder, record)}
    if stale or not is_current(folder, whole):
        problem = f"{DATASET} or {LABELS} did not say what the cases say."
        findings.append(Finding("outdated", None, problem))
        if set_aside:
            with Transaction(folder) as transaction:
                stage_repetitions(transaction, whole, stale)
    return findings


class _Aside:
    """Moves files out of the way, into a new folder each time, with a note that says why."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def move(self, reason: str, *paths: Path) -> Path:
        """Move files and folders under the same relative paths; the first is what counts most.

        Raises:
            OutputError: the system refuses.
        """
        target = self.folder / ASIDE / uuid.uuid4().hex[:8]
        with Transaction(self.folder) as transaction:
            transaction.stage_text(target / REASON, reason + "\n")
        try:
            for path in paths:
                if path.exists():
                    move_aside(path, target / path.relative_to(self.folder))
        except OSError as error:
            raise refused(self.folder, error) from error
        return target


def _problem(folder: Path, file: StoredFile) -> str:
    """What is wrong with a file of a case, or nothing."""
    try:
        if sha256_of(folder / file.path) == file.sha256:
            return ""
    except FileNotFoundError:
        return f"The file {file.path} is missing."
    except OSError as error:
        return f"The file {file.path} cannot be read ({error.strerror})."
    return f"The file {file.path} is damaged or was changed after it was written."


def _places(folder: Path, id: str) -> tuple[Path, ...]:
    """Where a case's files lie; without the first of them it is no case."""
    return (
        folder / CASES / id,
        folder / IMAGES / f"{id}{SUFFIX}",
        folder / LABELS / f"{id}{SUFFIX}",
    )


def _foreign_copies(folder: Path, records: Sequence[Record]) -> Iterator[tuple[str, Path]]:
    """Files of ``labelsTr/`` that hold no version of their case's label."""
    for record in records:
        path = folder / LABELS / f"{record.id}{SUFFIX}"
        with suppress(OSError):
            if sha256_of(path) not in {v.label.sha256 for v in record.versions if v.label}:
                yield record.id, path


def _is_stale(folder: Path, record: Record) -> bool:
    """Whether the file in ``labelsTr/`` is missing or not that of the newest version."""
    if record.newest.label is None:
        return False
    try:
        path = folder / LABELS / f"{record.id}{SUFFIX}"
        return sha256_of(path) != record.newest.label.sha256
    except OSError:
        return True


def _leftovers(folder: Path, records: Sequence[Record], lost: dict[str, str]) -> Iterator[Path]:
    """Files that no record names, but for those of cases that are set aside anyway."""
    named = {folder / CASES / record.id / RECORD for record in records}
    named |= {folder / file.path for record in records for file in record.files}
    named |= {folder / LABELS / f"{record.id}{SUFFIX}" for record in records}
    named |= {path for id in lost for path in _places(folder, id)}
    for pattern in (f"{IMAGES}/*", f"{LABELS}/*", f"{CASES}/*/*"):
        for path in sorted(folder.glob(pattern)):
            hidden = path.name.startswith((".", PART))
            if not hidden and path not in named and path.parent not in named:
                yield path
