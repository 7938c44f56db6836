"""The library itself: opening, reading, adding."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from versemi import __version__
from versemi.caselibrary.case import CASES, IMAGES, LABELS, Case, Record, read_record
from versemi.caselibrary.datasetjson import stage_repetitions
from versemi.caselibrary.descriptions import check_agreement
from versemi.caselibrary.lock import exclusive
from versemi.caselibrary.transaction import Transaction, refused, remove_parts
from versemi.errors import InputError
from versemi.tasks import TASKS, Task

if TYPE_CHECKING:
    import SimpleITK as sitk

    from versemi.caselibrary.verification import Finding

KIND = "versemi-case-library"
FORMAT = 1
MARKER = "library.json"
_WAIT = 60.0
_SYSTEM_FILES = {"desktop.ini", "thumbs.db"}


class CaseLibrary:
    """A folder of scans, each with or without a label map.

    Reading needs no lock: whatever a writer is doing, and wherever it is killed, a reader finds
    every case as it was before or after a change. Writers take turns.

    Example:
        >>> import tempfile
        >>> library = CaseLibrary.create(tempfile.mkdtemp() + "/atria")
        >>> library.cases()
        ()
    """

    def __init__(self, folder: Path, tasks: Mapping[str, Task], wait: float) -> None:
        self.folder = folder
        self._given = dict(tasks)
        self._wait = wait

    @classmethod
    def open(
        cls,
        folder: str | os.PathLike[str],
        *,
        tasks: Mapping[str, Task] = TASKS,
        wait: float = _WAIT,
    ) -> CaseLibrary:
        """Open a library that exists; nothing is written.

        Args:
            folder: where it lies.
            tasks: the prompts that there are, by identifier. Those that the library's own labels
                cover are known besides.
            wait: how many seconds a change waits for another writer.

        Raises:
            InputError: there is none, its description is damaged, or a newer version made it.
        """
        path = Path(folder)
        try:
            data = json.loads((path / MARKER).read_text(encoding="utf-8"))
            kind, format = data["kind"], int(data["format"])
        except (FileNotFoundError, NotADirectoryError):
            if not path.exists():
                raise InputError(
                    f"There is no case library at {path}; check the path, or make one with"
                    " 'versemi library add'."
                ) from None
            raise InputError(
                f"{path} is no case library: it has no {MARKER}; give the folder of a library, or"
                " a new one."
            ) from None
        except OSError as error:
            raise InputError(
                f"The library {path} cannot be read ({error.strerror}); check the permissions of"
                " the folder."
            ) from None
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"The file {MARKER} of the library {path} is damaged ({error}); its cases are not:"
                " move that file away, and adding to the library writes it anew."
            ) from None
        if kind != KIND:
            raise InputError(f"{path} is no case library; its {MARKER} is of another kind.")
        if format > FORMAT:
            raise InputError(
                f"The library {path} has format {format}, and this version reads up to {FORMAT};"
                " update VerSemi."
            )
        return cls(path, tasks, wait)

    @classmethod
    def create(
        cls,
        folder: str | os.PathLike[str],
        *,
        tasks: Mapping[str, Task] = TASKS,
        wait: float = _WAIT,
    ) -> CaseLibrary:
        """Make a library in a new or empty folder; one that is there is opened.

        Raises:
            InputError: as for `open`, or the folder holds something else.
            OutputError: the folder cannot be made or written.
        """
        path = Path(folder)
        try:
            if not (path / MARKER).is_file():
                path.mkdir(parents=True, exist_ok=True)
                # Cases are there where a description that was damaged has been moved away.
                records, _ = cls(path, tasks, wait).scan()
                if not records and any(map(_is_content, path.iterdir())):
                    raise InputError(
                        f"{path} is no case library and is not empty; give a new folder, so that"
                        " nothing is mixed up."
                    )
                marker = {"kind": KIND, "format": FORMAT, "made_by": f"versemi {__version__}"}
                with Transaction(path) as transaction:
                    transaction.stage_text(path / MARKER, json.dumps(marker) + "\n")
                    stage_repetitions(transaction, records)
        except FileExistsError:
            raise InputError(f"{path} is a file; give a folder for the library.") from None
        except OSError as error:
            raise refused(path, error) from error
        return cls.open(path, tasks=tasks, wait=wait)

    @property
    def tasks(self) -> dict[str, Task]:
        """Every prompt that is known here: those given, and those that the labels cover."""
        return {**self._given, **self._stored_tasks()}

    def cases(self) -> tuple[Case, ...]:
        """All cases that are whole, by identifier; `verify` tells of the others."""
        records, _ = self.scan()
        return tuple(record.case(self.folder) for record in records)

    def case(self, id: str) -> Case:
        """One case.

        Raises:
            InputError: there is none of this identifier, or its record is damaged.
        """
        record = read_record(self.folder, id) if id == Path(id).name else None
        if record is None:
            ids = [record.id for record in self.scan()[0]]
            some = ", ".join(ids[:8]) + ", ..." * (len(ids) > 8)
            raise InputError(
                f"There is no case '{id}' in the library {self.folder}; it has {some or 'none'}."
            )
        return record.case(self.folder)

    def scan(self) -> tuple[list[Record], dict[str, str]]:
        """Read all records.

        Returns:
            The records by identifier, and a sentence for each identifier whose record is damaged.
        """
        records, damaged = [], {}
        try:
            ids = sorted(entry.name for entry in os.scandir(self.folder / CASES))
        except FileNotFoundError:
            return [], {}
        except OSError as error:
            raise InputError(
                f"The library {self.folder} cannot be read ({error.strerror}); check the"
                " permissions of the folder."
            ) from None
        for id in ids:
            try:
                record = read_record(self.folder, id)
            except InputError as error:
                damaged[id] = str(error)
            else:
                records += [record] if record else []
        return records, damaged

    def add(
        self,
        image: sitk.Image,
        *,
        name: str,
        modality: str,
        labels: sitk.Image | None = None,
        prompts: Sequence[str] = (),
        predicted: sitk.Image | None = None,
        parent: str | None = None,
        source: str = "",
    ) -> Case:
        """Add a scan, or a correction of one that is there.

        When this returns, the case is on the disk; if it raises or the process is killed, the
        library is as it was. A scan that is there already, recognised by its voxels and where
        they lie, gets a new version of its label: what `prompts` names is taken from `labels`,
        what earlier versions covered beside that stays.

        Args:
            image: 3D, one value a voxel; CT in Hounsfield units.
            name: what people call it.
            modality: ``"CT"`` or ``"MR"``.
            labels: label map on the image's grid; a voxel's value is its prompt's label. None for
                an unlabelled scan.
            prompts: what was reviewed, so what the label map covers; where it says 0, none of
                these is there.
            predicted: what a model had answered, on the image's grid, with the same values.
            parent: that model's name and version.
            source: where the scan came from, in words.

        Returns:
            The case as it is now.

        Raises:
            InputError: with one sentence, when the image, a label map or a prompt cannot be used,
                when the scan is there already and nothing is new, or when the correction is empty.
            OutputError: the library may not be written, the disk is full, or another writer does
                not finish.
        """
        from versemi.caselibrary import adding

        stored = self._stored_tasks()
        check_agreement(stored.values(), (self._given[p] for p in prompts if p in self._given))
        draft = adding.prepare(
            image,
            name=name,
            modality=modality,
            labels=labels,
            prompts=prompts,
            predicted=predicted,
            parent=parent,
            source=source,
            tasks={**self._given, **stored},
        )
        with self.writing():
            records, _ = self.scan()
            return adding.add(self.folder, draft, records)

    def verify(self, *, set_aside: bool = True) -> list[Finding]:
        """Read every file of the library and compare it with what was written.

        Args:
            set_aside: move a damaged case, and files that belong to no case, into ``aside/``, and
                write ``dataset.json`` anew where it is out of date; nothing is deleted. If not,
                nothing is written, and what a writer is doing meanwhile may look unfinished.

        Returns:
            What is wrong, damage first; empty if all is well.

        Raises:
            OutputError: with `set_aside`, as for `add`.
        """
        from versemi.caselibrary.verification import verify

        if not set_aside:
            return verify(self.folder, *self.scan(), set_aside=False)
        with self.writing():
            return verify(self.folder, *self.scan(), set_aside=True)

    def export_nnunet(
        self,
        folder: str | os.PathLike[str],
        *,
        modality: str | None = None,
        prompts: Sequence[str] | None = None,
    ) -> Path:
        """Write the labelled cases as a raw data set of nnU-Net v2.

        Label values become consecutive, in the order of the library's values. Where a case's
        label does not cover one of the prompts, the voxels that might be that structure carry
        nnU-Net's ignore label: all that belong to no covered structure.

        Args:
            folder: new or empty; nnU-Net wants it to be called like ``Dataset101_Abdomen``.
            modality: of the cases to export; needed only if the library has both.
            prompts: what to export; by default all that some label covers.

        Returns:
            The folder.

        Raises:
            InputError: no case has a label that covers a prompt, or the choice is not clear.
            OutputError: the folder cannot be written; nothing is left of it then.
        """
        from versemi.caselibrary.nnunet import export

        return export(self.cases(), self.tasks, Path(folder), modality, prompts)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Be the only writer, and clear away what one that was killed had not finished.

        Raises:
            OutputError: another writer does not finish, or the library may not be written.
        """
        with exclusive(self.folder / MARKER, self._wait):
            remove_parts(self.folder)
            for name in (IMAGES, LABELS):
                remove_parts(self.folder / name)
            for entry in (self.folder / CASES).glob("*"):
                remove_parts(entry)
            yield

    def _stored_tasks(self) -> dict[str, Task]:
        return {task.id: task for record in self.scan()[0] for task in record.tasks}


def _is_content(path: Path) -> bool:
    """Whether a file says that a folder is in use; what systems put into every folder does not."""
    return not path.name.startswith(".") and path.name.lower() not in _SYSTEM_FILES
