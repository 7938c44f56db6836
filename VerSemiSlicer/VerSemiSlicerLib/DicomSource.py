"""The DICOM images that a volume was loaded from."""

from collections.abc import Callable

import slicer

from .Errors import UserError

FileForInstance = Callable[[str], str]
"""Gives the file of a SOP Instance UID; "" where there is none."""


class MissingSeries(UserError):
    """There are no DICOM images to refer to; a new series of the volume would do."""


def fileInDatabase(uid: str) -> str:
    """Asks Slicer's DICOM database, which there is only on the desktop."""
    database = getattr(slicer, "dicomDatabase", None)
    return str(database.fileForInstance(uid)) if database is not None else ""


def filesOf(
    volumeNode: "slicer.vtkMRMLVolumeNode", fileForInstance: FileForInstance = fileInDatabase
) -> list[str]:
    """The files of the series; MissingSeries says what is missing."""
    name = volumeNode.GetName()
    uids = (volumeNode.GetAttribute("DICOM.instanceUIDs") or "").split()
    if not uids:
        raise MissingSeries(
            f"The volume '{name}' was not loaded from DICOM, so the DICOM images are missing that "
            "a DICOM segmentation refers to."
        )
    # One file may hold many frames, each of which the volume then lists.
    files = list(dict.fromkeys(fileForInstance(uid) for uid in uids))
    if not all(files):
        count = sum(not fileForInstance(uid) for uid in uids)
        raise MissingSeries(
            f"Of the {len(uids)} DICOM images that the volume '{name}' was loaded from, {count} "
            "are no longer in Slicer's DICOM database, and a DICOM segmentation refers to them; "
            "import them again, or choose another way."
        )
    return files
