"""What is on the wire: requests as they come in, and errors as they go out."""

from __future__ import annotations

import json
import sys
import traceback
from typing import Any

from versemi.errors import InputError, OutputError, PackError

Request = dict[str, Any]

_KINDS = ((InputError, "input"), (PackError, "pack"), (OutputError, "output"))


def parse(line: bytes) -> Request:
    """Read one line.

    Raises:
        InputError: it is not a JSON object.
    """
    try:
        request = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError):
        raise InputError("A request has to be one line of JSON in UTF-8.") from None
    if not isinstance(request, dict):
        raise InputError("A request has to be a JSON object with 'id' and 'command'.")
    return request


def number(request: Request, key: str) -> int:
    """The whole number in `key`; InputError where it is something else."""
    value = request.get(key)
    if not isinstance(value, int) or isinstance(value, bool):
        raise InputError(f"Request field '{key}' has to be a whole number, not {value!r}.")
    return value


def field(request: Request, key: str, type_: type, *, optional: bool = False) -> Any:
    """The value in `key`; InputError where it is missing or of another type."""
    value = request.get(key)
    if (value is None and optional) or isinstance(value, type_):
        return value
    if value is None:
        raise InputError(f"Request field '{key}' is missing.")
    raise InputError(f"Request field '{key}' cannot be {value!r}.")


def strings(request: Request, key: str, what: str) -> list[str]:
    """The list of one or more strings in `key`, which messages call `what`."""
    values = field(request, key, list)
    if not values or not all(isinstance(value, str) for value in values):
        raise InputError(f"Request field '{key}' has to be a list of one or more {what}.")
    return list(values)


def modality(request: Request) -> str | None:
    """The field 'modality'; InputError where it is neither CT, MR nor null."""
    value = field(request, "modality", str, optional=True)
    if value not in (None, "CT", "MR"):
        raise InputError(f"There is no modality {value!r}; use CT, MR or null.")
    return value


def error_event(id: int | None, error: Exception) -> dict[str, Any]:
    """The event that tells of `error`, which is logged where it is not meant for the user."""
    kind = next((kind for type_, kind in _KINDS if isinstance(error, type_)), "internal")
    message = str(error)
    if isinstance(error, MemoryError):
        message = "The memory of this computer is not enough; choose a smaller region."
    elif kind == "internal":
        traceback.print_exception(error, file=sys.stderr)
        message = f"Something unexpected went wrong ({type(error).__name__}: {error})."
    return {"event": "error", "id": id, "kind": kind, "message": message}
