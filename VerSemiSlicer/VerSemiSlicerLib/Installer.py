"""Installing what the worker needs into Slicer's Python, once the user has agreed."""

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from .Dialogs import Dialogs
from .Errors import UserError
from .Requirements import Requirements

# Slicer and its modules are built and tested with these, and torch is what the PyTorch extension
# has chosen for this computer's graphics card: nothing of ours may replace them.
KEPT = ("numpy", "SimpleITK", "requests", "pydicom", "torch", "torchvision")


class Installer(Protocol):
    """What the panel needs of an installer."""

    def ensure(self) -> bool: ...


class SlicerInstaller:
    """Installs torch through the PyTorch extension, and the rest through Slicer's own pip.

    `installTorch(specifier)` and `installPackages(requirements, constraintsFile)` are Slicer's
    ways unless a test brings its own.
    """

    def __init__(
        self,
        dialogs: Dialogs,
        requirements: Requirements | None = None,
        installTorch: Callable[[str], Any] | None = None,
        installPackages: Callable[[Sequence[str], Path], Any] | None = None,
    ) -> None:
        self._dialogs = dialogs
        self._requirements = requirements or Requirements()
        self._installTorch = installTorch or installTorchBySlicer
        self._installPackages = installPackages or installPackagesBySlicer

    def ensure(self) -> bool:
        """True where everything is there, after asking and installing where it was not.

        False where the user declines. UserError says what could not be installed.
        """
        missing = self._requirements.missing()
        if not missing:
            return True
        if not self._dialogs.confirm(self._question(missing), "VerSemi - install Python packages"):
            return False
        torch = [requirement for requirement in missing if _isTorch(requirement)]
        others = [requirement for requirement in missing if not _isTorch(requirement)]
        try:
            for requirement in torch:
                self._installTorch(requirement.removeprefix("torch"))
            if others:
                # MONAI wants torch: only now, when it is there, pip has no reason to choose one.
                with self._constraints() as constraints:
                    self._installPackages(others, constraints)
        except UserError:
            raise
        except Exception as error:
            raise UserError(
                f"Installing {', '.join(missing)} failed ({error}); look into the Python console "
                "for pip's own words, check the network, and press Segment to try again."
            ) from error
        missing = self._requirements.missing()
        if missing:
            raise UserError(
                f"{', '.join(missing)} could not be installed; look into the Python console for "
                "pip's own words, and press Segment to try again."
            )
        return True

    @staticmethod
    def _question(missing: Sequence[str]) -> str:
        packages = "\n".join(f"    {requirement}" for requirement in missing)
        size = " PyTorch takes 0.2 to 3 GB." if any(map(_isTorch, missing)) else ""
        return (
            "VerSemi needs Python packages that this Slicer does not have yet:\n\n"
            f"{packages}\n\n"
            "They will be downloaded from the Python package index and installed into Slicer's "
            f"own Python, which may take some minutes.{size} Install them now?"
        )

    @contextlib.contextmanager
    def _constraints(self) -> Iterator[Path]:
        """A pip constraints file that holds what is installed of KEPT at its version."""
        kept = [(package, self._requirements.version(package)) for package in KEPT]
        with tempfile.TemporaryDirectory(prefix="VerSemi-") as folder:
            path = Path(folder) / "constraints.txt"
            lines = [f"{package}=={version}\n" for package, version in kept if version]
            path.write_text("".join(lines), encoding="utf-8")
            yield path


def _isTorch(requirement: str) -> bool:
    return requirement.startswith("torch") and not requirement.startswith("torchvision")


def installTorchBySlicer(specifier: str) -> None:
    """Lets the PyTorch extension choose the build that suits the graphics driver."""
    try:
        import PyTorchUtils
    except ImportError:
        raise UserError(
            "PyTorch is missing, and so is the extension that installs it; install the extension "
            "'PyTorch' in the Extensions Manager, restart Slicer and press Segment again."
        ) from None
    # The user has agreed already, to all packages at once.
    PyTorchUtils.PyTorchUtilsLogic().installTorch(
        askConfirmation=False, torchVersionRequirement=specifier
    )


def installPackagesBySlicer(requirements: Sequence[str], constraints: Path) -> None:
    """slicer.packaging where Slicer has it (5.11 and later), else slicer.util.pip_install."""
    try:
        from slicer.packaging import pip_ensure
    except ImportError:
        import slicer.util

        slicer.util.pip_install([*requirements, "-c", str(constraints)])
    else:
        from packaging.requirements import Requirement

        pip_ensure(
            # It looks at their markers, which a string has not.
            [Requirement(requirement) for requirement in requirements],
            constraints=constraints,
            prompt_install=False,
            requester="VerSemi",
        )
