"""The work folder of a run: what is finished, what was measured, how much time is used.

``state.json`` is replaced in one step whenever something was finished, so that a run that was
killed goes on there; what it points to (the parent's copy, packs of finished stages) was complete
before it was named.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from versemi.errors import InputError, OutputError
from versemi.export import write_text
from versemi.modelpack import ModelPack
from versemi.modelstore.entry import PACK_FILES

_STATE = "state.json"
_FORMAT = 1
_PARENT = "parent"


class Work:
    """The folder beside the pack that is to be, with its state.

    Attributes:
        folder: of the run.
        data: plain data that is kept; `keep` writes it.
    """

    def __init__(self, folder: Path, data: dict[str, Any]) -> None:
        self.folder = folder
        self.data = data

    @classmethod
    def open(cls, out: Path, run: Mapping[str, Any]) -> Work:
        """Begin, or go on with, the run that is to write the pack `out`.

        Args:
            out: folder of the pack; ``OUT.work`` is the run's.
            run: what makes this run and no other, as plain data.

        Raises:
            InputError: the pack is there already, or the work folder is of another run.
            OutputError: the folder cannot be written.
        """
        folder = out.with_name(f"{out.name}.work")
        identity = json.loads(json.dumps(run))
        data = _read(folder)
        try:
            taken = out.exists() and (not out.is_dir() or any(out.iterdir()))
        except OSError as error:
            raise InputError(f"{out} cannot be read ({error.strerror}).") from None
        if taken and not (data and "delivered" in data):
            raise InputError(
                f"{out} exists and is not an empty folder, so no pack is written there; give"
                " another --out, or take it away."
            )
        if data is not None:
            if data["run"] != identity:
                raise InputError(
                    f"{folder} holds a run that was begun with"
                    f" {_difference(data['run'], identity)}; give another --out, or remove that"
                    " folder to begin anew."
                )
            return cls(folder, data)
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise InputError(
                f"{folder} is to become the work folder of this run and holds something else; give"
                " another --out, or take it away."
            )
        work = cls(folder, {"format": _FORMAT, "run": identity, "measured": {}})
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(
                f"The work folder {folder} could not be made ({error.strerror}); make room, or give"
                " an --out that may be written."
            ) from None
        work.keep(0.0)
        return work

    @property
    def cache(self) -> Path:
        """Folder of prepared scans."""
        return self.folder / "prepared"

    def parent(self, pack: ModelPack) -> ModelPack:
        """The run's own copy of the parent, which stays whatever becomes of the original.

        Raises:
            PackError: the pack was deleted or changed since it was opened.
            OutputError: the copy cannot be written.
        """
        place = self.folder / _PARENT
        if place.is_dir():
            return ModelPack.load(place)
        ModelPack.load(pack.path)
        try:
            temporary = Path(tempfile.mkdtemp(dir=self.folder, prefix=".parent-"))
            for name in PACK_FILES:
                if (pack.path / name).is_file():
                    shutil.copyfile(pack.path / name, temporary / name)
            os.replace(temporary, place)
        except OSError as error:
            raise OutputError(
                f"The parent pack {pack.path} could not be copied to {place} ({error.strerror});"
                " make room and start the command again."
            ) from None
        return ModelPack.load(place)

    def answer(self, id: str) -> Path:
        """Where the parent's answer on a scan is kept."""
        return self.folder / "answers" / f"{id}.npz"

    def keep(self, used: float) -> None:
        """Write the state.

        Args:
            used: seconds of the run so far.

        Raises:
            OutputError: it cannot be written; the state before is still there.
        """
        self.data["used"] = used
        write_text(json.dumps(self.data, indent=1, allow_nan=False) + "\n", self.folder / _STATE)

    def remove(self) -> None:
        """Take the whole folder away; the state goes first, so that no half of it is taken up."""
        (self.folder / _STATE).unlink(missing_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)


def _read(folder: Path) -> dict[str, Any] | None:
    path = folder / _STATE
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data["format"] == _FORMAT and "run" in data:
            return dict(data)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise InputError(
        f"The state of the run in {folder} is damaged or of another version; remove that folder to"
        " begin anew, or give another --out."
    )


def _difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """The first things that differ, in words."""
    keys = [key for key in now if before.get(key) != now[key]]
    told = {
        key: f"{key} {before.get(key)!r} (now {now[key]!r})"
        if not isinstance(now[key], (dict, list))
        else f"other {key}"
        for key in keys
    }
    return ", ".join(told[key] for key in keys) or "other settings"
