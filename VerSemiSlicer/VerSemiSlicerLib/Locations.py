"""Where the module's files lie: in a checkout, in a build tree, and where it was installed.

Installed and built, the engine (package ``versemi``) and the model pack lie beside
``VerSemiSlicer.py``; in a checkout they lie one folder up, where the repository keeps them.
"""

import sys
from pathlib import Path

from .Errors import UserError

MODULE_FOLDER = Path(__file__).resolve().parent.parent
_PACK = Path("Resources") / "Models" / "versemi-base"


def resourcePath(*parts: str) -> Path:
    """A file of the module's own Resources folder."""
    return MODULE_FOLDER.joinpath("Resources", *parts)


def engineFolder() -> Path:
    """The folder that holds the package ``versemi``."""
    for folder in (MODULE_FOLDER, MODULE_FOLDER.parent / "training"):
        if (folder / "versemi" / "__init__.py").is_file():
            return folder
    raise UserError(
        f"The segmentation engine (folder 'versemi') is missing beside {MODULE_FOLDER}; "
        "install the extension again."
    )


def shippedPack() -> Path:
    """The model pack that came with the extension."""
    for folder in (MODULE_FOLDER, MODULE_FOLDER.parent):
        if (folder / _PACK / "manifest.json").is_file():
            return folder / _PACK
    raise UserError(
        f"The model pack 'versemi-base' is missing beside {MODULE_FOLDER}; "
        "install the extension again."
    )


def makeEngineImportable() -> None:
    """Lets ``import versemi`` work in a checkout, where it is not on Slicer's path by itself."""
    folder = str(engineFolder())
    if folder not in sys.path:
        sys.path.append(folder)
