"""What a training step sees, as a function of (seed, step) alone.

A step trains on two micro-batches of two different sources, each in its own crop shape. A step's
content depends on nothing but the seed and its number, so a resumed run and a run over several
processes follow the same course.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from versemi.learning.augmentation import (
    GeometryRange,
    cut,
    intensity_augmentation,
    random_affine,
    swap_sides,
)
from versemi.learning.cache import CachedCase
from versemi.learning.mixing import MixedLabels, random_box
from versemi.tasks import FOREGROUND, TASKS

RUN = 1024
_VOXELS_PER_LABEL = 4000
# The heads are bound by memory; this many voxels of a micro-batch are enough for one step.
_HEAD_VOXELS = 200_000
_PRESENT = 8


@dataclass(frozen=True)
class Source:
    """Scans of one data set at one spacing, with what their labels cover.

    Attributes:
        name: for logs.
        modality: ``"CT"`` or ``"MR"``.
        prompts: identifiers that every label of the source covers; all others are unknown there.
        cases: prepared scans.
        spacing: mm, ``(z, y, x)``.
        crop: voxels, ``(z, y, x)``.
        batch: crops in a micro-batch.
        weight: how often the source is drawn, relative to the others.
        overhang: how far a crop may hang over the scan's border, as a share of the crop.
        centred: share of crops that are centred near a voxel of a random covered prompt.
        geometry: augmentation of this source.
    """

    name: str
    modality: str
    prompts: tuple[str, ...]
    cases: tuple[CachedCase, ...]
    spacing: tuple[float, float, float]
    crop: tuple[int, int, int]
    batch: int = 1
    weight: float = 1.0
    centred: float = 0.7
    overhang: float = 0.125
    geometry: GeometryRange = field(default_factory=GeometryRange)


@dataclass
class MicroBatch:
    """Crops of one shape.

    Attributes:
        image: float32 ``(B, 1, D, H, W)`` in [-1, 1].
        labels: label values and which prompts are known where, one per crop.
        prompts: what each crop is asked, *foreground* first.
        runs: the voxels that the heads read, as numbers of runs of ``RUN`` consecutive voxels.
    """

    image: Tensor
    labels: list[MixedLabels]
    prompts: list[list[str]] = field(default_factory=list)
    runs: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.long))

    def to(self, device: torch.device) -> MicroBatch:
        """The same on another device."""
        return MicroBatch(
            self.image.to(device),
            [labels.to(device) for labels in self.labels],
            self.prompts,
            self.runs.to(device),
        )


class StepDataset(Dataset[list[MicroBatch]]):
    """Item i is the data of training step i.

    Args:
        sources: at least two; drawn by weight, never the same twice in a step.
        steps: length of the run.
        seed: of all chance.
        mix: probability that the first micro-batch is CutMixed with the second, which makes it
            the synthetic task of the paper (section III-B); 0 switches it off.
    """

    def __init__(self, sources: Sequence[Source], *, steps: int, seed: int, mix: float) -> None:
        self.sources = list(sources)
        self.steps = steps
        self.seed = seed
        self.mix = mix
        self._places = {source.name: _label_places(source) for source in self.sources}
        self._prompts = sorted({p for source in self.sources for p in source.prompts})
        self._intensity = {m: intensity_augmentation(m) for m in ("CT", "MR")}

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> list[MicroBatch]:
        rng = np.random.default_rng([self.seed, step])
        weights = np.array([source.weight for source in self.sources])
        chosen = rng.choice(
            len(self.sources), size=min(2, len(weights)), replace=False, p=weights / weights.sum()
        )
        batches = [self._draw(rng, self.sources[i]) for i in chosen]
        if len(batches) == 2 and rng.random() < self.mix:
            batches[0] = _mixed(rng, batches[0], batches[1])
        for batch in batches:
            batch.prompts = [self._asked(rng, labels) for labels in batch.labels]
            batch.runs = _runs(rng, batch.image.shape)
        return batches

    def _draw(self, rng: np.random.Generator, source: Source) -> MicroBatch:
        crops = [self._crop(rng, source) for _ in range(source.batch)]
        return MicroBatch(
            torch.stack([image for image, _ in crops])[:, None],
            [MixedLabels.plain(labels, source.prompts) for _, labels in crops],
        )

    def _crop(self, rng: np.random.Generator, source: Source) -> tuple[Tensor, Tensor]:
        number = int(rng.integers(len(source.cases)))
        case = source.cases[number]
        image = case.image
        centre = _centre(rng, source, image.shape, self._places[source.name][number])
        matrix, swapped = random_affine(rng, source.geometry, np.array(source.spacing))
        crop, labels = cut(image, case.labels, centre, matrix, source.crop)
        if swapped:
            labels = swap_sides(labels)
        augment = self._intensity[source.modality]
        augment.set_random_state(int(rng.integers(2**31)))
        changed = torch.as_tensor(augment(crop[None]))[0].clamp(-1.0, 1.0)
        return changed.as_subclass(Tensor), labels

    def _asked(self, rng: np.random.Generator, labels: MixedLabels) -> list[str]:
        """Choose what a crop is asked: mostly what it shows.

        Were prompts drawn at random, most would be absent from the crop, and the rare ones would
        learn to answer nothing. One absent prompt, and now and then one that only its neighbours'
        labels speak about, keep false positives down.
        """
        present = sorted(labels.present())
        absent = sorted(labels.prompts - set(present))
        groups = {TASKS[prompt].group for prompt in labels.prompts}
        others = [
            prompt
            for prompt in self._prompts
            if TASKS[prompt].group in groups and prompt not in labels.prompts
        ]
        asked = [str(p) for p in rng.permutation(present)[:_PRESENT]]
        if absent:
            asked.append(str(rng.choice(absent)))
        if others and rng.random() < 0.3:
            asked.append(str(rng.choice(others)))
        return [FOREGROUND, *asked]


def _label_places(source: Source) -> list[dict[int, np.ndarray]]:
    """For each case, some voxel coordinates ``(n, 3)`` of every covered label that it has."""
    wanted = {TASKS[prompt].label for prompt in source.prompts}
    places = []
    for case in source.cases:
        labels = np.asarray(case.labels)
        found: dict[int, np.ndarray] = {}
        for value in np.unique(labels):
            if int(value) in wanted:
                voxels = np.argwhere(labels == value)
                found[int(value)] = voxels[:: max(1, len(voxels) // _VOXELS_PER_LABEL)]
        places.append(found)
    return places


def _centre(
    rng: np.random.Generator,
    source: Source,
    shape: tuple[int, ...],
    places: dict[int, np.ndarray],
) -> np.ndarray:
    """Choose a crop's centre: near a random structure, or anywhere."""
    crop, size = np.array(source.crop), np.array(shape)
    if places and rng.random() < source.centred:
        voxels = places[list(places)[int(rng.integers(len(places)))]]
        centre = voxels[int(rng.integers(len(voxels)))] + rng.uniform(-0.3, 0.3, 3) * crop
    else:
        centre = rng.uniform(0, 1, 3) * size
    slack = crop * source.overhang
    low = np.minimum(crop / 2 - slack, size / 2 - slack)
    return np.clip(centre, low, np.maximum(size - low, low)) - 0.5


def _mixed(rng: np.random.Generator, base: MicroBatch, other: MicroBatch) -> MicroBatch:
    """CutMix every crop of `base` with a random crop of `other`."""
    images, labels = [], []
    for image, truth in zip(base.image[:, 0], base.labels, strict=True):
        partner = int(rng.integers(len(other.labels)))
        here, there = random_box(rng, image.shape, other.image.shape[2:])
        image = image.clone()
        image[here] = other.image[partner, 0][there]
        images.append(image)
        labels.append(truth.with_box(here, other.labels[partner], there))
    return MicroBatch(torch.stack(images)[:, None], labels)


def _runs(rng: np.random.Generator, shape: torch.Size) -> Tensor:
    """Choose runs of consecutive voxels, all of them where the micro-batch is small."""
    total = int(np.prod(shape[2:])) // RUN
    wanted = max(1, min(total, _HEAD_VOXELS // (RUN * shape[0])))
    chosen = np.sort(rng.permutation(total)[:wanted])
    return torch.from_numpy(chosen)
