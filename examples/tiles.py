"""Planes of scans side by side: with outlines, an overlay and a mark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke

from slices import VIEWS, Plane, View, best_position, cut, ras_bounds

AXIAL, CORONAL, SAGITTAL = VIEWS

_BACKGROUND = "#0d1117"
_TEXT = "#e6edf3"
_FAINT = "#8b949e"
_EMPTY = "#05070a"
_MARK = "#58d0ff"
#: Of outlines that something is compared with.
EARLIER = "#ffffff"
_OUTLINE = [withStroke(linewidth=2.6, foreground=_EMPTY)]

_WIDTH = 10.0
_GAP = 0.10
_TITLE, _FOOT = 0.34, 0.62


@dataclass(frozen=True)
class Scan:
    """A volume as the scene has it.

    Attributes:
        image: intensities ``(k, j, i)``.
        ijk_to_ras: ``(4, 4)``.
    """

    image: np.ndarray
    ijk_to_ras: np.ndarray

    @property
    def window(self) -> tuple[float, float]:
        """Intensities that become black and white."""
        inside = self.image[self.image > self.image.min()]
        low, high = np.percentile(inside if inside.size else self.image, (0.5, 99.8))
        return float(low), float(max(high, low + 1e-6))

    @property
    def bounds(self) -> np.ndarray:
        """RAS low and high corner, ``(2, 3)``."""
        last = np.array(self.image.shape)[::-1] - 1
        return ras_bounds(self.ijk_to_ras, np.full(3, -0.5), last + 0.5)

    def best(self, labels: np.ndarray, view: View) -> float:
        """Where along the view's normal most of the labels is to be seen, in mm."""
        return best_position(labels, self.ijk_to_ras, view.normal)


@dataclass(frozen=True)
class Tile:
    """One plane.

    Attributes:
        title: above it.
        scan: what is cut.
        view: which way.
        position: mm along the view's normal.
        labels: label values on the scan's voxels, drawn with fill and outline.
        colors: red, green and blue of each value, in 0..1.
        before: label values that are drawn as dashed outlines; None for none.
        overlay: 0..1 on the scan's voxels, laid over it in the colours of heat; None for none.
        opacity: of the overlay where it is 1.
        mark: RAS point with cross-hairs; None for none.
        middle: RAS point in the middle; None for the scan's own.
        near: mm around the middle that are shown; None for the whole plane.
    """

    title: str
    scan: Scan
    view: View
    position: float
    labels: np.ndarray
    colors: Mapping[int, tuple[float, float, float]]
    before: np.ndarray | None = None
    overlay: np.ndarray | None = None
    opacity: float = 0.5
    mark: tuple[float, float, float] | None = None
    middle: tuple[float, float, float] | None = None
    near: float | None = None


@dataclass(frozen=True)
class Picture:
    """A ready picture as a tile, ``(H, W, 3)`` in 0..1."""

    title: str
    pixels: np.ndarray


@dataclass(frozen=True)
class Row:
    """Tiles side by side.

    Attributes:
        tiles: of one height, each as wide as it is.
        legend: names and colours below them.
        note: what made the picture, in the last line.
    """

    tiles: Sequence[Tile | Picture]
    legend: Mapping[str, tuple[float, float, float] | str] = field(default_factory=dict)
    note: str = ""


def draw_tiles(row: Row, path: Path) -> None:
    """Draw a row as PNG, 1100 pixels wide."""
    count = len(row.tiles)
    size = (_WIDTH - (count + 1) * _GAP) / count
    height = _TITLE + size + _FOOT
    with plt.rc_context({"font.family": "DejaVu Sans", "text.color": _TEXT}):
        figure = plt.figure(figsize=(_WIDTH, height), facecolor=_BACKGROUND)
        for number, tile in enumerate(row.tiles):
            left = _GAP + number * (size + _GAP)
            figure.text(
                left / _WIDTH, 1 - _TITLE / 2 / height, tile.title, va="center",
                fontsize=11, weight="bold",
            )  # fmt: skip
            box = (left / _WIDTH, _FOOT / height, size / _WIDTH, size / height)
            axes = figure.add_axes(box, facecolor=_EMPTY, xticks=[], yticks=[])
            for spine in axes.spines.values():
                spine.set_visible(False)
            if isinstance(tile, Picture):
                axes.imshow(tile.pixels, aspect="auto")
            else:
                _draw(axes, tile)
        _draw_legend(figure, row, height)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=110, facecolor=_BACKGROUND)
        plt.close(figure)


