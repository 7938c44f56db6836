"""What is kept of one scan for one prompt group: the prepared grid, features, answers."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from versemi.errors import InputError
from versemi.geometry import Grid, Header, Roi, bounding_box, image_corners
from versemi.inference.device import Compute
from versemi.inference.features import FeatureVolume
from versemi.inference.localise import Box, Corners, box_of, clean, corners_of, region_of
from versemi.inference.lungs import LUNGS_SEEN_AT_MM, lung_region
from versemi.modelpack import ModelPack
from versemi.network import PromptedNetwork
from versemi.preprocessing import OUTSIDE, GroupSettings, intensity_limits, prepare
from versemi.tasks import FOREGROUND

# The coarse pass errs by about two of its voxels; this much is added around what it finds.
SEARCH_MARGIN = 20.0
# Below this many windows the fine pass over everything costs less than finding out where to look.
_WORTH_SEARCHING = 4
# In units of prepared intensities, which go from -1 to 1: what is darker is air.
_AIR = 0.02


@dataclass(frozen=True)
class Answer:
    """One prompt's probability on a part of the group's grid, float32 ``(z, y, x)``."""

    grid: Grid
    probability: np.ndarray


class PreparedScan:
    """A scan on a prompt group's grid, with everything computed on it so far.

    Args:
        image: the scan.
        group: name of the prompt group.
        pack: says how to prepare the scan.
        network: on the compute device.
        compute: device and precision.
        roi: where to look; everywhere if None.
        shrink: divides the window, after memory ran out.
        search: whether to look for where the prompts are at all.

    Raises:
        InputError: the region of interest lies outside the scan.
    """

    def __init__(
        self,
        image: sitk.Image,
        group: str,
        pack: ModelPack,
        network: PromptedNetwork,
        compute: Compute,
        roi: Roi | None,
        shrink: int = 1,
        search: bool = True,
    ) -> None:
        self.settings: GroupSettings = pack.manifest.groups[group]
        self._pack = pack
        self._network = network
        self._compute = compute
        self._image = image
        self._search = search
        self._limits = intensity_limits(image, self.settings, index_box(image, roi))
        corners = _clipped(image_corners(image), roi, self.settings.margin)
        if search and roi is None and self.settings.within == "lungs":
            corners = self._around_lungs(corners)
        self.grid, array = self._seen(corners, self.settings.spacing)
        window = [w // shrink for w in self.settings.window]
        self.features = FeatureVolume(
            array,
            network,
            compute,
            window,
            self.settings.overlap,
            whole_windows=self.settings.whole_windows,
        )
        self._regions: dict[str, Box] | None = None
        self._answers: dict[tuple[str, Corners], Answer] = {}

    def regions(
        self,
        prompts: Sequence[str],
        progress: Callable[[int, int], None],
        cancel: Callable[[], bool],
    ) -> dict[str, Box]:
        """Where each prompt is to be looked for, after the coarse pass where there is one.

        A prompt that the coarse pass was not taught, or that it does not see, is looked for
        everywhere: nothing is missed for the sake of speed. Of a group that lies within the lungs
        everywhere means in the box around them, if the scan shows them.
        """
        whole: Box = tuple(slice(0, n) for n in self.grid.shape)  # type: ignore[assignment]
        few = self.features.windows <= _WORTH_SEARCHING
        searched = any(self._pack.settings(prompt).search for prompt in prompts)
        if not (self._search and searched and self.settings.coarse) or few:
            return dict.fromkeys(prompts, whole)
        if self._regions is None:
            self._regions = self._find(progress, cancel)
        return {prompt: self._regions.get(prompt, whole) for prompt in prompts}

    def answer(self, prompt: str, region: Box) -> Answer:
        """A prompt's probability in a region whose windows have been computed."""
        key = (prompt, corners_of(region))
        if key not in self._answers:
            index = self._network.prompts.index(prompt)
            probability = self.features.probability(region, [index])[0]
            if prompt != FOREGROUND:
                settings = self._pack.settings(prompt)
                voxel_ml = float(np.prod(self.grid.spacing)) / 1000
                clean(probability, settings.keep, settings.min_ml, voxel_ml)
            self._answers[key] = Answer(_part(self.grid, region), probability)
        return self._answers[key]

    def group_answers(
        self, prompts: Sequence[str], region: Box
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Probabilities in a region without clean-up: of prompts and of *foreground*.

        Returns:
            ``(K, D, H, W)`` and ``(D, H, W)``; None for a network without *foreground*.
        """
        known = FOREGROUND in self._network.prompts
        asked = [*prompts, FOREGROUND] if known else prompts
        index = [self._network.prompts.index(p) for p in asked]
        found = self.features.probability(region, index)
        return (found[:-1], found[-1]) if known else (found, None)

    def _seen(self, corners: np.ndarray, spacing: Sequence[float]) -> tuple[Grid, np.ndarray]:
        """The scan between two corners, prepared and without the air around what it shows."""
        grid = Grid.covering(corners, spacing)
        array = prepare(self._image, grid, self._limits)
        content = _content(array)
        return _part(grid, content), array[content]

    def _around_lungs(self, corners: np.ndarray) -> np.ndarray:
        """Opposite corners of the box around the lungs, or all of the scan, ``(2, 3)`` in LPS."""
        grid, array = self._seen(corners, (LUNGS_SEEN_AT_MM,) * 3)
        box = lung_region(array, grid, OUTSIDE + _AIR, SEARCH_MARGIN)
        if box is None:
            return corners
        found = _part(grid, box).corners()
        return np.stack([found.min(axis=0), found.max(axis=0)])

    def _find(
        self, progress: Callable[[int, int], None], cancel: Callable[[], bool]
    ) -> dict[str, Box]:
        spacing = [s * self.settings.coarse for s in self.settings.spacing]
        grid = Grid.covering(self.grid.corners(), spacing)
        coarse = FeatureVolume(
            prepare(self._image, grid, self._limits),
            self._network,
            self._compute,
            self.features.window,
            self.settings.overlap,
        )
        whole: Box = tuple(slice(0, n) for n in grid.shape)  # type: ignore[assignment]
        coarse.compute([whole], progress, cancel)
        found = {}
        for prompt in self._pack.manifest.prompts:
            if prompt.search and self._pack.manifest.groups[prompt.task.group] == self.settings:
                index = self._network.prompts.index(prompt.task.id)
                probability = coarse.probability(whole, [index])[0]
                region = region_of(probability, grid, self.grid, SEARCH_MARGIN)
                if region is not None:
                    found[prompt.task.id] = region
        return found


def scan_key(image: sitk.Image) -> str:
    """A digest of a scan's voxels and geometry."""
    digest = hashlib.sha256(repr(Header.of(image)).encode())
    voxels = sitk.GetArrayViewFromImage(image)
    digest.update(str(voxels.dtype).encode())
    for plane in voxels:
        digest.update(plane.data)
    return digest.hexdigest()


def index_box(image: sitk.Image, roi: Roi | None) -> Box | None:
    """The voxels of the scan that a region of interest touches, as slices ``(z, y, x)``.

    Raises:
        InputError: it touches none.
    """
    if roi is None:
        return None
    header = Header.of(image)
    inverse = np.linalg.inv(header.index_to_lps)
    index = roi.corners_lps() @ inverse[:3, :3].T + inverse[:3, 3]
    unit = Grid((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), (header.size[0], header.size[1], header.size[2]))
    box = box_of(index.min(axis=0), index.max(axis=0), unit)
    if box is None:
        center = ", ".join(f"{v:.0f}" for v in roi.center)
        raise InputError(
            f"The region of interest (centre R, A, S = {center} mm) lies outside the scan; move "
            "it onto the structure."
        )
    return box


def _clipped(corners: np.ndarray, roi: Roi | None, margin: float) -> np.ndarray:
    """Opposite corners of the part of the scan that the network sees, ``(2, 3)`` in LPS."""
    low, high = corners.min(axis=0), corners.max(axis=0)
    if roi is not None:
        box = roi.corners_lps()
        low = np.maximum(low, box.min(axis=0) - margin)
        high = np.minimum(high, box.max(axis=0) + margin)
        if (high <= low).any():
            raise InputError("The region of interest lies outside the scan; move it.")
    return np.stack([low, high])


def _content(array: np.ndarray) -> Box:
    """The box that holds everything but air and what lies outside the scan.

    The corners that an oblique scan leaves empty, or a wide field of view around a body, would
    only cost windows, and shift the statistics that the network normalises by.
    """
    whole: Box = tuple(slice(0, n) for n in array.shape)  # type: ignore[assignment]
    return bounding_box(array > OUTSIDE + _AIR) or whole


def _part(grid: Grid, region: Box) -> Grid:
    return grid.part([s.start for s in region], [s.stop for s in region])
