"""Names of files, and files that appear in a folder all at once, complete, or not at all."""

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .Errors import UserError


@contextmanager
def stagedIn(folder: Path) -> Iterator[Path]:
    """Gives a new folder inside `folder`, whose files move up into it when all went well.

    Files of the same name are replaced then, and not before. UserError says why it could not be.
    """
    stage: Path | None = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        stage = Path(tempfile.mkdtemp(prefix=".VerSemi-", dir=folder))
        yield stage
        written = sorted(stage.iterdir())
        for path in written:
            if path.stat().st_size == 0:
                raise OSError(None, "the disk is full")
            # A full disk may show only now.
            with path.open("r+b") as file:
                os.fsync(file.fileno())
        for path in written:
            path.replace(folder / path.name)
    except OSError as error:
        raise UserError(
            f"Nothing was written to {folder} ({error.strerror}); check that you may write there "
            "and that the disk has room, or choose another folder."
        ) from error
    finally:
        if stage is not None:
            shutil.rmtree(stage, ignore_errors=True)


def safeName(name: str, otherwise: str) -> str:
    """The name without what file systems do not take; letters of all alphabets stay."""
    return re.sub(r"[^\w\- .]+", "_", name).strip(" ._") or otherwise
