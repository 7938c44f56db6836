"""Which pack answers where none is named, and what a name stands for."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from versemi.errors import InputError, PackError, VersemiError
from versemi.manifest import MANIFEST
from versemi.modelpack import ModelPack, default_pack_path
from versemi.modelstore.entry import SHIPPED, split_ref
from versemi.modelstore.store import ModelStore


def default_folder() -> Path:
    """Where the model store lies: ``VERSEMI_MODELS``, else a folder of the user's own data.

    Raises:
        InputError: the system does not say where the user's data lie.
    """
    named = os.environ.get("VERSEMI_MODELS")
    if named:
        return Path(named)
    try:
        if sys.platform == "win32":
            local = os.environ.get("LOCALAPPDATA")
            return Path(local or Path.home() / "AppData" / "Local") / "VerSemi" / "models"
        if sys.platform == "darwin":
            return Path.home() / "Library" / "Application Support" / "VerSemi" / "models"
        data = os.environ.get("XDG_DATA_HOME", "")
        # A relative path is to be ignored, says the XDG Base Directory Specification.
        base = Path(data) if os.path.isabs(data) else Path.home() / ".local" / "share"
        return base / "versemi" / "models"
    except RuntimeError:
        raise InputError(
            "This system names no home folder for the model store; give a folder in the"
            " environment variable VERSEMI_MODELS."
        ) from None


def chosen_pack() -> ModelPack:
    """Load the pack that was chosen, and no other in its place.

    That is the one that ``VERSEMI_PACK`` names, else the store's active one, else the one that
    ships.

    Raises:
        PackError: it was deleted or is damaged, or the choice cannot be read.
        InputError: the model store is none.
    """
    if os.environ.get("VERSEMI_PACK"):
        return ModelPack.load(default_pack_path())
    return ModelStore(default_folder()).active().load()


def active_pack() -> tuple[ModelPack, str]:
    """Load the pack that answers where none is named, and say so if it is not the chosen one.

    That is `chosen_pack`, but a version of the store that was deleted or is damaged keeps nobody
    from working: the one that ships answers.

    Returns:
        The pack, and a warning in one sentence, which is empty where all is well.

    Raises:
        PackError: neither the chosen pack nor the one that ships can be used.
    """
    if os.environ.get("VERSEMI_PACK"):
        return ModelPack.load(default_pack_path()), ""
    chosen = "model"
    try:
        store = ModelStore(default_folder())
        parts = store.chosen()
        if parts is not None:
            chosen = f"model {parts[0]}@{parts[1]}"
            return store.active().load(), ""
    except VersemiError as error:
        try:
            shipped = ModelPack.load(default_pack_path())
        except PackError:
            raise PackError(f"The active {chosen} cannot be used: {error}") from None
        return shipped, (
            f"The active {chosen} cannot be used, and {shipped.name} {shipped.version}, which"
            f" ships, answers instead: {error}"
        )
    return ModelPack.load(default_pack_path()), ""


def active_pack_path() -> Path:
    """The folder of the pack that answers where none is named; see `active_pack`.

    Raises:
        PackError: there is none.
    """
    return active_pack()[0].path


def find_pack(text: str | os.PathLike[str], store: ModelStore | None = None) -> ModelPack:
    """Load the pack that a user names.

    Args:
        text: the folder of a pack, ``NAME@VERSION`` of the model store, or ``shipped``.
        store: the user's own where None.

    Raises:
        InputError: the store has no such version.
        PackError: there is no such folder, or the pack is damaged.
    """
    path, name = Path(text), os.fspath(text)
    named = name == SHIPPED or split_ref(name) is not None
    # A folder was always meant by its name, also by one with an @ in it.
    if not named or (path / MANIFEST).is_file():
        return ModelPack.load(path)
    return (store or ModelStore(default_folder())).find(name).load()
