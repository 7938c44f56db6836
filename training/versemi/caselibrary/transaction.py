"""Several files that appear together or not at all.

All of them are written under temporary names and flushed to the disk first. What can fail for
want of space has then happened, and what is left is renaming, in the order of staging. One of the
files is the commit point: before it is renamed a reader sees the old state, from then on the new.
"""

from __future__ import annotations

import errno
import os
import shutil
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from versemi.errors import OutputError

PART = ".part-"
_FULL = (errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC))
_ATTEMPTS = 40

Result = TypeVar("Result")


class Transaction:
    """Stage files inside a ``with`` block; they are renamed when it ends without an exception.

    Args:
        root: the folder in which everything happens; messages name it.

    Raises:
        OutputError: at the end of the block, for whatever the system refused inside it; no file
            has changed then.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._committed: list[tuple[Path, Path]] = []
        self._following: list[tuple[Path, Path]] = []

    def stage(self, path: Path, *, following: bool = False) -> Path:
        """Give the temporary path whose file will take the place of `path`.

        Args:
            path: below the root; missing folders are made.
            following: rename it after the commit point, the last file that is not following. It
                repeats what the others say, so the next writer can make up for it if a crash or
                the system prevents that.
        """
        make_folder(path.parent)
        temporary = path.with_name(f"{PART}{uuid.uuid4().hex[:8]}-{path.name}")
        (self._following if following else self._committed).append((temporary, path))
        # Here the system says why it refuses; SimpleITK would only say that it could not write.
        temporary.touch(exist_ok=False)
        return temporary

    def stage_text(self, path: Path, text: str, *, following: bool = False) -> None:
        """Stage a file with this content, in UTF-8."""
        self.stage(path, following=following).write_text(text, encoding="utf-8", newline="\n")

    def staged(self, path: Path) -> Path:
        """Where the content that `path` will have lies now."""
        for temporary, target in (*self._committed, *self._following):
            if target == path:
                return temporary
        return path

    def __enter__(self) -> Transaction:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                self._commit()
            elif isinstance(error, OSError):
                raise refused(self.root, error) from error
        except OSError as failure:
            raise refused(self.root, failure) from failure
        finally:
            for temporary, _ in (*self._committed, *self._following):
                with suppress(OSError):
                    temporary.unlink(missing_ok=True)

    def _commit(self) -> None:
        for temporary, _ in (*self._committed, *self._following):
            with open(temporary, "r+b") as stream:
                os.fsync(stream.fileno())
        for temporary, path in self._committed:
            rename(temporary, path)
        # The new state stands. Whatever happens now is made up for by the next writer.
        with suppress(OSError):
            for temporary, path in self._following:
                rename(temporary, path)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, so that they outlast a power cut."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)


def rename(source: Path, target: Path) -> None:
    """Rename a file, replacing what is there, so that it outlasts a power cut."""
    patiently(lambda: os.replace(source, target))
    sync_folder(target.parent)


def move_aside(source: Path, target: Path) -> None:
    """Move a file or folder to where nothing is, so that it outlasts a power cut."""
    make_folder(target.parent)
    patiently(lambda: os.rename(source, target))
    sync_folder(target.parent)
    sync_folder(source.parent)


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to the disk, where the system can open folders."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def patiently(action: Callable[[], Result]) -> Result:
    """Do something to a file; on Windows wait for others who have it open at this instant."""
    for _ in range(_ATTEMPTS if os.name == "nt" else 0):
        try:
            return action()
        except PermissionError:
            time.sleep(0.05)
    return action()


def remove_parts(folder: Path) -> None:
    """Remove what a writer that was killed had staged; only who holds the lock may do this."""
    for path in folder.glob(f"{PART}*"):
        with suppress(OSError):
            path.unlink()


def refused(root: Path, error: OSError) -> OutputError:
    """The sentence for what the system refused while writing below `root`."""
    if error.errno in _FULL:
        free = ""
        with suppress(OSError):
            free = f", {shutil.disk_usage(root).free / 1e9:.1f} GB free"
        return OutputError(
            f"The library {root} could not be written (the disk or quota is full{free}); make room"
            " and try again; nothing in it has changed."
        )
    return OutputError(
        f"The library {root} could not be written ({error.strerror or error}); check the"
        " permissions of the folder and try again; nothing in it has changed."
    )