def _draw_legend(figure: plt.Figure, row: Row, height: float) -> None:
    handles = [
        Patch(facecolor="none" if color == EARLIER else color, edgecolor=color, label=name,
              linestyle="--" if color == EARLIER else "-")
        for name, color in row.legend.items()
    ]  # fmt: skip
    if handles:
        figure.legend(
            handles=handles, loc="center left", bbox_to_anchor=(0.0, 0.43 / height),
            ncols=len(handles), frameon=False, fontsize=10, handlelength=1.2, columnspacing=1.6,
        )  # fmt: skip
    figure.text(_GAP / _WIDTH, 0.14 / height, row.note, fontsize=8.5, color=_FAINT, va="center")


def _draw(axes: Axes, tile: Tile) -> None:
    scan, view = tile.scan, tile.view
    ras_to_ijk = np.linalg.inv(scan.ijk_to_ras)
    box = _square(tile)
    plane = cut(view, tile.position, box, scan.image, tile.labels, ras_to_ijk)
    low, high = scan.window
    grey = np.clip((np.nan_to_num(plane.image, nan=low) - low) / (high - low), 0, 1)
    picture = np.repeat(grey[..., None], 3, axis=2)
    if tile.overlay is not None:
        doubt = cut(view, tile.position, box, tile.overlay, np.zeros_like(tile.labels), ras_to_ijk)
        amount = np.clip(np.nan_to_num(doubt.image), 0, 1)
        veil = tile.opacity * (amount > 0.2)[..., None]
        # Without the white end, which looks like tissue.
        picture += veil * (plt.get_cmap("hot")(0.25 + 0.5 * amount)[..., :3] - picture)
    for value, share in plane.shares.items():
        fill = 0.0 if tile.overlay is not None else 0.30
        veil = fill * np.clip(share, 0, 1)[..., None]
        picture += veil * (np.array(tile.colors[value]) - picture)
    axes.imshow(picture, extent=plane.extent, origin="lower", interpolation="bilinear")
    _outline(axes, plane, {value: tile.colors[value] for value in plane.shares}, "solid")
    if tile.before is not None:
        earlier = cut(view, tile.position, box, scan.image, tile.before, ras_to_ijk)
        _outline(axes, earlier, dict.fromkeys(earlier.shares, EARLIER), "dashed")
    if tile.mark is not None:
        for line, axis in ((axes.axvline, view.across), (axes.axhline, view.up)):
            line(tile.mark[axis], color=_MARK, linewidth=0.9, alpha=0.9)
    axes.set_xlim(plane.extent[:2])
    axes.set_ylim(plane.extent[2:])
    axes.set_aspect("auto")
    left, right, top, bottom = view.sides
    for x, y, side in (
        (0.03, 0.5, left),
        (0.97, 0.5, right),
        (0.5, 0.95, top),
        (0.5, 0.05, bottom),
    ):
        axes.text(
            x, y, side, transform=axes.transAxes, fontsize=9, ha="center", va="center",
            path_effects=_OUTLINE,
        )  # fmt: skip


def _outline(
    axes: Axes, plane: Plane, colors: Mapping[int, tuple[float, float, float] | str], style: str
) -> None:
    across = np.linspace(*plane.extent[:2], plane.image.shape[1])
    up = np.linspace(*plane.extent[2:], plane.image.shape[0])
    for value, color in colors.items():
        axes.contour(
            across, up, plane.shares[value], levels=[0.5], colors=[color], linestyles=style,
            linewidths=1.6 if style == "solid" else 1.1,
        )  # fmt: skip


def _square(tile: Tile) -> np.ndarray:
    """The RAS box of what a tile shows, as high as it is wide."""
    box = tile.scan.bounds.astype(float)
    if tile.near is not None and tile.middle is not None:
        box = np.stack([np.array(tile.middle) - tile.near, np.array(tile.middle) + tile.near])
    view = tile.view
    side = max(box[1, axis] - box[0, axis] for axis in (view.across, view.up))
    for axis in (view.across, view.up):
        middle = (box[0, axis] + box[1, axis]) / 2
        box[:, axis] = middle - side / 2, middle + side / 2
    return box
