"""Makes the module's parts as they work in Slicer."""

from .ModelInUse import ModelInUse, namedModel
from .SegmentationLogic import SegmentationLogic
from .WorkerCommand import WorkerCommand
from .WorkerLink import WorkerLink
from .WorkerProcess import Worker, WorkerProcess


def temporaryFolder() -> str | None:
    """Slicer's temporary folder, which the user can move to a larger disk; else the system's."""
    import slicer

    return str(slicer.app.temporaryPath) if hasattr(slicer, "app") else None


def makeModel(pack: str = "") -> ModelInUse:
    """The named model, else the one that the user has chosen; UserError where it is of no use."""
    model = ModelInUse(lambda: namedModel(pack)) if pack else ModelInUse()
    model.refresh()
    return model


def makeLink(model: ModelInUse) -> WorkerLink:
    """A link whose worker has the model in use, whichever that is when it is started."""

    def start(device: str) -> Worker:
        command = WorkerCommand()
        line = command.line(model.model.folder, device)
        return WorkerProcess(line, command.fullEnvironment())

    return WorkerLink(start)


def makeLogic(model: ModelInUse | None = None, link: WorkerLink | None = None) -> SegmentationLogic:
    model = model or makeModel()
    return SegmentationLogic(model.catalog, link or makeLink(model), temporaryFolder())
