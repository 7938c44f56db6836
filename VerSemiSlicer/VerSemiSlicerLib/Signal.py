"""Notifications without Qt, so that the logic works where no Qt is."""

from collections.abc import Callable
from typing import Any


class Signal:
    """Calls every connected function, in order of connection.

    PythonQt cannot define Qt signals on a Python class, and the logic has to run without Qt.
    """

    def __init__(self) -> None:
        self._slots: list[Callable[..., Any]] = []

    def connect(self, slot: Callable[..., Any]) -> None:
        self._slots.append(slot)

    def disconnect(self, slot: Callable[..., Any]) -> None:
        self._slots.remove(slot)

    def emit(self, *args: Any) -> None:
        # A slot may disconnect itself or others while it runs.
        for slot in list(self._slots):
            slot(*args)
