"""The picture of a result: three planes with outlines, a 3D view, and a legend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from slices import VIEWS, Plane, best_position, cut, ras_bounds
from surfaces import Camera, Surface, render

_BACKGROUND = "#0d1117"
_TEXT = "#e6edf3"
_FAINT = "#8b949e"
_FILL_ALPHA = 0.32


@dataclass(frozen=True)
class Found:
    """A segment as the legend lists it.

    Attributes:
        name: for people.
        label: its value in the label map.
        color: red, green and blue in 0..1.
        volume_ml: millilitres.
        dice: overlap with a reference, where there is one.
    """

    name: str
    label: int
    color: tuple[float, float, float]
    volume_ml: float
    dice: float | None = None


@dataclass(frozen=True)
class Scene:
    """All that a picture shows.

    Attributes:
        title, subtitle: above it.
        image: intensities ``(k, j, i)``.
        labels: label values on the same voxels.
        ijk_to_ras: ``(4, 4)``.
        window: intensities that become black and white.
        found: the segments.
        surfaces: their surfaces, and what stands around them.
        framed: the surfaces that have to fit into the 3D view.
        camera: of the 3D view.
        roi: RAS low and high corner of the region of interest, ``(2, 3)``, or None.
        shown: RAS low and high corner of what the planes show; the whole scan if None.
    """

    title: str
    subtitle: str
    image: np.ndarray
    labels: np.ndarray
    ijk_to_ras: np.ndarray
    window: tuple[float, float]
    found: Sequence[Found]
    surfaces: Sequence[Surface]
    camera: Camera
    framed: Sequence[Surface] | None = None
    roi: np.ndarray | None = None
    shown: np.ndarray | None = field(default=None)


def draw(scene: Scene, path: Path) -> None:
    """Draw a scene as PNG."""
    ras_to_ijk = np.linalg.inv(scene.ijk_to_ras)
    last = np.array(scene.image.shape)[::-1] - 1
    bounds = ras_bounds(scene.ijk_to_ras, np.full(3, -0.5), last + 0.5)
    if scene.shown is not None:
        bounds = np.stack(
            [np.maximum(bounds[0], scene.shown[0]), np.minimum(bounds[1], scene.shown[1])]
        )
    planes = []
    for view in VIEWS:
        position = best_position(scene.labels, scene.ijk_to_ras, view.normal)
        planes.append(cut(view, position, bounds, scene.image, scene.labels, ras_to_ijk))

    with plt.rc_context({"font.family": "DejaVu Sans", "text.color": _TEXT}):
        figure = plt.figure(figsize=(13.2, 9.4), facecolor=_BACKGROUND)
        grid = figure.add_gridspec(
            2, 3, width_ratios=(1, 1, 0.46), left=0.012, right=0.988, top=0.915, bottom=0.015,
            wspace=0.02, hspace=0.025,
        )  # fmt: skip
        figure.text(0.014, 0.958, scene.title, fontsize=17, weight="bold", va="center")
        figure.text(0.014, 0.930, scene.subtitle, fontsize=10.5, color=_FAINT, va="center")
        for place, plane in zip(((0, 0), (0, 1), (1, 0)), planes, strict=True):
            _draw_plane(figure.add_subplot(grid[place]), plane, scene)
        _draw_surfaces(figure.add_subplot(grid[1, 1]), scene)
        _draw_legend(figure.add_subplot(grid[:, 2]), scene)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=110, facecolor=_BACKGROUND)
        plt.close(figure)


def _draw_plane(axes: Axes, plane: Plane, scene: Scene) -> None:
    _empty(axes)
    low, high = scene.window
    grey = np.clip((plane.image - low) / (high - low), 0, 1)
    picture = np.repeat(np.nan_to_num(grey)[..., None], 3, axis=2)
    picture[np.isnan(plane.image)] = matplotlib.colors.to_rgb("#05070a")
    colors = {segment.label: segment.color for segment in scene.found}
    for value, share in plane.shares.items():
        veil = _FILL_ALPHA * np.clip(share, 0, 1)[..., None]
        picture += veil * (np.array(colors[value]) - picture)
    axes.imshow(picture, extent=plane.extent, origin="lower", interpolation="bilinear")
    across = np.linspace(*plane.extent[:2], plane.image.shape[1])
    up = np.linspace(*plane.extent[2:], plane.image.shape[0])
    for value, share in plane.shares.items():
        axes.contour(across, up, share, levels=[0.5], colors=[colors[value]], linewidths=1.5)
    if scene.roi is not None:
        _draw_roi(axes, plane, scene.roi)
    axes.set_xlim(plane.extent[:2])
    axes.set_ylim(plane.extent[2:])
    axes.set_anchor("C")
    axis = "RAS"[plane.view.normal]
    _label(axes, 0.025, 0.965, f"{plane.view.name}  {axis} {plane.position:+.0f} mm", 11, "left")
    left, right, top, bottom = plane.view.sides
    for x, y, side in (
        (0.02, 0.5, left),
        (0.98, 0.5, right),
        (0.5, 0.965, top),
        (0.5, 0.03, bottom),
    ):
        _label(axes, x, y, side, 12, "center", _TEXT, "bold")
    _draw_scale(axes, plane)


def _draw_roi(axes: Axes, plane: Plane, roi: np.ndarray) -> None:
    view = plane.view
    if not roi[0, view.normal] <= plane.position <= roi[1, view.normal]:
        return
    low, size = roi[0], roi[1] - roi[0]
    axes.add_patch(
        Rectangle(
            (low[view.across], low[view.up]), size[view.across], size[view.up],
            fill=False, edgecolor="#f0d264", linewidth=1.1, linestyle=(0, (5, 4)),
        )
    )  # fmt: skip


def _draw_scale(axes: Axes, plane: Plane) -> None:
    """A bar of 1, 2, 5 or 10 cm at the lower left."""
    left, right, bottom, top = plane.extent
    width = abs(right - left)
    length = next(mm for mm in (100.0, 50.0, 20.0, 10.0) if mm <= 0.3 * width or mm == 10.0)
    sign = np.sign(right - left)
    start = left + sign * 0.035 * width
    y = bottom + 0.03 * (top - bottom)
    axes.plot([start, start + sign * length], [y, y], color=_TEXT, linewidth=2.2)
    axes.text(
        start + sign * length / 2, y + 0.012 * (top - bottom), f"{length / 10:g} cm",
        fontsize=8.5, ha="center", va="bottom",
    )  # fmt: skip


def _draw_surfaces(axes: Axes, scene: Scene) -> None:
    _empty(axes)
    background = matplotlib.colors.to_rgb("#111720")
    picture = render(scene.surfaces, scene.camera, background, (900, 700), scene.framed)
    axes.imshow(picture)
    _label(axes, 0.025, 0.965, "3D", 11, "left")
    right, up, _ = scene.camera.axes()
    _draw_sides(axes, *_ends(-right), *_ends(up))


def _ends(direction: np.ndarray) -> tuple[str, str]:
    """The sides that a RAS direction points to and comes from, by its largest part."""
    axis = int(np.abs(direction).argmax())
    # RAS: the axes grow towards R(ight), A(nterior), S(uperior).
    letters = ("RL", "AP", "SI")[axis]
    return (letters[0], letters[1]) if direction[axis] > 0 else (letters[1], letters[0])


def _draw_sides(axes: Axes, left: str, right: str, top: str, bottom: str) -> None:
    for x, y, side in (
        (0.02, 0.5, left),
        (0.98, 0.5, right),
        (0.5, 0.965, top),
        (0.5, 0.03, bottom),
    ):
        _label(axes, x, y, side, 12, "center", _TEXT, "bold")


def _draw_legend(axes: Axes, scene: Scene) -> None:
    _empty(axes)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    has_dice = any(segment.dice is not None for segment in scene.found)
    axes.text(0.78, 0.985, "ml", fontsize=9.5, color=_FAINT, ha="right", va="center")
    if has_dice:
        axes.text(0.99, 0.985, "Dice", fontsize=9.5, color=_FAINT, ha="right", va="center")
    for row, segment in enumerate(scene.found):
        y = 0.950 - 0.036 * row
        axes.add_patch(Rectangle((0.02, y - 0.010), 0.05, 0.020, color=segment.color))
        axes.text(0.10, y, _short(segment.name), fontsize=9.6, va="center")
        axes.text(0.78, y, f"{segment.volume_ml:.1f}", fontsize=9.6, ha="right", va="center")
        if segment.dice is not None:
            axes.text(0.99, y, f"{segment.dice:.2f}", fontsize=9.6, ha="right", va="center")
    if scene.roi is not None:
        y = 0.950 - 0.036 * (len(scene.found) + 0.4)
        axes.plot([0.02, 0.07], [y, y], color="#f0d264", linewidth=1.1, linestyle=(0, (3, 2)))
        axes.text(0.10, y, "Region of interest", fontsize=9.6, color=_FAINT, va="center")


def _short(name: str) -> str:
    return name if len(name) <= 24 else name[:23] + "…"


def _empty(axes: Axes) -> None:
    axes.set_facecolor("#05070a" if axes.get_subplotspec() else _BACKGROUND)
    axes.set_axis_off()


def _label(
    axes: Axes,
    x: float,
    y: float,
    text: str,
    size: float,
    align: str,
    color: str = _FAINT,
    weight: str = "normal",
) -> None:
    axes.text(
        x, y, text, transform=axes.transAxes, fontsize=size, ha=align, va="center",
        color=color, weight=weight,
    )  # fmt: skip
