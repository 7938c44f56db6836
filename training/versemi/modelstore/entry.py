"""One version of a model in the store: its pack, and what became of it."""

from __future__ import annotations

import json
import math
import os
import re
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

from versemi.errors import InputError, PackError
from versemi.export import write_text
from versemi.manifest import MANIFEST, WEIGHTS
from versemi.modelpack import ModelPack

Standing = Literal["candidate", "provisional", "aside"]
State = Literal["active", "candidate", "provisional", "aside", "damaged"]

#: What a pack consists of; nothing else is copied into the store, or leaves it.
PACK_FILES = (MANIFEST, WEIGHTS, "README.md", "LICENSE")
#: Beside the pack's own files: what became of this version here.
RECORD = "record.json"
#: Means the pack that ships, whatever its version.
SHIPPED = "shipped"

_STANDINGS: tuple[Standing, ...] = ("candidate", "provisional", "aside")
_FORMAT = 1
_LONGEST_REASON = 500
_LARGEST_RECORD = 2**16
# They become folders on every system, and stand in front of and behind the @ of a reference.
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._+-]{0,62}[A-Za-z0-9_+-])?")
_DEVICES = re.compile(r"(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:\..*)?", re.IGNORECASE)


@dataclass(frozen=True)
class Record:
    """What is known of a version beside its pack.

    Attributes:
        standing: ``"candidate"`` may be used, ``"provisional"`` was not measured on cases of its
            own, ``"aside"`` did not pass its gate.
        reason: why it is provisional or was set aside.
        added: when it came into the store, ISO 8601 in UTC.
    """

    standing: Standing = "candidate"
    reason: str = ""
    added: str = ""

    @classmethod
    def now(cls, standing: Standing, reason: str = "") -> Record:
        """A record of this moment."""
        moment = datetime.now(timezone.utc).isoformat(timespec="seconds")
        return cls(standing, plain(reason)[:_LONGEST_REASON], moment)

    def write(self, folder: Path) -> None:
        """Write it beside a pack, whole or not at all.

        Raises:
            OutputError: it could not be written.
        """
        data = {
            "format": _FORMAT,
            "state": self.standing,
            "reason": self.reason,
            "added": self.added,
        }
        write_text(json.dumps(data, indent=1) + "\n", folder / RECORD)

    @classmethod
    def read(cls, folder: Path) -> Record:
        """Read what lies beside a pack; a pack that was copied here by hand has no record."""
        path = folder / RECORD
        if not path.exists():
            return cls()
        try:
            with open(path, "rb") as stream:
                data: Any = json.loads(stream.read(_LARGEST_RECORD))
            if data["format"] == _FORMAT and data["state"] in _STANDINGS:
                reason = plain(str(data["reason"]))[:_LONGEST_REASON]
                return cls(data["state"], reason, str(data["added"]))
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            pass
        # It may have been set aside, so it is not taken for one that was not.
        return cls("aside", f"its {RECORD} cannot be read, so it is unknown whether it may be used")


@dataclass(frozen=True)
class Entry:
    """A version of a model.

    Attributes:
        name: of the pack.
        version: of the pack.
        path: the pack's folder.
        record: what became of it.
        pack: the pack itself; None where it is damaged.
        problem: one sentence on what is wrong with it, or nothing.
        active: whether it is the one in use.
        shipped: whether it came with the installation, rather than lying in the store.
    """

    name: str
    version: str
    path: Path
    record: Record = Record()
    pack: ModelPack | None = None
    problem: str = ""
    active: bool = False
    shipped: bool = False

    @property
    def ref(self) -> str:
        """``NAME@VERSION``."""
        return f"{self.name}@{self.version}"

    @property
    def state(self) -> State:
        """What it can be used for."""
        if self.problem:
            return "damaged"
        return "active" if self.active else self.record.standing

    @property
    def reason(self) -> str:
        """Why it is damaged, provisional, or was set aside."""
        return self.problem or self.record.reason

    @property
    def parent(self) -> str:
        """What it was made from, or nothing."""
        return plain(str(self.pack.manifest.parent or "")) if self.pack else ""

    @property
    def date(self) -> str:
        """When it was trained, else when it was added, as ``YYYY-MM-DD``; or nothing."""
        finished = self.pack.manifest.training.get("finished") if self.pack else None
        for text in (finished, self.record.added):
            if isinstance(text, str) and re.match(r"\d{4}-\d\d-\d\d", text):
                return text[:10]
        return ""

    @property
    def dice(self) -> float | None:
        """Mean over its prompts of the Dice that was measured, 0..1; None if none was."""
        prompts = self.pack.manifest.prompts if self.pack else ()
        known = [p.dice for p in prompts if p.dice is not None and math.isfinite(p.dice)]
        return sum(known) / len(known) if known else None

    @property
    def size(self) -> int:
        """Bytes that it takes on the disk."""
        try:
            return sum(item.stat().st_size for item in os.scandir(self.path) if item.is_file())
        except OSError:
            return 0

    def load(self) -> ModelPack:
        """The pack.

        Raises:
            PackError: it is damaged.
        """
        if self.pack is None:
            raise PackError(self.problem)
        return self.pack


def check_name(name: str, what: str) -> str:
    """Return a name or version that can be a folder on every system.

    Args:
        name: the pack's.
        what: ``"name"`` or ``"version"``, for the message.

    Raises:
        InputError: it cannot.
    """
    if not _NAME.fullmatch(name) or _DEVICES.fullmatch(name):
        raise InputError(
            f"The pack's {what} {plain(name)[:80]!r} cannot be kept in a model store; give it one"
            " of at most 64 of the letters a-z, digits and . _ + -, with a letter or digit first."
        )
    return name


def split_ref(text: str) -> tuple[str, str] | None:
    """Name and version of ``NAME@VERSION``; None if that is not its form."""
    name, at, version = text.partition("@")
    good = at and _NAME.fullmatch(name) and _NAME.fullmatch(version)
    return (name, version) if good else None


def plain(text: str) -> str:
    """One line without control characters, which could rewrite a terminal."""
    return "".join(c if c.isprintable() else " " for c in text)
