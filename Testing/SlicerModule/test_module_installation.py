"""What is missing is offered once, installed in Slicer's ways, and replaces nothing of Slicer's."""

from __future__ import annotations

import importlib.metadata
import sys
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from VerSemiSlicerLib.Errors import UserError
from VerSemiSlicerLib.Installer import SlicerInstaller
from VerSemiSlicerLib.Requirements import Requirements


class Computer:
    """Which packages are installed, and what was done to change that."""

    def __init__(self, **installed: str) -> None:
        self.installed = {"numpy": "2.1.0", "SimpleITK": "2.5.0", "requests": "2.32.0", **installed}
        self.actions: list[tuple[str, ...]] = []
        self.questions: list[str] = []
        self.answer = True
        self.works = True

    def version(self, package: str) -> str:
        try:
            return self.installed[package]
        except KeyError:
            raise importlib.metadata.PackageNotFoundError(package) from None

    def confirm(self, text: str, title: str) -> bool:
        self.questions.append(text)
        return self.answer

    def error(self, text: str, detail: str = "") -> None:
        raise AssertionError(text)

    def install_torch(self, specifier: str) -> None:
        self.actions.append(("torch", specifier))
        if self.works:
            self.installed["torch"] = "2.13.0+cu128"

    def install_packages(self, requirements: Sequence[str], constraints: Path) -> None:
        self.actions.append((*requirements, constraints.read_text()))
        if self.works:
            self.installed.update(monai="1.6.1", safetensors="0.5.0")

    def installer(self) -> SlicerInstaller:
        return SlicerInstaller(
            self,
            Requirements(installedVersion=self.version),
            self.install_torch,
            self.install_packages,
        )


def test_nothing_is_asked_where_everything_is_there() -> None:
    computer = Computer(torch="2.13.0+cpu", monai="1.6.1", safetensors="0.5.0")
    assert computer.installer().ensure()
    assert computer.questions == []
    assert computer.actions == []


def test_everything_missing_is_asked_for_once_and_then_installed() -> None:
    computer = Computer()

    assert computer.installer().ensure()

    (question,) = computer.questions
    for package in ("torch>=2.2", "monai>=1.4", "safetensors>=0.4"):
        assert package in question
    assert [action[0] for action in computer.actions] == ["torch", "monai>=1.4"]
    assert computer.actions[0] == ("torch", ">=2.2")


def test_torch_is_there_before_monai_and_held_at_its_version_with_what_slicer_has() -> None:
    computer = Computer()
    computer.installer().ensure()
    constraints = computer.actions[1][-1].split()
    assert sorted(constraints) == [
        "SimpleITK==2.5.0",
        "numpy==2.1.0",
        "requests==2.32.0",
        "torch==2.13.0+cu128",
    ]
    assert not any(p.startswith(("numpy", "SimpleITK")) for p in computer.actions[1][:-1])


def test_only_what_is_missing_or_too_old_is_installed() -> None:
    computer = Computer(torch="2.6.0", monai="1.2.0", safetensors="0.5.0")
    assert computer.installer().ensure()
    ((requirement, _constraints),) = computer.actions
    assert requirement == "monai>=1.4"


def test_declining_installs_nothing() -> None:
    computer = Computer()
    computer.answer = False
    assert not computer.installer().ensure()
    assert computer.actions == []


def test_an_installation_without_effect_is_told_with_what_is_still_missing() -> None:
    computer = Computer()
    computer.works = False
    with pytest.raises(UserError, match="torch>=2.2, monai>=1.4, safetensors>=0.4 could not be"):
        computer.installer().ensure()


def test_a_failing_pip_is_told_in_a_sentence() -> None:
    computer = Computer(torch="2.6.0")

    def fail(requirements: Sequence[str], constraints: Path) -> None:
        raise RuntimeError("pip ended with code 1")

    installer = SlicerInstaller(
        computer, Requirements(installedVersion=computer.version), computer.install_torch, fail
    )
    with pytest.raises(UserError, match=r"failed \(pip ended with code 1\); look into the Python"):
        installer.ensure()


def test_torch_comes_through_the_pytorch_extension(monkeypatch: pytest.MonkeyPatch) -> None:
    from VerSemiSlicerLib.Installer import installTorchBySlicer

    calls: list[dict[str, Any]] = []

    class PyTorchUtilsLogic:
        def installTorch(
            self,
            askConfirmation: bool = False,
            forceComputationBackend: str | None = None,
            torchVersionRequirement: str | None = None,
            torchvisionVersionRequirement: str | None = None,
        ) -> None:
            calls.append({"ask": askConfirmation, "version": torchVersionRequirement})

    extension = types.ModuleType("PyTorchUtils")
    extension.PyTorchUtilsLogic = PyTorchUtilsLogic  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "PyTorchUtils", extension)
    installTorchBySlicer(">=2.2")
    assert calls == [{"ask": False, "version": ">=2.2"}]


def test_without_the_pytorch_extension_the_user_is_told_to_install_it() -> None:
    from VerSemiSlicerLib.Installer import installTorchBySlicer

    with pytest.raises(
        UserError, match="install the extension 'PyTorch' in the Extensions Manager"
    ):
        installTorchBySlicer(">=2.2")


def test_slicer_5_11_installs_with_its_packaging_and_5_10_with_its_pip(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import slicer

    from VerSemiSlicerLib.Installer import installPackagesBySlicer

    calls: list[tuple[Any, ...]] = []
    constraints = tmp_path / "constraints.txt"
    monkeypatch.setattr(
        slicer.util, "pip_install", lambda args: calls.append(("util", args)), raising=False
    )
    monkeypatch.setitem(sys.modules, "slicer.packaging", None)
    installPackagesBySlicer(["monai>=1.4"], constraints)

    def pip_ensure(
        requirements: list[Requirement],
        constraints: str | Path | None = None,
        prompt_install: bool = True,
        requester: str | None = None,
    ) -> None:
        # As Slicer's own, which takes no strings.
        missing = [str(r) for r in requirements if r.marker is None and not r.extras]
        calls.append(("packaging", missing, constraints, prompt_install))

    packaging = types.ModuleType("slicer.packaging")
    packaging.pip_ensure = pip_ensure  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "slicer.packaging", packaging)
    installPackagesBySlicer(["monai>=1.4"], constraints)

    assert calls == [
        ("util", ["monai>=1.4", "-c", str(constraints)]),
        ("packaging", ["monai>=1.4"], constraints, False),
    ]


def test_presence_is_read_from_metadata_of_this_python() -> None:
    requirements = Requirements()
    assert requirements.version("no-such-package-anywhere") is None
    assert requirements.version("numpy") == importlib.metadata.version("numpy")
