"""Starting the runtime."""

from __future__ import annotations

import sys
import types
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
MODULE_FOLDER = REPOSITORY / "VerSemiSlicer"


def start() -> types.ModuleType:
    """Complete the package ``slicer`` and return it; a second call changes nothing.

    Afterwards ``import VerSemiSlicerLib...`` works as it does in Slicer. Rendering is left to the
    caller, who knows whether there is a display.
    """
    import slicer

    if hasattr(slicer, "mrmlScene"):
        return slicer
    # slicer.util is written against a complete package and is not imported by the wheel itself.
    import slicer.util

    from SlicerRuntime import application, parameter_node, scene

    slicer.mrmlScene = scene.new_scene()
    slicer.app = application.Application(slicer.mrmlScene)
    scene.add_module_logics(slicer.app)
    sys.modules["slicer.parameterNodeWrapper"] = parameter_node.as_module()
    for folder in (MODULE_FOLDER, REPOSITORY / "training"):
        if str(folder) not in sys.path:
            sys.path.append(str(folder))
    return slicer
