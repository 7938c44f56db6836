"""Real MRML without the desktop, for tests, scripts and the demo.

``start()`` gives the ``slicer`` package of the wheel `slicer-core` what the desktop adds to it:
the scene with its logics, ``slicer.app``, ``slicer.modules``, and a parameter node wrapper. What is
not in the wheel is replaced by as little as the module needs, in the files of this package:

- ``scene``: the scene and the modules' logics, all of them Slicer's own;
- ``application``: ``slicer.app`` with its input and output manager;
- ``parameter_node``: ``slicer.parameterNodeWrapper``;
- ``widgets``: ``qt`` and Slicer's widgets on PySide6, for the tests of the panel.
"""

from SlicerRuntime.start import MODULE_FOLDER, start

__all__ = ["MODULE_FOLDER", "start"]
