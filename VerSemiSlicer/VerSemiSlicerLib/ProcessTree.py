"""Starting a child process that can be ended together with everything that it started."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence


def startProcess(command: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen:
    """Starts `command` with pipes for its three streams, in a process group of its own."""
    options: dict = {}
    if os.name == "nt":
        # PythonSlicer is a console program: without this a black window would pop up.
        info = subprocess.STARTUPINFO()  # type: ignore[attr-defined]
        info.dwFlags |= subprocess.STARTF_USESHOWWINDOW  # type: ignore[attr-defined]
        info.wShowWindow = subprocess.SW_HIDE  # type: ignore[attr-defined]
        options["startupinfo"] = info
    else:
        options["start_new_session"] = True
    return subprocess.Popen(
        list(command),
        env=dict(environment),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **options,
    )


def killTree(process: subprocess.Popen) -> None:
    """Ends `process` and its descendants at once; harmless where they have ended already.

    PythonSlicer is a launcher whose child does the work, so ending the process alone is not
    enough.
    """
    if os.name == "nt":
        subprocess.run(
            ["taskkill", "/PID", str(process.pid), "/T", "/F"],
            capture_output=True,
            check=False,
            creationflags=subprocess.CREATE_NO_WINDOW,  # type: ignore[attr-defined]
        )
    else:
        # macOS answers EPERM where only zombies are left in the group.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    process.wait(timeout=10)
