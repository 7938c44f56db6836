"""The model that answers: the active one of the user's model store, unless another is named.

Works without Qt and without torch: only manifests are read and checksums compared.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import Locations
from .Errors import UserError
from .PromptCatalog import PromptCatalog
from .Signal import Signal


@dataclass(frozen=True)
class Model:
    """A model pack that was found whole.

    `tasks` are the engine's Task objects in label order, `digest` is the checksum of the weights,
    and `reason` says why the model is provisional, if it is.
    """

    folder: Path
    name: str
    version: str
    tasks: tuple[Any, ...]
    digest: str = ""
    isProvisional: bool = False
    reason: str = ""

    @property
    def title(self) -> str:
        """What the user knows it by."""
        return f"{self.name} {self.version}".strip() + (" (provisional)" * self.isProvisional)


def chosenModel() -> Model:
    """The one that the user has chosen; UserError where it cannot be used, whatever else could."""
    Locations.makeEngineImportable()
    from versemi.modelstore import chosen_pack

    return _load(chosen_pack)


def namedModel(pack: str) -> Model:
    """The one in a folder, or `NAME@VERSION` of the model store, or "shipped"."""
    Locations.makeEngineImportable()
    from versemi.modelstore import find_pack

    return _load(lambda: find_pack(pack))


def shippedModel() -> Model:
    """The one that came with the extension."""
    return namedModel(str(Locations.shippedPack()))


def _load(find: Callable[[], Any]) -> Model:
    from versemi.errors import VersemiError
    from versemi.modelstore.entry import Record

    try:
        pack = find()
    except VersemiError as error:
        raise UserError(str(error)) from None
    except OSError as error:
        raise UserError(
            f"The model cannot be read ({error}); check the folder's permissions."
        ) from None
    record = Record.read(pack.path)
    return Model(
        pack.path,
        pack.name,
        str(pack.version),
        pack.tasks,
        pack.digest,
        record.standing == "provisional",
        record.reason,
    )


class ModelInUse:
    """Keeps to the user's choice, which may change at any time from outside.

    `catalog` has the prompts of the model in use; it is the same object all along. `problem` says
    why the chosen model is not the one in use, where the user has taken another one instead.
    Signal: `changed()`.
    """

    def __init__(
        self,
        choose: Callable[[], Model] = chosenModel,
        ship: Callable[[], Model] = shippedModel,
    ) -> None:
        self.changed = Signal()
        self.catalog = PromptCatalog()
        self.problem = ""
        self._choose = choose
        self._ship = ship
        self._model: Model | None = None

    @property
    def model(self) -> Model:
        assert self._model is not None, "refresh comes first"
        return self._model

    def refresh(self) -> None:
        """Takes the model that is chosen now.

        UserError says why it cannot be used; the one in use then stays. Where the user has heard
        that and has taken another one, nothing is said again.
        """
        try:
            chosen = self._choose()
        except UserError as error:
            if self.problem and str(error) == self.problem:
                return
            raise
        self._take(chosen, "")

    def shipped(self) -> Model | None:
        """The one to offer instead of a chosen one that cannot be used; None where it is no use."""
        try:
            return self._ship()
        except Exception:
            return None

    def useInstead(self, model: Model, problem: str) -> None:
        """Takes `model` until the choice, whose `problem` the user has heard, is another."""
        self._take(model, problem)

    def _take(self, model: Model, problem: str) -> None:
        if (model, problem) == (self._model, self.problem):
            return
        self._model, self.problem = model, problem
        self.catalog.use(model.tasks, model.name, model.version)
        self.changed.emit()
