"""``slicer.app``, as far as code without windows asks for it."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import slicer

_STORAGE = {
    "VolumeFile": ("vtkMRMLScalarVolumeNode", "vtkMRMLVolumeArchetypeStorageNode"),
    "SegmentationFile": ("vtkMRMLSegmentationNode", "vtkMRMLSegmentationStorageNode"),
    "TransformFile": ("vtkMRMLTransformNode", "vtkMRMLTransformStorageNode"),
    "MarkupsFile": ("vtkMRMLMarkupsROINode", "vtkMRMLMarkupsROIJsonStorageNode"),
    "ModelFile": ("vtkMRMLModelNode", "vtkMRMLModelStorageNode"),
}


class Application:
    """The application logic, the temporary folder, and the input and output manager."""

    def __init__(self, scene: Any) -> None:
        self.temporaryPath = tempfile.mkdtemp(prefix="SlicerRuntime-")
        self._logic = slicer.vtkSlicerApplicationLogic()
        self._logic.SetTemporaryPath(self.temporaryPath)
        # Where Slicer keeps its colour files; there are none, and only the built-in colours come.
        (Path(self.temporaryPath) / "share" / "ColorFiles").mkdir(parents=True)
        self._logic.SetHomeDirectory(self.temporaryPath)
        self._logic.SetShareDirectory("share")
        self._logic.SetMRMLScene(scene)
        self._io = IoManager(scene)
        self._settings = Settings()

    def applicationLogic(self) -> Any:
        return self._logic

    def coreIOManager(self) -> IoManager:
        return self._io

    def settings(self) -> Settings:
        return self._settings

    def testingEnabled(self) -> bool:
        return True


class Settings:
    """The user's settings, which here end with the process."""

    def __init__(self) -> None:
        self._values: dict[str, Any] = {}

    def value(self, key: str, default: Any = None) -> Any:
        return self._values.get(key, default)

    def setValue(self, key: str, value: Any) -> None:
        self._values[key] = value


class IoManager:
    """Loads and saves through MRML's own storage nodes, with the calls that slicer.util makes."""

    def __init__(self, scene: Any) -> None:
        self._scene = scene

    def loadNodes(
        self,
        file_type: str,
        properties: dict[str, Any],
        loaded: Any = None,
        messages: Any = None,
    ) -> bool:
        """Load one file into a new node, which `loaded` (a vtkCollection) then holds."""
        node_class, storage_class = _STORAGE[file_type]
        if properties.get("labelmap"):
            node_class = "vtkMRMLLabelMapVolumeNode"
        path = str(properties["fileName"])
        name = properties.get("name") or Path(path).name.split(".")[0]
        storage = self._scene.AddNewNodeByClass(storage_class)
        storage.SetFileName(path)
        node = self._scene.AddNewNodeByClass(node_class, name)
        if not storage.ReadData(node):
            self._scene.RemoveNode(node)
            self._scene.RemoveNode(storage)
            return False
        node.SetAndObserveStorageNodeID(storage.GetID())
        node.CreateDefaultDisplayNodes()
        if loaded is not None:
            loaded.AddItem(node)
        return True

    def saveNodes(self, file_type: str, properties: dict[str, Any], messages: Any = None) -> bool:
        """Save the node with the ID ``nodeID`` to ``fileName``."""
        node = self._scene.GetNodeByID(properties["nodeID"])
        node.AddDefaultStorageNode(str(properties["fileName"]))
        storage = node.GetStorageNode()
        storage.SetFileName(str(properties["fileName"]))
        storage.SetUseCompression(int(properties.get("useCompression", 1)))
        return bool(storage.WriteData(node))

    def fileWriterFileType(self, node: Any, _path: str = "") -> str:
        for file_type, (node_class, _) in _STORAGE.items():
            if node.IsA(node_class):
                return file_type
        return ""
