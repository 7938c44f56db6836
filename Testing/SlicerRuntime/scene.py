"""The scene and the logics of Slicer's loadable modules."""

from __future__ import annotations

import json
import tempfile
import types
from pathlib import Path
from typing import TYPE_CHECKING, Any

import slicer

if TYPE_CHECKING:
    from SlicerRuntime.application import Application

# Module name, class of its logic. The order matters: segmentations look for terminologies, and
# everything looks for colours.
_LOGICS = (
    ("Colors", "vtkSlicerColorLogic"),
    ("Terminologies", "vtkSlicerTerminologiesModuleLogic"),
    ("SubjectHierarchy", "vtkSlicerSubjectHierarchyModuleLogic"),
    ("Transforms", "vtkSlicerTransformLogic"),
    ("Volumes", "vtkSlicerVolumesLogic"),
    ("Segmentations", "vtkSlicerSegmentationsModuleLogic"),
    ("Models", "vtkSlicerModelsLogic"),
    ("Markups", "vtkSlicerMarkupsLogic"),
)


class Module:
    """What ``slicer.modules.<name>`` is outside the desktop: a door to the logic."""

    def __init__(self, name: str, logic: Any) -> None:
        self.name = name
        self._logic = logic

    def logic(self) -> Any:
        return self._logic


def new_scene() -> Any:
    """An empty scene whose files go to a folder of its own."""
    scene = slicer.vtkMRMLScene()
    scene.SetRootDirectory(tempfile.mkdtemp(prefix="SlicerRuntime-"))
    return scene


def add_module_logics(application: Application) -> None:
    """Make the logics, tie them to scene and application, and fill ``slicer.modules``."""
    slicer.modules = types.SimpleNamespace()
    for name, class_name in _LOGICS:
        logic = getattr(slicer, class_name)()
        if name == "Terminologies":
            # It reads its share directory when it is given the scene.
            logic.SetModuleShareDirectory(_terminology_folder())
        logic.SetMRMLApplicationLogic(application.applicationLogic())
        logic.SetMRMLScene(slicer.mrmlScene)
        application.applicationLogic().SetModuleLogic(name, logic)
        setattr(slicer.modules, name.lower(), Module(name, logic))


def _terminology_folder() -> str:
    """A folder with terminologies by the names that the logic looks for, and nothing in them.

    The real ones are not in the wheel, and without the files the logic reports errors.
    """
    folder = Path(tempfile.mkdtemp(prefix="SlicerRuntime-"))
    category = {
        "SegmentationCategoryTypeContextName": "",
        "@schema": "https://raw.githubusercontent.com/qiicr/dcmqi/master/doc/segment-context-schema.json#",
        "SegmentationCodes": {"Category": []},
    }
    region = {
        "AnatomicContextName": "Anatomic codes - DICOM master list",
        "@schema": "https://raw.githubusercontent.com/qiicr/dcmqi/master/doc/anatomic-context-schema.json#",
        "AnatomicCodes": {"AnatomicRegion": []},
    }
    names = {
        "SegmentationCategoryTypeModifier-SlicerGeneralAnatomy": (
            "Segmentation category and type - 3D Slicer General Anatomy list"
        ),
        "SegmentationCategoryTypeModifier-DICOM-Master": (
            "Segmentation category and type - DICOM master list"
        ),
    }
    for file_name, context in names.items():
        category["SegmentationCategoryTypeContextName"] = context
        _write(folder / f"{file_name}.term.json", category)
    _write(folder / "AnatomicRegionAndModifier-DICOM-Master.term.json", region)
    return str(folder)


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")
