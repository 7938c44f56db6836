"""The cursor while something takes a second or two in Slicer's own process."""

import contextlib
from collections.abc import Iterator

import qt


@contextlib.contextmanager
def busyCursor() -> Iterator[None]:
    qt.QApplication.setOverrideCursor(qt.QCursor(qt.Qt.WaitCursor))
    try:
        yield
    finally:
        qt.QApplication.restoreOverrideCursor()
