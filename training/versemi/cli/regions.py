"""Reading a region of interest as a user gives it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from versemi.errors import InputError

if TYPE_CHECKING:
    from versemi.geometry import Roi


def parse_roi(text: str) -> Roi:
    """Read six RAS bounds in mm, or the path of a markups ROI that Slicer saved.

    Raises:
        InputError: neither, or the box is empty.

    Example:
        >>> parse_roi("-45,-12,-48,-2,-32,6").size
        (33.0, 46.0, 38.0)
    """
    if text.lower().endswith(".json"):
        return _read_markups(Path(text))
    try:
        bounds = [float(part) for part in text.split(",")]
    except ValueError:
        bounds = []
    if len(bounds) != 6:
        raise InputError(
            f"The region '{text}' is neither six numbers r0,r1,a0,a1,s0,s1 in mm nor a .mrk.json"
            " file; write for example --roi=-45,-12,-48,-2,-32,6."
        )
    from versemi.geometry import Roi

    return Roi.from_bounds(bounds)


def _read_markups(path: Path) -> Roi:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"The region file {path} cannot be read ({error.strerror}).") from None
    except ValueError:
        raise InputError(f"The region file {path} is not JSON; save the ROI in Slicer.") from None
    try:
        rois = [markup for markup in content["markups"] if markup["type"] == "ROI"]
        if len(rois) != 1:
            raise InputError(
                f"The region file {path} holds {len(rois)} ROIs; save exactly one box in it."
            )
        return _markup_to_roi(rois[0])
    except (KeyError, TypeError, ValueError, IndexError):
        raise InputError(
            f"The region file {path} is not a markups ROI of Slicer; save one box as .mrk.json."
        ) from None


def _markup_to_roi(markup: dict[str, Any]) -> Roi:
    from versemi.geometry import Roi

    # The orientation is a row-major 3x3 matrix whose columns are the axes of the box.
    matrix = [[float(v) for v in markup["orientation"][row : row + 3]] for row in (0, 3, 6)]
    sign = (-1.0, -1.0, 1.0) if markup.get("coordinateSystem", "LPS") == "LPS" else (1.0, 1.0, 1.0)
    return Roi.from_json(
        {
            "center": [s * float(v) for s, v in zip(sign, markup["center"], strict=True)],
            "axes": [[sign[row] * matrix[row][axis] for row in range(3)] for axis in range(3)],
            "size": [float(v) for v in markup["size"]],
        }
    )
