"""What a segment is to the module: which prompt it answers, and whether it was reviewed."""

from typing import Any

import slicer
import vtk

from .Errors import UserError
from .PromptCatalog import PromptCatalog

PROMPT_TAG = "VerSemiSlicer.Prompt"
"""Segment tag with the prompt's identifier. It marks a segment as ours, so that segmenting the
same prompt again replaces that segment, and never one that somebody else has drawn."""


def checkIsOfVoxels(segmentationNode: "slicer.vtkMRMLSegmentationNode") -> None:
    """Raises UserError where the segmentation is made of surfaces."""
    segmentation = segmentationNode.GetSegmentation()
    if segmentation.GetNumberOfSegments() and not segmentation.IsSourceRepresentationImageData():
        raise UserError(
            f"The segmentation '{segmentationNode.GetName()}' is made of surfaces, not of voxels; "
            "choose another one, or none to make a new one."
        )


def segmentIds(segmentationNode: "slicer.vtkMRMLSegmentationNode | None") -> list[str]:
    """The identifiers of all segments, in their order."""
    if segmentationNode is None:
        return []
    segmentation = segmentationNode.GetSegmentation()
    return [
        str(segmentation.GetNthSegmentID(index))
        for index in range(segmentation.GetNumberOfSegments())
    ]


def segmentOf(
    segmentationNode: "slicer.vtkMRMLSegmentationNode | None", segmentId: str
) -> "slicer.vtkSegment | None":
    """The segment, or None where there is none of that identifier."""
    if segmentationNode is None or segmentId not in segmentIds(segmentationNode):
        return None
    return segmentationNode.GetSegmentation().GetSegment(segmentId)


def nameOf(segmentationNode: "slicer.vtkMRMLSegmentationNode", segmentId: str) -> str:
    return str(segmentationNode.GetSegmentation().GetSegment(segmentId).GetName())


def tagOf(segment: "slicer.vtkSegment", name: str) -> str:
    """The tag's value, or ""."""
    value = vtk.reference("")
    return str(value.get()) if segment.GetTag(name, value) else ""


def terminologyOf(segment: "slicer.vtkSegment") -> str:
    """The terminology entry as Slicer writes it, or ""."""
    return tagOf(segment, segment.GetTerminologyEntryTagName())


def ownSegment(segmentationNode: "slicer.vtkMRMLSegmentationNode", promptId: str) -> str | None:
    """The segment that answers the prompt, or None."""
    for segmentId in segmentIds(segmentationNode):
        segment = segmentationNode.GetSegmentation().GetSegment(segmentId)
        if tagOf(segment, PROMPT_TAG) == promptId:
            return segmentId
    return None


def promptOf(segment: "slicer.vtkSegment", catalog: PromptCatalog) -> Any:
    """The catalog's task that the segment answers, or None.

    By its tag; one that somebody has drawn, or loaded without its tags, by its terminology.
    """
    promptId = tagOf(segment, PROMPT_TAG)
    if promptId in catalog:
        return catalog.task(promptId)
    codes = _codes(terminologyOf(segment))
    for task in catalog.tasks:
        if codes and codes == _codes(task.terminology):
            return task
    return None


def _codes(terminology: str) -> list[str]:
    """Category, type and modifier without their words, which differ between dictionaries."""
    parts = terminology.split("~")[1:4]
    return ["^".join(part.split("^")[:2]) for part in parts] if len(parts) == 3 else []


def isReviewed(segment: "slicer.vtkSegment") -> bool:
    logic = slicer.vtkSlicerSegmentationsModuleLogic
    return bool(logic.GetSegmentStatus(segment) == logic.Completed)


def setReviewed(segment: "slicer.vtkSegment", reviewed: bool) -> None:
    """Slicer's own status, which its Segment Editor shows and its files keep."""
    logic = slicer.vtkSlicerSegmentationsModuleLogic
    logic.SetSegmentStatus(segment, logic.Completed if reviewed else logic.InProgress)


def listed(names: list[str]) -> str:
    """Names as a sentence has them: "Liver, Spleen and Aorta"."""
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))
