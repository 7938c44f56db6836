"""From the worker's label map to segments, under the volume's transform."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import slicer
import vtk

from . import Prediction, VolumeInput
from .SegmentationResult import SegmentRow
from .Segments import PROMPT_TAG, ownSegment


def importSegments(
    labelMapPath: Path,
    tasks: Sequence[Any],
    labels: Mapping[str, int],
    volumesMl: Mapping[str, float],
    volumeNode: "slicer.vtkMRMLScalarVolumeNode",
    segmentationNode: "slicer.vtkMRMLSegmentationNode | None",
    packName: str,
) -> "tuple[slicer.vtkMRMLSegmentationNode, list[SegmentRow]]":
    """Adds a segment for each prompt of `tasks` to the node, or to a new one.

    Segments of other prompts and of other people keep voxels, names, colours and order. `labels`
    gives each prompt's value in the label map; nothing is read out of the order of the values.
    `packName` is the model pack that has answered.
    """
    # Everything that can fail comes before the first change to the scene.
    labelMap = _readLabelMap(labelMapPath)
    if segmentationNode is None:
        segmentationNode = slicer.mrmlScene.AddNewNodeByClass(
            "vtkMRMLSegmentationNode", f"{volumeNode.GetName()} segmentation"
        )
        _placeBeside(volumeNode, segmentationNode)
    segmentation = segmentationNode.GetSegmentation()
    if segmentation.GetNumberOfSegments() == 0:
        segmentationNode.SetSourceRepresentationToBinaryLabelmap()
        segmentationNode.SetAndObserveTransformNodeID(volumeNode.GetTransformNodeID())
    segmentationNode.CreateDefaultDisplayNodes()
    asked = {task.id: labels[task.id] for task in tasks}
    Prediction.remember(segmentationNode, volumeNode, labelMap, asked, packName)
    _bringInto(segmentationNode, volumeNode, labelMap)
    role = slicer.vtkMRMLSegmentationNode.GetReferenceImageGeometryReferenceRole()
    if segmentationNode.GetNodeReference(role) is None:
        segmentationNode.SetReferenceImageGeometryParameterFromVolumeNode(volumeNode)

    surface = slicer.vtkSegmentationConverter.GetSegmentationClosedSurfaceRepresentationName()
    showedSurface = segmentation.ContainsRepresentation(surface)
    rows = []
    wasModifying = segmentationNode.StartModify()
    try:
        for task in tasks:
            row = _putSegment(segmentationNode, task, labels[task.id], labelMap)
            rows.append(replace(row, volumeMl=float(volumesMl[task.id])))
    finally:
        segmentationNode.EndModify(wasModifying)
    if showedSurface and not segmentation.ContainsRepresentation(surface):
        # The last segment with a surface was replaced by a new one, which has none yet.
        segmentationNode.CreateClosedSurfaceRepresentation()
    return segmentationNode, rows


def _readLabelMap(path: Path) -> "slicer.vtkOrientedImageData":
    """The label map in its own frame, cut down to what is not background."""
    node = VolumeInput.readVolume(path, "vtkMRMLLabelMapVolumeNode")
    imageToWorld = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(imageToWorld)
    labelMap = slicer.vtkOrientedImageData()
    labelMap.ShallowCopy(node.GetImageData())
    labelMap.SetImageToWorldMatrix(imageToWorld)
    extent = [0, -1, 0, -1, 0, -1]
    slicer.vtkOrientedImageDataResample.CalculateEffectiveExtent(labelMap, extent)
    if extent[0] > extent[1]:
        return slicer.vtkOrientedImageData()
    crop = vtk.vtkImageConstantPad()
    crop.SetInputData(labelMap)
    crop.SetOutputWholeExtent(extent)
    crop.Update()
    cropped = slicer.vtkOrientedImageData()
    cropped.ShallowCopy(crop.GetOutput())
    cropped.SetImageToWorldMatrix(imageToWorld)
    return cropped


def _bringInto(
    segmentationNode: "slicer.vtkMRMLSegmentationNode",
    volumeNode: "slicer.vtkMRMLScalarVolumeNode",
    labelMap: "slicer.vtkOrientedImageData",
) -> None:
    """Moves the label map from the volume's frame to that of a node under another transform."""
    source, target = volumeNode.GetParentTransformNode(), segmentationNode.GetParentTransformNode()
    if source is target or labelMap.GetNumberOfPoints() == 0:
        return
    transforms = slicer.vtkMRMLTransformNode
    transform = vtk.vtkGeneralTransform()
    transforms.GetTransformBetweenNodes(source, target, transform)
    if not transforms.IsGeneralTransformLinear(transform):
        slicer.vtkOrientedImageDataResample.TransformOrientedImage(labelMap, transform)
        return
    # No voxel changes; TransformOrientedImage would resample onto the axes of the frame.
    matrix, imageToWorld = vtk.vtkMatrix4x4(), vtk.vtkMatrix4x4()
    transforms.GetMatrixTransformBetweenNodes(source, target, matrix)
    labelMap.GetImageToWorldMatrix(imageToWorld)
    vtk.vtkMatrix4x4.Multiply4x4(matrix, imageToWorld, imageToWorld)
    labelMap.SetImageToWorldMatrix(imageToWorld)


