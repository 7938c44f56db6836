"""Draws closed surfaces without a graphics library, so that no machine is too bare for it.

An orthographic view: triangles are filled with points, the nearest point of a pixel wins, and
its normal is lit by a key and a fill light. Hollows are darkened by comparing depth with its
surroundings (Luft, Colditz and Deussen, "Image enhancement by unsharp masking the depth buffer",
SIGGRAPH 2006). Translucent surfaces are laid over the rest, densest at their rims.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter, grey_closing, zoom

_SUPERSAMPLING = 2
_COARSER = 4
_MOST_STEPS = 2000
_KEY = np.array([-0.45, 0.55, 0.70])
_FILL = np.array([0.80, -0.10, 0.45])


@dataclass(frozen=True)
class Surface:
    """A triangle mesh.

    Attributes:
        points: RAS in mm, ``(N, 3)``.
        normals: unit vectors pointing outwards, ``(N, 3)``.
        triangles: indices into `points`, ``(M, 3)``.
        color: red, green and blue in 0..1.
        opacity: 1 is solid; below that it is how dense the surface is where it is seen flat on.
    """

    points: np.ndarray
    normals: np.ndarray
    triangles: np.ndarray
    color: tuple[float, float, float]
    opacity: float = 1.0


@dataclass(frozen=True)
class Camera:
    """Where an orthographic view looks from.

    Attributes:
        towards_viewer: RAS direction from the subject to the viewer.
        up: RAS direction that points up in the picture.
    """

    towards_viewer: tuple[float, float, float]
    up: tuple[float, float, float] = (0.0, 0.0, 1.0)

    def axes(self) -> np.ndarray:
        """Rows: right, up and towards the viewer, as RAS unit vectors, ``(3, 3)``."""
        back = np.array(self.towards_viewer, dtype=float)
        back /= np.linalg.norm(back)
        right = np.cross(self.up, back)
        right /= np.linalg.norm(right)
        return np.stack([right, np.cross(back, right), back])


@dataclass
class _Layer:
    """What is nearest in every pixel: depth (-inf where nothing), unit normal, colour."""

    depth: np.ndarray
    normal: np.ndarray
    color: np.ndarray


def render(
    surfaces: Sequence[Surface],
    camera: Camera,
    background: tuple[float, float, float],
    size: tuple[int, int] = (700, 700),
    frame: Sequence[Surface] | None = None,
) -> np.ndarray:
    """Draw surfaces.

    Args:
        surfaces: what to draw.
        camera: where from.
        background: colour behind them, 0..1.
        size: width and height in pixels.
        frame: what has to fit into the picture; all surfaces if None.

    Returns:
        ``(height, width, 3)`` in 0..1, the top row first.
    """
    width, height = size[0] * _SUPERSAMPLING, size[1] * _SUPERSAMPLING
    picture = np.ones((height, width, 3)) * background
    drawn = [s for s in surfaces if len(s.triangles)]
    if not drawn:
        return picture[::_SUPERSAMPLING, ::_SUPERSAMPLING]
    axes = camera.axes()
    framed = np.concatenate([s.points for s in (frame or drawn) if len(s.points)]) @ axes.T
    low, high = framed.min(axis=0), framed.max(axis=0)
    scale = 0.92 * min(width / (high[0] - low[0]), height / (high[1] - low[1]))
    offset = np.array([width / 2, height / 2]) - scale * (low + high)[:2] / 2

    solid = _nearest([s for s in drawn if s.opacity >= 1], axes, scale, offset, (height, width))
    picture = np.where(np.isfinite(solid.depth)[..., None], _lit(solid, scale), picture)
    for surface in (s for s in drawn if s.opacity < 1):
        veil = _nearest([surface], axes, scale, offset, (height, width))
        visible = np.isfinite(veil.depth) & (veil.depth > solid.depth)
        rim = (1 - np.clip(veil.normal[..., 2], 0, 1)) ** 2.5
        share = np.where(visible, surface.opacity + (0.85 - surface.opacity) * rim, 0.0)
        picture += share[..., None] * (_lit(veil, scale) - picture)
    small = picture.reshape(size[1], _SUPERSAMPLING, size[0], _SUPERSAMPLING, 3).mean(axis=(1, 3))
    return np.clip(small[::-1], 0, 1)


def _nearest(
    surfaces: Sequence[Surface],
    axes: np.ndarray,
    scale: float,
    offset: np.ndarray,
    shape: tuple[int, int],
) -> _Layer:
    """Fill triangles with points and keep the nearest of every pixel; row 0 is the bottom."""
    layer = _Layer(
        np.full(shape, -np.inf), np.zeros((*shape, 3), np.float32), np.zeros((*shape, 3))
    )
    nearest = layer.depth.reshape(-1)
    for surface in surfaces:
        points = surface.points @ axes.T
        points[:, :2] = points[:, :2] * scale + offset
        for place, normal in _filled(points, surface.normals @ axes.T, surface.triangles):
            column, row = np.floor(place[:, 0]).astype(int), np.floor(place[:, 1]).astype(int)
            seen = (column >= 0) & (column < shape[1]) & (row >= 0) & (row < shape[0])
            column, row, normal = column[seen], row[seen], normal[seen]
            depth = place[seen, 2]
            pixel = row * shape[1] + column
            np.maximum.at(nearest, pixel, depth)
            won = depth == nearest[pixel]
            layer.normal.reshape(-1, 3)[pixel[won]] = normal[won]
            layer.color.reshape(-1, 3)[pixel[won]] = surface.color
    return layer


def _filled(
    points: np.ndarray, normals: np.ndarray, triangles: np.ndarray
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Points and normals on triangles, less than a pixel apart, in parts of bounded size."""
    # The far side would be hidden by the near one.
    triangles = triangles[normals[triangles, 2].max(axis=1) > -0.2]
    corners = points[triangles]
    edges = np.abs(corners - np.roll(corners, 1, axis=1))[..., :2].max(axis=(1, 2))
    steps = np.clip(np.ceil(edges * 1.3).astype(int), 1, _MOST_STEPS)
    parts = []
    for step in np.unique(steps):
        chosen = triangles[steps == step]
        i, j = np.meshgrid(np.arange(step + 1), np.arange(step + 1))
        inside = i + j <= step
        weight = np.stack([i[inside], j[inside], step - i[inside] - j[inside]], axis=1) / step
        for some in np.array_split(chosen, max(1, len(chosen) * len(weight) // 2_000_000)):
            place, normal = (
                (weight @ of[some].swapaxes(0, 1).reshape(3, -1)).reshape(-1, 3)
                for of in (points, normals)
            )
            length = np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-6)
            parts.append((place, (normal / length).astype(np.float32)))
    return parts


def _lit(layer: _Layer, scale: float) -> np.ndarray:
    """Colours under the lights, ``(H, W, 3)``."""
    there = np.isfinite(layer.depth)
    normal = layer.normal
    key, fill = _KEY / np.linalg.norm(_KEY), _FILL / np.linalg.norm(_FILL)
    half = key + np.array([0, 0, 1])
    half /= np.linalg.norm(half)
    diffuse = 0.30 + 0.62 * np.clip(normal @ key, 0, None) + 0.22 * np.clip(normal @ fill, 0, None)
    shine = 0.22 * np.clip(normal @ half, 0, None) ** 40
    shade = diffuse * _openness(layer.depth, there, scale)
    return layer.color * shade[..., None] + shine[..., None]


def _openness(depth: np.ndarray, there: np.ndarray, scale: float) -> np.ndarray:
    """1 in the open, less where the surroundings are nearer to the viewer."""
    if not there.any():
        return np.ones(depth.shape)
    filled = np.where(there, depth, depth[there].min())
    # Single pixels that no point fell into would count as deep holes.
    filled = grey_closing(filled, size=3)
    # What is blurred needs no fine grid.
    coarse = there[::_COARSER, ::_COARSER].astype(float)
    sigma = min(5.0 * scale, 40.0) / _COARSER
    weight = gaussian_filter(coarse, sigma)
    around = gaussian_filter(np.where(coarse > 0, filled[::_COARSER, ::_COARSER], 0.0), sigma)
    around = zoom(
        around / np.maximum(weight, 1e-3), _COARSER, order=1, grid_mode=True, mode="nearest"
    )
    behind = np.clip(around[: depth.shape[0], : depth.shape[1]] - filled, 0, 12.0)
    return 1 - 0.5 * behind / 12.0
