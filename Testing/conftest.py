"""What tests of every room share."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from versemi.modelstore import ModelStore

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY / "training"))

if "PYTEST_XDIST_WORKER" in os.environ:
    # Before torch is imported, here or in a process of a test: processes that each want all cores
    # for networks as small as the tests' wait for each other most of the time.
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def tiny_pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pack of every prompt with random weights, small windows, and a fixed seed."""
    import torch

    from versemi.manifest import Manifest, PromptSettings
    from versemi.modelpack import write_pack
    from versemi.network import NetworkSettings, build_network
    from versemi.preprocessing import GroupSettings
    from versemi.tasks import FOREGROUND, TASKS

    torch.manual_seed(0)
    tasks = [task for task in TASKS.values() if task.id != FOREGROUND]
    network = NetworkSettings(prompts=(*(task.id for task in tasks), FOREGROUND), features=8)
    manifest = Manifest(
        name="tiny",
        version="0.0.1",
        network=network.to_json(),
        prompts=tuple(PromptSettings(task, search=task.group == "ct") for task in tasks),
        groups={
            "ct": GroupSettings(
                (4.0, 4.0, 4.0), (32, 32, 32), "window", (-125.0, 275.0), coarse=2.0, margin=8.0
            ),
            "ct_fine": GroupSettings((4.0, 4.0, 4.0), (32, 32, 32), "window", (-125.0, 275.0)),
            "lge_mr": GroupSettings((3.0, 3.0, 3.0), (32, 32, 32), "percentile", (1.0, 99.0)),
            "t1_mr": GroupSettings((3.0, 3.0, 3.0), (32, 32, 32), "percentile", (1.0, 99.0)),
        },
    )
    folder = tmp_path_factory.mktemp("packs") / "tiny"
    write_pack(folder, build_network(network), manifest, {"LICENSE": "For tests only.\n"})
    return folder


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

    def run(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return run