def _putSegment(
    segmentationNode: "slicer.vtkMRMLSegmentationNode",
    task: Any,
    label: int,
    labelMap: "slicer.vtkOrientedImageData",
) -> SegmentRow:
    segmentation = segmentationNode.GetSegmentation()
    segment = slicer.vtkSegment()
    segment.SetName(task.name)
    segment.SetColor(*(channel / 255 for channel in task.color))
    segment.SetTag(segment.GetTerminologyEntryTagName(), task.terminology)
    segment.SetTag(PROMPT_TAG, task.id)
    segment.SetLabelValue(label)
    if labelMap.GetNumberOfPoints():
        # All prompts of a run share one label map, which Slicer keeps as one layer.
        name = slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName()
        segment.AddRepresentation(name, labelMap)
    statusLogic = slicer.vtkSlicerSegmentationsModuleLogic
    statusLogic.SetSegmentStatus(segment, statusLogic.InProgress)

    earlier = ownSegment(segmentationNode, task.id)
    if earlier is None:
        segmentId = segmentation.GenerateUniqueSegmentID(task.id)
        segmentation.AddSegment(segment, segmentId)
    else:
        segmentId = earlier
        _replaceSegment(segmentationNode, segmentId, segment)
    color = tuple(round(255 * channel) for channel in segment.GetColor())
    return SegmentRow(segmentId, segment.GetName(), color, 0.0, earlier is not None)


def _replaceSegment(
    segmentationNode: "slicer.vtkMRMLSegmentationNode",
    segmentId: str,
    segment: "slicer.vtkSegment",
) -> None:
    """Puts `segment` in the place of another one, which leaves it its place in the list, its
    name and colour, and how it is shown: the user may have chosen them."""
    segmentation, display = segmentationNode.GetSegmentation(), segmentationNode.GetDisplayNode()
    earlier = segmentation.GetSegment(segmentId)
    segment.SetName(earlier.GetName())
    segment.SetColor(*earlier.GetColor())
    index = segmentation.GetSegmentIndex(segmentId)
    following = (
        segmentation.GetNthSegmentID(index + 1)
        if index + 1 < segmentation.GetNumberOfSegments()
        else ""
    )
    shown = [
        (setter, getter(segmentId))
        for setter, getter in (
            (display.SetSegmentVisibility, display.GetSegmentVisibility),
            (display.SetSegmentVisibility2DFill, display.GetSegmentVisibility2DFill),
            (display.SetSegmentVisibility2DOutline, display.GetSegmentVisibility2DOutline),
            (display.SetSegmentVisibility3D, display.GetSegmentVisibility3D),
            (display.SetSegmentOpacity2DFill, display.GetSegmentOpacity2DFill),
            (display.SetSegmentOpacity2DOutline, display.GetSegmentOpacity2DOutline),
            (display.SetSegmentOpacity3D, display.GetSegmentOpacity3D),
        )
    ]
    segmentation.RemoveSegment(segmentId)
    segmentation.AddSegment(segment, segmentId, following)
    for setter, value in shown:
        setter(segmentId, value)


def _placeBeside(volumeNode: "slicer.vtkMRMLNode", node: "slicer.vtkMRMLNode") -> None:
    """Puts `node` into the volume's folder or study in the subject hierarchy."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    if hierarchy is None:
        return
    volumeItem, item = hierarchy.GetItemByDataNode(volumeNode), hierarchy.GetItemByDataNode(node)
    if volumeItem and item:
        hierarchy.SetItemParent(item, hierarchy.GetItemParent(volumeItem))


def importUncertainty(
    path: Path,
    volumeNode: "slicer.vtkMRMLScalarVolumeNode",
    uncertaintyNode: "slicer.vtkMRMLScalarVolumeNode | None",
) -> "slicer.vtkMRMLScalarVolumeNode":
    """Puts the uncertainty (0 sure .. 1 unsure) into the node, or into a new one."""
    read = VolumeInput.readVolume(path, "vtkMRMLScalarVolumeNode")
    isNew = uncertaintyNode is None
    if uncertaintyNode is None:
        uncertaintyNode = slicer.mrmlScene.AddNewNodeByClass(
            "vtkMRMLScalarVolumeNode", f"{volumeNode.GetName()} uncertainty"
        )
        _placeBeside(volumeNode, uncertaintyNode)
    uncertaintyNode.SetIJKToRASMatrix(
        slicer.util.vtkMatrixFromArray(np.asarray(VolumeInput.ijkToRas(read)))
    )
    uncertaintyNode.SetAndObserveImageData(read.GetImageData())
    uncertaintyNode.SetAndObserveTransformNodeID(volumeNode.GetTransformNodeID())
    uncertaintyNode.CreateDefaultDisplayNodes()
    if isNew:
        display = uncertaintyNode.GetDisplayNode()
        display.SetAndObserveColorNodeID("vtkMRMLPETProceduralColorNodePET-Heat")
        display.AutoWindowLevelOff()
        display.SetWindowLevelMinMax(0.0, 1.0)
        # What is sure stays see-through, so that the overlay shows only where to look.
        display.AutoThresholdOff()
        display.SetThreshold(0.2, 1.0)
        display.ApplyThresholdOn()
    return uncertaintyNode
