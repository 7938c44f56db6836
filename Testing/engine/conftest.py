"""What tests of the engine share."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

# Tests compute little: several threads would only wait for each other on a busy machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")

_HERE = Path(__file__).resolve().parent
_TRAINING = _HERE.parents[1] / "training"


@pytest.fixture(scope="session")
def environment() -> dict[str, str]:
    """For Python processes that tests start: `versemi` and the files of this folder import."""
    paths = [str(_TRAINING), str(_HERE), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run a command of the command line; gives exit code, stdout and stderr."""
    from versemi.cli import main

    def run(*arguments: Any) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return run
