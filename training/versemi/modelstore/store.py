"""The folder with all versions, in which every change is one rename.

``STORE/NAME/VERSION/`` is a pack with a record beside its files, and ``STORE/active.json`` says
which is in use. A version appears by the rename of its folder, and is never changed afterwards
except for its record. So writers need no lock: the later one of two that choose has chosen, and
of two that add the same version the second is refused.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from versemi.caselibrary.transaction import PART, make_folder, move_aside, sync_folder
from versemi.errors import InputError, OutputError, PackError
from versemi.export import write_text
from versemi.modelpack import ModelPack, default_pack_path
from versemi.modelstore.archive import read_archive, write_archive
from versemi.modelstore.entry import (
    PACK_FILES,
    SHIPPED,
    Entry,
    Record,
    Standing,
    check_name,
    split_ref,
)

_ACTIVE = "active.json"
_KIND = "versemi-model-store"
_FORMAT = 1
#: Seconds after which what a writer had begun is taken for left behind.
_FORGOTTEN = 24 * 3600.0


class ModelStore:
    """All versions of the model, the one that ships included.

    Args:
        folder: where they lie; made when the first is added.

    Raises:
        InputError: the path is a file.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        if self.folder.exists() and not self.folder.is_dir():
            raise InputError(f"The model store {self.folder} is a file; give a folder.")

    # Looking ----------------------------------------------------------------------------------

    def entries(self) -> list[Entry]:
        """Every version: the one that ships, then the others by name and version.

        Raises:
            InputError: the folder may not be read.
            PackError: the store was made by a newer version, or its choice cannot be read.
        """
        chosen = self.chosen()
        found = []
        with suppress(PackError):
            found.append(self._shipped(chosen))
        for name, version in sorted(self._versions(), key=_in_order):
            found.append(self._entry(name, version, chosen))
        return found

    def find(self, ref: str) -> Entry:
        """Find a version.

        Args:
            ref: ``NAME@VERSION``, or ``shipped``.

        Raises:
            InputError: there is none; the message names some that are there.
            PackError: ``shipped``, and none ships with this installation.
        """
        chosen = self.chosen()
        if ref == SHIPPED:
            return self._shipped(chosen)
        parts = split_ref(ref)
        if parts is None:
            raise InputError(
                f"'{ref}' is no version of a model; write NAME@VERSION as 'versemi models list'"
                f" shows them, or {SHIPPED}."
            )
        if (self.folder / parts[0] / parts[1]).is_dir():
            return self._entry(*parts, chosen)
        with suppress(PackError):
            shipped = self._shipped(chosen)
            if shipped.ref == ref:
                return shipped
        raise InputError(
            f"There is no {ref} in the model store {self.folder}; 'versemi models list' shows"
            " what is there."
        )

    def active(self) -> Entry:
        """The version that was chosen; the one that ships where none was.

        Raises:
            PackError: it is no longer there, or none was chosen and none ships.
        """
        chosen = self.chosen()
        if chosen is None:
            return self._shipped(chosen)
        if not (self.folder / chosen[0] / chosen[1]).is_dir():
            raise PackError(
                f"There is no {'@'.join(chosen)} in the model store {self.folder} any more; choose"
                " another version with 'versemi models use'."
            )
        return self._entry(*chosen, chosen)

    def chosen(self) -> tuple[str, str] | None:
        """Name and version that were chosen; None for the pack that ships.

        Raises:
            PackError: the choice cannot be read, or was made by a newer version.
        """
        path = self.folder / _ACTIVE
        try:
            data: Any = json.loads(path.read_text(encoding="utf-8"))
            if data["kind"] == _KIND and isinstance(data["format"], int):
                if data["format"] > _FORMAT:
                    raise PackError(
                        f"The model store {self.folder} has format {data['format']}, and this"
                        f" version reads up to {_FORMAT}; update VerSemi."
                    )
                if data["active"] is None:
                    return None
                parts = split_ref(data["active"])
                if parts is not None:
                    return parts
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            pass
        raise PackError(
            f"The file {path}, which says which model is in use, is damaged; remove it, and choose"
            " again with 'versemi models use'."
        )

    # Changing ---------------------------------------------------------------------------------

    def add(
        self,
        pack: str | os.PathLike[str],
        state: Literal["active"] | Standing = "candidate",
        reason: str = "",
    ) -> Entry:
        """Copy a pack into the store.

        Args:
            pack: its folder, which stays as it is.
            state: ``"active"`` takes it into use at once.
            reason: why it is provisional or set aside; needed for the latter.

        Raises:
            PackError: the pack is damaged.
            InputError: the version is there already, or its name can be no folder's.
            OutputError: the store could not be written; nothing in it has changed.
        """
        loaded = ModelPack.load(pack)
        standing: Standing = "candidate" if state == "active" else state
        record = _record(standing, reason)
        self._check_new(loaded)
        with self._staging() as folder:
            for name in PACK_FILES:
                if (loaded.path / name).is_file():
                    shutil.copyfile(loaded.path / name, folder / name)
                    with open(folder / name, "r+b") as stream:
                        os.fsync(stream.fileno())
            # What was copied is what was checked, whoever has changed the source meanwhile.
            entry = self._publish(folder, ModelPack.load(folder), record)
        return self.activate(entry.name, entry.version) if state == "active" else entry

    def activate(self, name: str, version: str) -> Entry:
        """Take a version into use; if that fails, the one in use stays.

        Raises:
            InputError: there is none, or it was set aside.
            PackError: it is damaged, or `chosen` raises it.
            OutputError: the choice could not be written.
        """
        return self._activate(self.find(f"{name}@{version}"))

    def activate_shipped(self) -> Entry:
        """Go back to the pack that ships, also to the one of a later installation.

        Raises:
            PackError: none ships, it is damaged, or `chosen` raises it.
            OutputError: the choice could not be written.
        """
        return self._activate(self._shipped(None))

    def set_aside(self, entry: Entry, reason: str) -> Entry:
        """Keep a version, but from being used.

        Raises:
            InputError: it ships, or is in use; or there is no reason.
            OutputError: the record could not be written.
        """
        record = _record("aside", reason)
        if entry.shipped:
            raise InputError(f"{entry.ref} ships with this installation and cannot be set aside.")
        if self.chosen() == (entry.name, entry.version):
            raise InputError(
                f"{entry.ref} is in use; take another version into use before it is set aside."
            )
        current = self.find(entry.ref)
        replace(record, added=current.record.added or record.added).write(current.path)
        return self.find(entry.ref)

    def export_zip(self, ref: str, file: str | os.PathLike[str]) -> Path:
        """Write a version as a zip file.

        Raises:
            InputError: there is no such version, or the file exists or is not called ``.zip``.
            PackError: the version is damaged.
            OutputError: the file could not be written.
        """
        entry = self.find(ref)
        entry.load()
        return write_archive(entry.path, Path(file))

    def import_zip(self, file: str | os.PathLike[str]) -> Entry:
        """Take in what `export_zip` has written; what was set aside or provisional stays so.

        Raises:
            InputError: it is no such file, or the version is there already.
            PackError: the pack in it is damaged.
            OutputError: the store could not be written; nothing in it has changed.
        """
        file = Path(file)
        with self._staging() as folder:
            read_archive(file, folder)
            try:
                loaded = ModelPack.load(folder)
            except PackError as error:
                raise PackError(str(error).replace(str(folder), str(file))) from None
            self._check_new(loaded)
            came = Record.read(folder)
            return self._publish(folder, loaded, Record.now(came.standing, came.reason))

    # ------------------------------------------------------------------------------------------

    def _versions(self) -> Iterator[tuple[str, str]]:
        try:
            for named in self.folder.iterdir() if self.folder.is_dir() else ():
                if named.name.startswith(".") or not named.is_dir():
                    continue
                for place in named.iterdir():
                    if place.is_dir() and split_ref(f"{named.name}@{place.name}"):
                        yield named.name, place.name
        except OSError as error:
            raise InputError(
                f"The model store {self.folder} may not be read ({error.strerror}); check its"
                " permissions."
            ) from None

    def _entry(self, name: str, version: str, chosen: tuple[str, str] | None) -> Entry:
        path = self.folder / name / version
        entry = Entry(name, version, path, Record.read(path), active=chosen == (name, version))
        try:
            pack = ModelPack.load(path)
        except PackError as error:
            return replace(entry, problem=str(error))
        if (pack.name, pack.version) != (name, version):
            return replace(
                entry,
                problem=f"The folder {path} holds the model pack {pack.name} {pack.version}; move"
                " it to a folder of that name.",
            )
        return replace(entry, pack=pack)

    def _shipped(self, chosen: tuple[str, str] | None) -> Entry:
        path = default_pack_path()
        entry = Entry(path.name, "", path, active=chosen is None, shipped=True)
        try:
            pack = ModelPack.load(path)
        except PackError as error:
            return replace(entry, problem=str(error))
        return replace(entry, name=pack.name, version=pack.version, pack=pack)

    def _activate(self, entry: Entry) -> Entry:
        self.chosen()  # of a store of a newer version nothing is written over
        entry.load()
        if entry.record.standing == "aside":
            raise InputError(
                f"{entry.ref} was kept aside ({entry.reason}), so it is not taken into use; to try"
                f" it nevertheless, name it with --pack {entry.ref}."
            )
        data = {
            "kind": _KIND,
            "format": _FORMAT,
            "active": None if entry.shipped else entry.ref,
        }
        write_text(json.dumps(data) + "\n", self.folder / _ACTIVE)
        return replace(entry, active=True)

    def _check_new(self, pack: ModelPack) -> None:
        name, version = check_name(pack.name, "name"), check_name(pack.version, "version")
        with suppress(PackError):
            shipped = self._shipped(None)
            if (shipped.name, shipped.version) == (name, version):
                raise InputError(
                    f"{shipped.ref} ships with this installation, so it is not added; give the new"
                    " pack another version."
                )
        if os.path.lexists(self.folder / name / version):
            raise self._exists(name, version)

    def _exists(self, name: str, version: str) -> InputError:
        return InputError(
            f"{name}@{version} is in the model store {self.folder} already, and a version is never"
            " overwritten; give the new pack another version."
        )

    @contextmanager
    def _staging(self) -> Iterator[Path]:
        """A folder in the store that nobody sees; it is gone at the end, unless it was renamed."""
        folder: Path | None = None
        try:
            make_folder(self.folder)
            self._remove_forgotten()
            folder = Path(tempfile.mkdtemp(dir=self.folder, prefix=PART))
            folder.chmod(0o755)
            yield folder
        except OSError as error:
            raise OutputError(
                f"The model store {self.folder} could not be written ({error.strerror or error});"
                " make room or check its permissions, and try again; nothing in it has changed."
            ) from error
        finally:
            if folder is not None:
                shutil.rmtree(folder, ignore_errors=True)

    def _publish(self, folder: Path, pack: ModelPack, record: Record) -> Entry:
        record.write(folder)
        sync_folder(folder)
        place = self.folder / pack.name / pack.version
        try:
            move_aside(folder, place)
        except OSError:
            if os.path.lexists(place):  # somebody was faster
                raise self._exists(pack.name, pack.version) from None
            raise
        return Entry(pack.name, pack.version, place, record, replace(pack, path=place))

    def _remove_forgotten(self) -> None:
        for left in self.folder.glob(f"{PART}*"):
            with suppress(OSError):
                if time.time() - left.stat().st_mtime > _FORGOTTEN:
                    shutil.rmtree(left)


def _record(standing: Standing, reason: str) -> Record:
    if standing == "aside" and not reason.strip():
        raise InputError("Say why the pack is set aside; its reason is empty.")
    return Record.now(standing, reason)


def _in_order(ref: tuple[str, str]) -> list[Any]:
    """1.10 comes after 1.9."""
    name, version = ref
    parts = re.split(r"(\d+)", version)
    return [name.lower(), name, [int(p) if p.isdigit() else p for p in parts], version]
