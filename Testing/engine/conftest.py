"""What tests of the engine share."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from versemi.modelstore import ModelStore

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
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A pack that ships, in an environment that names no other and has a store of its own."""
    from packs import make_pack

    from versemi.modelstore import active, store

    pack = make_pack(tmp_path / "ships", "base", "1.0", dice=0.8)
    for module in (store, active):
        monkeypatch.setattr(module, "default_pack_path", lambda: pack)
    monkeypatch.delenv("VERSEMI_PACK", raising=False)
    monkeypatch.setenv("VERSEMI_MODELS", str(tmp_path / "models é"))
    return pack


@pytest.fixture
def store(shipped: Path, tmp_path: Path) -> ModelStore:
    """The user's own model store, which is empty."""
    from versemi.modelstore import ModelStore

    return ModelStore(tmp_path / "models é")


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
