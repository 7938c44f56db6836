"""What tests of the engine share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# Tests compute little: several threads would only wait for each other on a busy machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")

_HERE = Path(__file__).resolve().parent
_TRAINING = _HERE.parents[1] / "training"


@pytest.fixture(scope="session")
def environment() -> dict[str, str]:
    """For Python processes that tests start: `versemi` and what the tests share import."""
    paths = [str(_TRAINING), str(_HERE), str(_HERE.parent), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
