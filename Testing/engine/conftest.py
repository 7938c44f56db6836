"""What tests of the engine share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

_HERE = Path(__file__).resolve().parent
_TRAINING = _HERE.parents[1] / "training"


@pytest.fixture(scope="session")
def environment() -> dict[str, str]:
    """For Python processes that tests start: `versemi` and the files of this folder import."""
    paths = [str(_TRAINING), str(_HERE), os.environ.get("PYTHONPATH", "")]
    threads = {"OMP_NUM_THREADS": "1", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": "1"}
    return {**os.environ, **threads, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
