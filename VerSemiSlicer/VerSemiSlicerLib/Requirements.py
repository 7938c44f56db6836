"""Which Python packages the worker needs, and which of them are missing.

Presence is read from the packages' metadata: importing torch to see whether it is there would
load it into Slicer's own process, where nothing of ours wants it.
"""

import importlib
import importlib.metadata
from collections.abc import Callable
from pathlib import Path

from .Locations import resourcePath


class Requirements:
    """The packages of ``Resources/requirements.txt``, one requirement a line."""

    def __init__(
        self,
        path: Path | None = None,
        installedVersion: Callable[[str], str] = importlib.metadata.version,
    ) -> None:
        self._path = path or resourcePath("requirements.txt")
        self._installedVersion = installedVersion

    def all(self) -> list[str]:
        """Every requirement, as pip writes them: "monai>=1.4"."""
        lines = self._path.read_text(encoding="utf-8").splitlines()
        return [line.strip() for line in lines if line.strip() and not line.startswith("#")]

    def missing(self) -> list[str]:
        """The requirements that are not installed, or too old."""
        importlib.invalidate_caches()
        return [requirement for requirement in self.all() if not self._isMet(requirement)]

    def version(self, package: str) -> str | None:
        """The installed version of a package, or None."""
        try:
            return self._installedVersion(package)
        except importlib.metadata.PackageNotFoundError:
            return None

    def _isMet(self, requirement: str) -> bool:
        from packaging.requirements import Requirement

        wanted = Requirement(requirement)
        version = self.version(wanted.name)
        return version is not None and wanted.specifier.contains(version, prereleases=True)
