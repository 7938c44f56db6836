"""What tests of the case library share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from versemi.caselibrary import CaseLibrary

os.environ.setdefault("OMP_NUM_THREADS", "1")

_HERE = Path(__file__).resolve().parent


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody pulls the plug here; where flushing matters, a test looks at it itself."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


@pytest.fixture(scope="session")
def environment() -> dict[str, str]:
    """For Python processes that tests start: `versemi` and the files of this folder import."""
    paths = [str(_HERE.parents[1] / "training"), str(_HERE), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}


@pytest.fixture
def library(tmp_path: Path) -> CaseLibrary:
    return CaseLibrary.create(tmp_path / "a library é")
