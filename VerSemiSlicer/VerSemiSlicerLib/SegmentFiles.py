"""Segments as files, on the grid of their volume, through Slicer's own writers."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import slicer
import vtk

from . import Segments
from .Errors import UserError
from .ExportFormat import ExportFormat
from .FileStage import safeName
from .VolumeGrid import VolumeGrid, labelMapOf, layersOf, maskOf, writeLabelMap


@dataclass(frozen=True)
class Chosen:
    """Segments to export: what they are, and the volume whose grid they are on.

    `values` has each segment's value in label maps, in the order of the segments.
    """

    segmentationNode: "slicer.vtkMRMLSegmentationNode"
    volumeNode: "slicer.vtkMRMLScalarVolumeNode"
    values: dict[str, int]

    def segment(self, segmentId: str) -> "slicer.vtkSegment":
        return self.segmentationNode.GetSegmentation().GetSegment(segmentId)

    def names(self, segmentIds: Sequence[str]) -> list[str]:
        return [Segments.nameOf(self.segmentationNode, segmentId) for segmentId in segmentIds]


def fileNames(chosen: Chosen, format: ExportFormat) -> list[str]:
    """The names of the files that `write` makes, for those who ask before they replace any."""
    base = safeName(chosen.segmentationNode.GetName(), "Segmentation")
    table = f"{base}.labels.csv"
    if format.isSurface:
        surfaces = list(_surfaceNames(chosen, base, format).values())
        if format is ExportFormat.OBJ:
            surfaces += [name.removesuffix(".obj") + ".mtl" for name in surfaces]
        return [*surfaces, table]
    return [f"{base}{format.value}", *([table] if format is ExportFormat.NIFTI else [])]


def write(chosen: Chosen, format: ExportFormat, grid: VolumeGrid, folder: Path) -> list[str]:
    """Writes the segments into the folder, on `grid`, which is the volume's wherever it lies.

    Returns the names of segments that were left out because they have no surface. UserError says
    what cannot be written.
    """
    base = safeName(chosen.segmentationNode.GetName(), "Segmentation")
    if format is ExportFormat.NIFTI:
        labels, _ = labelMapOf(chosen.segmentationNode, chosen.values, chosen.volumeNode)
        writeLabelMap(*_rightHanded(labels, grid), folder / f"{base}{format.value}")
        _writeTable(chosen, list(chosen.values), folder / f"{base}.labels.csv")
        return []
    # A scene of its own, for the colours of surfaces, that leaves the user's alone.
    scene = slicer.vtkMRMLScene()
    node, empty = _placed(chosen, grid, scene)
    if not format.isSurface:
        storage = slicer.vtkMRMLSegmentationStorageNode()
        storage.SetFileName(str(folder / f"{base}.seg.nrrd"))
        if not storage.WriteData(node):
            raise UserError(f"Slicer could not write '{base}.seg.nrrd'; look into its error log.")
        return []
    full = [segmentId for segmentId in chosen.values if segmentId not in empty]
    if not full:
        raise UserError(
            f"There is nothing to export: {Segments.listed(chosen.names(empty))} has 0 voxels; "
            "draw it first."
        )
    names = _surfaceNames(chosen, base, format)
    _writeSurfaces(node, {segmentId: names[segmentId] for segmentId in full}, format, folder)
    _writeTable(chosen, full, folder / f"{base}.labels.csv")
    return chosen.names(empty)


def _rightHanded(voxels: np.ndarray, grid: VolumeGrid) -> tuple[np.ndarray, VolumeGrid]:
    """The same voxels (k, j, i) in the same places on a right-handed grid.

    Slicer turns the slices of a left-handed file round when it reads it, but not the extents of
    the segments.
    """
    if np.linalg.det(grid.ijkToRas[:3, :3]) > 0:
        return voxels, grid
    flip = np.diag([1.0, 1.0, -1.0, 1.0])
    flip[2, 3] = grid.dimensions[2] - 1
    turned = VolumeGrid(grid.dimensions, grid.ijkToRas @ flip)
    return np.ascontiguousarray(voxels[::-1]), turned


def _placed(
    chosen: Chosen, grid: VolumeGrid, scene: "slicer.vtkMRMLScene"
) -> "tuple[slicer.vtkMRMLSegmentationNode, list[str]]":
    """A segmentation in `scene` with the segments on the grid, and the empty ones."""
    source = chosen.segmentationNode.GetSegmentation()
    node = slicer.vtkMRMLSegmentationNode()
    scene.AddNode(node)
    node.SetName("segment")
    node.SetSourceRepresentationToBinaryLabelmap()
    segmentation = node.GetSegmentation()
    segmentation.CopyConversionParameters(source)
    masks = [
        maskOf(chosen.segmentationNode, segmentId, chosen.volumeNode) for segmentId in chosen.values
    ]
    layers, places = layersOf(masks, list(chosen.values.values()))
    placed = [_rightHanded(layer, grid) for layer in layers]
    images = [turned.image(voxels) for voxels, turned in placed]
    geometry = slicer.vtkSegmentationConverter.SerializeImageGeometry(images[0])
    segmentation.SetConversionParameter(
        slicer.vtkSegmentationConverter.GetReferenceImageGeometryParameterName(), geometry
    )
    name = slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName()
    for (segmentId, value), place in zip(chosen.values.items(), places, strict=True):
        segment = slicer.vtkSegment()
        segment.DeepCopyMetadata(chosen.segment(segmentId))
        segment.SetLabelValue(value)
        segment.AddRepresentation(name, images[place])
        segmentation.AddSegment(segment, segmentId)
    empty = [
        segmentId for segmentId, mask in zip(chosen.values, masks, strict=True) if not mask.any()
    ]
    return node, empty


def _surfaceNames(chosen: Chosen, base: str, format: ExportFormat) -> dict[str, str]:
    """A file name for each segment, no two alike, not even where case does not count."""
    names: dict[str, str] = {}
    taken: set[str] = set()
    for segmentId in chosen.values:
        own = safeName(Segments.nameOf(chosen.segmentationNode, segmentId), "segment")
        name, count = f"{base}_{own}", 1
        while name.casefold() in taken:
            count += 1
            name = f"{base}_{own}_{count}"
        taken.add(name.casefold())
        names[segmentId] = name + format.value
    return names


def _writeSurfaces(
    node: "slicer.vtkMRMLSegmentationNode",
    names: dict[str, str],
    format: ExportFormat,
    folder: Path,
) -> None:
    """One file a segment: Slicer's writer leaves names out of an OBJ file, so they name the files.

    It takes letters out of names that are not English, so it writes under names of its own.
    """
    node.CreateDefaultDisplayNodes()
    node.CreateClosedSurfaceRepresentation()
    export = slicer.vtkSlicerSegmentationsModuleLogic
    for segmentId, name in names.items():
        node.GetSegmentation().GetSegment(segmentId).SetName("surface")
        ids = vtk.vtkStringArray()
        ids.InsertNextValue(segmentId)
        done = export.ExportSegmentsClosedSurfaceRepresentationToFiles(
            str(folder), node, ids, format.name
        )
        written = {path.suffix: path for path in folder.glob("segment*")}
        if not done or format.value not in written:
            raise UserError(f"Slicer could not write '{name}'; look into its error log.")
        target = folder / name
        if format is ExportFormat.OBJ:
            materials = target.with_suffix(".mtl").name
            text = written[".obj"].read_text(encoding="utf-8")
            own = f"mtllib {written['.mtl'].name}"
            text = text.replace(own, f"mtllib {materials}", 1)
            written[".obj"].write_text(text, encoding="utf-8")
            written[".mtl"].replace(folder / materials)
        written[format.value].replace(target)


def _writeTable(chosen: Chosen, segmentIds: Sequence[str], path: Path) -> None:
    """The values with their names, colours and terminology, as Slicer's colour tables have them."""
    table = slicer.vtkMRMLColorTableNode()
    table.SetTypeToUser()
    table.SetNumberOfColors(max(chosen.values.values()) + 1)
    for segmentId in segmentIds:
        segment, value = chosen.segment(segmentId), chosen.values[segmentId]
        table.SetColor(value, segment.GetName(), *segment.GetColor(), 1.0)
        terminology = Segments.terminologyOf(segment)
        if terminology:
            table.SetTerminologyFromString(value, terminology)
    storage = slicer.vtkMRMLColorTableStorageNode()
    storage.SetFileName(str(path))
    if not storage.WriteData(table) or not path.is_file():
        raise UserError(f"Slicer could not write '{path.name}'; look into its error log.")
