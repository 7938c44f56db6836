"""Surfaces for the 3D view: of segments, as MRML makes them, and of what lies around them."""

from __future__ import annotations

from typing import Any

import numpy as np
import vtk
from scipy.ndimage import binary_dilation, gaussian_filter, label
from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy

from surfaces import Surface

_BRAIN = (0.80, 0.78, 0.76)
_BONE = (0.90, 0.87, 0.78)
_BONE_HU = 170.0
_SMALLEST_BONE_ML = 3.0


def segment_surface(node: Any, segment_id: str, color: tuple[float, float, float]) -> Surface:
    """The closed surface of a segment, which the node must have."""
    mesh = vtk.vtkPolyData()
    if segment_id:
        node.GetClosedSurfaceRepresentation(segment_id, mesh)
    return _surface(mesh, color, 1.0)


def surroundings(
    kind: str, image: np.ndarray, labels: np.ndarray, ijk_to_ras: np.ndarray
) -> list[Surface]:
    """What stands around a result, so that one sees where it is.

    Args:
        kind: ``"brain"`` (all that is not background), ``"bones"`` (CT) or ``""``.
        image: intensities ``(k, j, i)``.
        labels: what was segmented, on the same voxels; bones are not looked for in it.
        ijk_to_ras: ``(4, 4)``.
    """
    if kind == "brain":
        inside = gaussian_filter((image > 0.25 * np.percentile(image, 99)).astype(np.float32), 1.0)
        return [_iso(inside, ijk_to_ras, _BRAIN, 0.36)]
    if kind == "bones":
        # Contrast agent in vessels and kidneys is as dense as bone.
        mask = gaussian_filter(image.astype(np.float32), (0, 0.7, 0.7)) > _BONE_HU
        mask &= ~binary_dilation(labels > 0, iterations=2)
        parts, _ = label(mask)
        voxel_ml = abs(np.linalg.det(ijk_to_ras[:3, :3])) / 1000
        large = np.bincount(parts.ravel()) * voxel_ml > _SMALLEST_BONE_ML
        large[0] = False
        bones = gaussian_filter(large[parts].astype(np.float32), (0.4, 0.8, 0.8))
        return [_iso(bones, ijk_to_ras, _BONE, 0.40)]
    return []


def _iso(
    share: np.ndarray, ijk_to_ras: np.ndarray, color: tuple[float, float, float], opacity: float
) -> Surface:
    """The surface where `share` ``(k, j, i)`` passes one half."""
    # Closed also where the scan ends.
    padded = np.pad(share, 1)
    grid = vtk.vtkImageData()
    grid.SetDimensions(*padded.shape[::-1])
    grid.SetOrigin(-1, -1, -1)
    grid.GetPointData().SetScalars(numpy_to_vtk(np.ascontiguousarray(padded).ravel(), deep=True))
    contour = vtk.vtkFlyingEdges3D()
    contour.SetInputData(grid)
    contour.SetValue(0, 0.5)
    contour.ComputeNormalsOff()
    matrix = vtk.vtkMatrix4x4()
    matrix.DeepCopy(ijk_to_ras.ravel())
    transform = vtk.vtkTransform()
    transform.SetMatrix(matrix)
    world = vtk.vtkTransformPolyDataFilter()
    world.SetInputConnection(contour.GetOutputPort())
    world.SetTransform(transform)
    world.Update()
    return _surface(world.GetOutput(), color, opacity)


def _surface(mesh: Any, color: tuple[float, float, float], opacity: float) -> Surface:
    if mesh.GetNumberOfPolys() == 0:
        empty = np.zeros((0, 3))
        return Surface(empty, empty, empty.astype(int), color, opacity)
    smooth = vtk.vtkWindowedSincPolyDataFilter()
    smooth.SetInputData(mesh)
    smooth.SetNumberOfIterations(15)
    smooth.SetPassBand(0.05)
    smooth.NormalizeCoordinatesOn()
    normals = vtk.vtkPolyDataNormals()
    normals.SetInputConnection(smooth.GetOutputPort())
    normals.SplittingOff()
    normals.ConsistencyOn()
    normals.AutoOrientNormalsOn()
    normals.Update()
    result = normals.GetOutput()
    return Surface(
        points=vtk_to_numpy(result.GetPoints().GetData()).astype(float),
        normals=vtk_to_numpy(result.GetPointData().GetNormals()).astype(float),
        triangles=vtk_to_numpy(result.GetPolys().GetConnectivityArray()).reshape(-1, 3),
        color=color,
        opacity=opacity,
    )
