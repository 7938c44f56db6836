"""What stays the same from scene to scene: the folders that the user has chosen."""

from typing import Protocol


class Settings(Protocol):
    def text(self, key: str) -> str: ...

    def setText(self, key: str, value: str) -> None: ...


class SlicerSettings:
    """Slicer's own settings file, under the module's name."""

    def text(self, key: str) -> str:
        import slicer

        return str(slicer.app.settings().value(f"VerSemiSlicer/{key}", "") or "")

    def setText(self, key: str, value: str) -> None:
        import slicer

        slicer.app.settings().setValue(f"VerSemiSlicer/{key}", value)
