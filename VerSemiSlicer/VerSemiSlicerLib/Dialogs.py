"""What the panel says to the user in windows of their own."""

from typing import Protocol


class Dialogs(Protocol):
    def confirm(self, text: str, title: str) -> bool: ...

    def error(self, text: str, detail: str = "") -> None: ...


class SlicerDialogs:
    """Slicer's own message boxes, which close by themselves when Slicer runs tests."""

    def confirm(self, text: str, title: str) -> bool:
        import slicer.util

        return bool(slicer.util.confirmOkCancelDisplay(text, windowTitle=title))

    def error(self, text: str, detail: str = "") -> None:
        import slicer.util

        options = {"detailedText": detail} if detail else {}
        slicer.util.errorDisplay(text, windowTitle="VerSemi", **options)
