"""The command line and environment that start the worker."""

import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from . import Locations
from .Errors import UserError


def pythonExecutable() -> str:
    """Slicer's own Python; outside the desktop, the Python that is running."""
    found = shutil.which("PythonSlicer")
    if found:
        return found
    if "python" in Path(sys.executable).name.lower():
        return sys.executable
    raise UserError(
        "PythonSlicer, which runs the segmentation, was not found beside Slicer; "
        "install Slicer again."
    )


@dataclass(frozen=True)
class WorkerCommand:
    """How to start a worker.

    `script` are the interpreter's arguments that name the program; a test puts its own here.
    `environment` is added to this process's environment, which is Slicer's own, as PythonSlicer
    needs it.
    """

    python: str = field(default_factory=pythonExecutable)
    script: Sequence[str] = ("-m", "versemi.worker")
    environment: Mapping[str, str] = field(default_factory=dict)

    def line(self, pack: Path, device: str) -> list[str]:
        return [self.python, *self.script, "--pack", str(pack), "--device", device]

    def fullEnvironment(self) -> dict[str, str]:
        environment = dict(os.environ)
        paths = [str(Locations.engineFolder()), environment.get("PYTHONPATH", "")]
        environment["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
        # The protocol and the sentences in it are UTF-8 whatever the system's code page is.
        environment["PYTHONIOENCODING"] = "utf-8"
        environment["PYTHONUNBUFFERED"] = "1"
        environment.update(self.environment)
        return environment
