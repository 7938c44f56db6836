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
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

from slices import VIEWS, Plane, View, best_position, cut, ras_bounds
from surfaces import Camera, Surface, render

_BACKGROUND = "#0d1117"
_TEXT = "#e6edf3"
_FAINT = "#8b949e"
_EMPTY = "#05070a"
_ROI = "#f0d264"
_FILL_ALPHA = 0.32

# The figure in inches; every view is a panel of one size.
_WIDTH, _HEIGHT = 13.2, 9.6
_PANEL = (5.0, 4.36)
_MARGIN, _TOP = 0.16, 0.72
# Letters stay legible on bright tissue.
_OUTLINE = [withStroke(linewidth=2.6, foreground=_EMPTY)]
_BAR_OUTLINE = [withStroke(linewidth=4.0, foreground=_EMPTY)]


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
        box = _filling_the_panel(bounds, view)
        planes.append(cut(view, position, box, scene.image, scene.labels, ras_to_ijk))

    with plt.rc_context({"font.family": "DejaVu Sans", "text.color": _TEXT}):
        figure = plt.figure(figsize=(_WIDTH, _HEIGHT), facecolor=_BACKGROUND)
        top = 1 - 0.27 / _HEIGHT
        figure.text(_MARGIN / _WIDTH, top, scene.title, fontsize=17, weight="bold", va="center")
        figure.text(
            _MARGIN / _WIDTH, 1 - 0.55 / _HEIGHT, scene.subtitle, fontsize=10.5, color=_FAINT,
            va="center",
        )  # fmt: skip
        for place, plane in zip(((0, 0), (0, 1), (1, 0)), planes, strict=True):
            _draw_plane(_panel(figure, *place), plane, scene)
        _draw_surfaces(_panel(figure, 1, 1), scene)
        left = 3 * _MARGIN + 2 * _PANEL[0]
        size = (_WIDTH - left - _MARGIN, _HEIGHT - _TOP - _MARGIN)
        _draw_legend(_axes(figure, left, _TOP, size, _BACKGROUND), scene)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=110, facecolor=_BACKGROUND)
        plt.close(figure)


def _filling_the_panel(bounds: np.ndarray, view: View) -> np.ndarray:
    """The box widened in one direction until the plane has the shape of a panel."""
    box = bounds.astype(float).copy()
    size = box[1] - box[0]
    wanted = max(size[view.across], size[view.up] * _PANEL[0] / _PANEL[1])
    for axis, length in ((view.across, wanted), (view.up, wanted * _PANEL[1] / _PANEL[0])):
        middle = (box[0, axis] + box[1, axis]) / 2
        box[:, axis] = middle - length / 2, middle + length / 2
    return box


def _panel(figure: Figure, row: int, column: int) -> Axes:
    left = _MARGIN + column * (_PANEL[0] + _MARGIN)
    return _axes(figure, left, _TOP + row * (_PANEL[1] + _MARGIN / 2), _PANEL, _EMPTY)


def _axes(figure: Figure, left: float, top: float, size: tuple[float, float], color: str) -> Axes:
    """Axes without ticks; inches from the upper left."""
    box = (left / _WIDTH, 1 - (top + size[1]) / _HEIGHT, size[0] / _WIDTH, size[1] / _HEIGHT)
    axes = figure.add_axes(box, facecolor=color, xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set_visible(False)
    return axes


def _draw_plane(axes: Axes, plane: Plane, scene: Scene) -> None:
    low, high = scene.window
    grey = np.clip((plane.image - low) / (high - low), 0, 1)
    picture = np.repeat(np.nan_to_num(grey)[..., None], 3, axis=2)
    picture[np.isnan(plane.image)] = matplotlib.colors.to_rgb(_EMPTY)
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
    axes.set_aspect("auto")
    axis = "RAS"[plane.view.normal]
    _label(axes, 0.025, 0.965, f"{plane.view.name}  {axis} {plane.position:+.0f} mm", 11, "left")
    left, right, top, bottom = plane.view.sides
    for x, y, side in (
        (0.02, 0.5, left),
        (0.98, 0.5, right),
        (0.5, 0.965, top),
        (0.5, 0.03, bottom),
    ):
        _label(axes, x, y, side, 11, "center", "bold")
    _draw_scale(axes, plane)


def _draw_roi(axes: Axes, plane: Plane, roi: np.ndarray) -> None:
    view = plane.view
    if not roi[0, view.normal] <= plane.position <= roi[1, view.normal]:
        return
    low, size = roi[0], roi[1] - roi[0]
    axes.add_patch(
        Rectangle(
            (low[view.across], low[view.up]), size[view.across], size[view.up],
            fill=False, edgecolor=_ROI, linewidth=1.1, linestyle=(0, (5, 4)),
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
    axes.plot(
        [start, start + sign * length],
        [y, y],
        color=_TEXT,
        linewidth=2.2,
        path_effects=_BAR_OUTLINE,
    )
    axes.text(
        start + sign * length / 2, y + 0.012 * (top - bottom), f"{length / 10:g} cm",
        fontsize=8.5, ha="center", va="bottom", path_effects=_OUTLINE,
    )  # fmt: skip


def _draw_surfaces(axes: Axes, scene: Scene) -> None:
    background = matplotlib.colors.to_rgb("#111720")
    picture = render(scene.surfaces, scene.camera, background, (860, 750), scene.framed)
    axes.imshow(picture, aspect="auto")
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
        _label(axes, x, y, side, 11, "center", "bold")


def _draw_legend(axes: Axes, scene: Scene) -> None:
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    has_dice = any(segment.dice is not None for segment in scene.found)
    volume_at = 0.83 if has_dice else 0.99
    axes.text(volume_at, 0.985, "ml", fontsize=9, color=_FAINT, ha="right", va="center")
    if has_dice:
        axes.text(0.99, 0.985, "Dice", fontsize=9, color=_FAINT, ha="right", va="center")
    y = 0.985
    for segment in scene.found:
        y -= 0.033
        axes.add_patch(Rectangle((0.0, y - 0.009), 0.055, 0.018, color=segment.color))
        axes.text(0.085, y, segment.name, fontsize=9, va="center")
        axes.text(volume_at, y, f"{segment.volume_ml:.1f}", fontsize=9, ha="right", va="center")
        if segment.dice is not None:
            axes.text(0.99, y, f"{segment.dice:.2f}", fontsize=9, ha="right", va="center")
    if scene.roi is not None:
        y -= 0.045
        axes.plot([0.0, 0.055], [y, y], color=_ROI, linewidth=1.1, linestyle=(0, (3, 2)))
        axes.text(0.085, y, "Region of interest", fontsize=9, color=_FAINT, va="center")


def _label(
    axes: Axes,
    x: float,
    y: float,
    text: str,
    size: float,
    align: str,
    weight: str = "normal",
) -> None:
    axes.text(
        x, y, text, transform=axes.transAxes, fontsize=size, ha=align, va="center",
        weight=weight, path_effects=_OUTLINE,
    )  # fmt: skip
