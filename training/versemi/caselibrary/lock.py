"""One writer at a time, by a lock of the operating system, which ends with its process."""

from __future__ import annotations

import errno
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from versemi.errors import OutputError

_PAUSE = 0.05
_HELD = (errno.EACCES, errno.EAGAIN, errno.EDEADLK)

if sys.platform == "win32":
    import msvcrt

    # Windows keeps others from reading a locked byte, so the byte lies far behind the file's end.
    _BYTE = 1 << 30

    def _try(handle: int) -> None:
        os.lseek(handle, _BYTE, os.SEEK_SET)
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)

    def _release(handle: int) -> None:
        os.lseek(handle, _BYTE, os.SEEK_SET)
        msvcrt.locking(handle, msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    # flock, not lockf: a lockf lock is lost as soon as the process closes the file anywhere else.
    def _try(handle: int) -> None:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _release(handle: int) -> None:
        fcntl.flock(handle, fcntl.LOCK_UN)


@contextmanager
def exclusive(path: Path, wait: float) -> Iterator[None]:
    """Hold the lock on a file that exists; its content is not touched.

    Two threads of one process exclude each other as two processes do. When a process ends, however
    it ends, the system releases its lock, so there is nothing to clean up.

    Args:
        path: the file.
        wait: how many seconds to wait for another writer.

    Raises:
        OutputError: another writer held the lock all this time, the folder may not be written, or
            its file system knows no locks.
    """
    folder = path.parent
    try:
        stream = open(path, "r+b")  # noqa: SIM115
    except OSError as error:
        raise OutputError(
            f"The library {folder} may not be written ({error.strerror}); check the permissions"
            " of the folder, or copy it to where you may write."
        ) from None
    with stream:
        handle = stream.fileno()
        deadline = time.monotonic() + wait
        while True:
            try:
                _try(handle)
                break
            except OSError as error:
                if error.errno not in _HELD:
                    raise OutputError(
                        f"The library {folder} cannot be locked ({error.strerror}); put it on a"
                        " disk of this computer."
                    ) from None
                if time.monotonic() >= deadline:
                    raise OutputError(
                        f"Another program has been writing to the library {folder} for"
                        f" {wait:g} seconds; try again when it is done."
                    ) from None
                time.sleep(_PAUSE)
        try:
            yield
        finally:
            _release(handle)
