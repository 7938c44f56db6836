"""The model store: all versions of the model on this machine, and which of them is in use.

``docs/models.md`` shows what lies in such a folder. Nothing here imports torch.
"""

from versemi.modelstore.active import (
    active_pack,
    active_pack_path,
    chosen_pack,
    default_folder,
    find_pack,
)
from versemi.modelstore.entry import SHIPPED, Entry
from versemi.modelstore.store import ModelStore

__all__ = [
    "SHIPPED",
    "Entry",
    "ModelStore",
    "active_pack",
    "active_pack_path",
    "chosen_pack",
    "default_folder",
    "find_pack",
]
