"""Makes the module's parts as they work in Slicer."""

from . import Locations
from .PromptCatalog import PromptCatalog
from .SegmentationLogic import SegmentationLogic
from .WorkerLink import WorkerLink


def temporaryFolder() -> str | None:
    """Slicer's temporary folder, which the user can move to a larger disk; else the system's."""
    import slicer

    return str(slicer.app.temporaryPath) if hasattr(slicer, "app") else None


def makeCatalog() -> PromptCatalog:
    """The prompts of the pack in use; raises an exception with one sentence where it is broken."""
    return PromptCatalog.fromPack(Locations.packFolder())


def makeLogic(
    catalog: PromptCatalog | None = None, link: WorkerLink | None = None
) -> SegmentationLogic:
    return SegmentationLogic(catalog or makeCatalog(), link or WorkerLink(), temporaryFolder())
