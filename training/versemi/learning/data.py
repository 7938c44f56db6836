"""What training sees, as a function of (seed, number) alone.

A step of the optimiser trains on a few samples, each of one source (a data set at one spacing).
Sample i belongs to step ``i // samples``; its content, CutMix partner included, depends on
nothing but the seed and i, and on what the network has answered about whole scans until then. A
resumed run and a run over several processes follow the same course.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from monai.transforms import GaussianSmooth
from torch import Tensor
from torch.utils.data import Dataset

from versemi.learning.answers import DOUBT, Answers
from versemi.learning.augmentation import intensity_augmentation
from versemi.learning.cache import CachedCase
from versemi.learning.crops import augmented, crop_of, places_in
from versemi.learning.mixing import MixedLabels, random_box
from versemi.learning.sources import Source
from versemi.tasks import FOREGROUND, TASKS, prompts_of

RUN = 1024
# The heads are bound by memory; this many voxels of a micro-batch are enough for one step.
_HEAD_VOXELS = 200_000
_PRESENT = 8


@dataclass
class MicroBatch:
    """Crops of one shape.

    Attributes:
        image: float32 ``(B, 1, D, H, W)`` in [-1, 1].
        labels: label values and which prompts are known where, one per crop.
        names: the scans that the crops came from, for messages.
        prompts: what each crop is asked.
        runs: the voxels that the heads read, as numbers of runs of ``RUN`` consecutive voxels.
    """

    image: Tensor
    labels: list[MixedLabels]
    names: list[str]
    prompts: list[list[str]] = field(default_factory=list)
    runs: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.long))

    @property
    def runs_of_each(self) -> list[Tensor]:
        """`runs` for each crop."""
        return [self.runs] * len(self.image)

    def to(self, device: torch.device) -> MicroBatch:
        """The same on another device."""
        return MicroBatch(
            self.image.to(device),
            [labels.to(device) for labels in self.labels],
            self.names,
            self.prompts,
            self.runs.to(device),
        )


@dataclass
class Unlabelled:
    """Crops to learn from without labels, in three versions of one geometry.

    Attributes:
        weak: as the scan is, float32 ``(B, 1, D, H, W)``; what a teacher looks at.
        strong: with augmented intensities; part 0 of its labels.
        mixed: `strong` with a box of a labelled crop, which is part 1.
    """

    weak: Tensor
    strong: MicroBatch
    mixed: MicroBatch

    def to(self, device: torch.device) -> Unlabelled:
        """The same on another device."""
        return Unlabelled(self.weak.to(device), self.strong.to(device), self.mixed.to(device))


@dataclass
class Sample:
    """One source's share of a step: labelled crops and, where the run wants them, unlabelled."""

    number: int
    source: str
    group: str
    labelled: MicroBatch
    unlabelled: Unlabelled | None = None

    def to(self, device: torch.device) -> Sample:
        """The same on another device."""
        unlabelled = self.unlabelled.to(device) if self.unlabelled else None
        return Sample(self.number, self.source, self.group, self.labelled.to(device), unlabelled)


class SampleDataset(Dataset[Sample]):
    """Item i is sample i.

    Args:
        sources: drawn by weight; the samples of one step come from different ones where there
            are enough.
        prompts: every prompt that the network has.
        steps: length of the run.
        samples: per step.
        seed: of all chance.
        synthetic: share of labelled micro-batches that are CutMixed with labelled crops of the
            step's next source, which makes them the synthetic task.
        unlabelled: whether samples bring unlabelled crops.
        begin: share of the run before which they bring none all the same.
        blank: share of labelled micro-batches whose images become noise, in which no structure is.
        answers: of the network about the unlabelled scans, if it gives any.
        mixed: share of unlabelled micro-batches that are CutMixed with labelled crops.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        prompts: Sequence[str],
        *,
        steps: int,
        samples: int,
        seed: int,
        synthetic: float,
        unlabelled: bool,
        begin: float = 0.0,
        blank: float = 0.0,
        answers: Answers | None = None,
        mixed: float = 1.0,
    ) -> None:
        self.sources = list(sources)
        self.steps = steps
        self.samples = samples
        self.seed = seed
        self.synthetic = synthetic
        self.unlabelled = unlabelled
        self.begin = begin
        self.blank = blank
        self.answers = answers
        self.mixed = mixed
        self._prompts = [p for p in prompts if p != FOREGROUND]
        self._foreground = [FOREGROUND] if FOREGROUND in prompts else []
        self._of_group = {s.group: prompts_of(s.group, prompts) for s in self.sources}
        self._places = {source.name: _places(source) for source in self.sources}
        self._intensity = {m: intensity_augmentation(m) for m in ("CT", "MR")}

    def __len__(self) -> int:
        return self.steps * self.samples

    def __getitem__(self, number: int) -> Sample:
        step, place = divmod(number, self.samples)
        chosen = self._chosen(step)
        source = chosen[place]
        partner = chosen[(place + 1) % len(chosen)]
        rng = np.random.default_rng([self.seed, step, place + 1])
        labelled = self._labelled(rng, source)
        unlabelled = None
        if self.unlabelled and source.unlabelled and step >= self.begin * self.steps:
            unlabelled = self._unlabelled(rng, source, labelled, partner, step)
        if rng.random() < self.synthetic:
            labelled = _mixed(rng, labelled, self._labelled(rng, partner))
        if self.blank and rng.random() < self.blank:
            labelled = _blank(rng, labelled, self._prompts)
            few = [str(p) for p in rng.permutation(self._prompts)[:_PRESENT]]
            labelled.prompts = [[*self._foreground, *few]] * source.batch
        else:
            labelled.prompts = [self._asked(rng, source, labels) for labels in labelled.labels]
        labelled.runs = _runs(rng, labelled.image.shape, _HEAD_VOXELS)
        return Sample(number, source.name, source.group, labelled, unlabelled)

    def _chosen(self, step: int) -> list[Source]:
        """The sources of a step's samples, and one more beside a lone one to mix it with."""
        rng = np.random.default_rng([self.seed, step, 0])
        weights = np.array([source.weight for source in self.sources])
        wanted = max(self.samples, min(2, len(weights)))
        enough = wanted <= len(weights)
        numbers = rng.choice(
            len(weights), size=wanted, replace=not enough, p=weights / weights.sum()
        )
        return [self.sources[i] for i in numbers]

    def _labelled(self, rng: np.random.Generator, source: Source) -> MicroBatch:
        crops, names = [], []
        for _ in range(source.batch):
            number = int(rng.integers(len(source.cases)))
            case = source.cases[number]
            image, labels = crop_of(rng, source, case, self._places[source.name][number])
            crops.append((augmented(rng, image, self._intensity[source.modality]), labels))
            names.append(case.name)
        return MicroBatch(
            torch.stack([image for image, _ in crops])[:, None],
            [MixedLabels.plain(labels, source.prompts, source.excluded) for _, labels in crops],
            names,
        )

    def _unlabelled(
        self,
        rng: np.random.Generator,
        source: Source,
        own: MicroBatch,
        partner: Source,
        step: int,
    ) -> Unlabelled:
        crops, labels, names = [], [], []
        for _ in range(source.batch):
            case = source.unlabelled[int(rng.integers(len(source.unlabelled)))]
            crop, known = self._half_known(rng, source, case, step)
            crops.append(crop)
            labels.append(known)
            names.append(case.name)
        weak = torch.stack(crops)[:, None]
        augment = self._intensity[source.modality]
        strong = MicroBatch(
            torch.stack([augmented(rng, crop, augment) for crop in crops])[:, None], labels, names
        )
        if rng.random() < self.mixed:
            other = own if rng.random() < 0.5 else self._labelled(rng, partner)
            mixed = _mixed(rng, strong, other)
        else:
            mixed = strong
        asked = [*self._foreground, *self._of_group[source.group]]
        runs = _runs(rng, weak.shape, _HEAD_VOXELS // 2)
        for batch in (strong, mixed):
            batch.prompts = [asked] * source.batch
            batch.runs = runs
        return Unlabelled(weak, strong, mixed)

    def _half_known(
        self, rng: np.random.Generator, source: Source, case: CachedCase, step: int
    ) -> tuple[Tensor, MixedLabels]:
        """A crop of an unlabelled scan with what its labels and the network's answers know."""
        own = source.prompts if case.labelled else ()
        open_ = source.uncovered(case, self._of_group[source.group])
        found = self.answers.of(case, source.group, step) if self.answers and open_ else None
        if found is None:
            crop, truth = crop_of(rng, source, case, {})
            return crop, MixedLabels.plain(truth, own, unlabelled=True)
        answers, places = found
        crop, truth = crop_of(rng, source, case, places, answers)
        seen = [p for p in open_ if TASKS[p].label in places]
        known = MixedLabels.plain(truth, [*own, *seen], unlabelled=True)
        return crop, known.without(truth == DOUBT)

    def _asked(self, rng: np.random.Generator, source: Source, labels: MixedLabels) -> list[str]:
        """Choose what a labelled crop is asked: mostly what it shows.

        Were prompts drawn at random, most would be absent from the crop, and the rare ones would
        learn to answer nothing. One absent prompt, and now and then one that only its neighbours'
        labels speak about, keep false positives down, and so does one that cannot be there.
        """
        present = sorted(labels.present())
        absent = sorted(labels.prompts - set(present))
        others = sorted(set(self._of_group[source.group]) - labels.prompts)
        asked = [str(p) for p in rng.permutation(present)[:_PRESENT]]
        if absent:
            asked.append(str(rng.choice(absent)))
        if others and rng.random() < 0.3:
            asked.append(str(rng.choice(others)))
        elsewhere = sorted(
            frozenset(self._prompts).intersection(*labels.excluded) - set(present) - set(asked)
        )
        if not source.prompts:
            asked += [str(p) for p in rng.permutation(elsewhere)[:_PRESENT]]
        elif elsewhere and rng.random() < source.negatives:
            asked.append(str(rng.choice(elsewhere)))
        return [*self._foreground, *asked]


def _places(source: Source) -> list[dict[int, np.ndarray]]:
    """For each labelled case, some voxels of every covered label in it; see :func:`places_in`."""
    wanted = [TASKS[prompt].label for prompt in source.prompts]
    return [
        places_in(np.where(np.isin(case.labels, wanted), case.labels, 0)) if case.labelled else {}
        for case in source.cases
    ]


def _mixed(rng: np.random.Generator, base: MicroBatch, other: MicroBatch) -> MicroBatch:
    """CutMix every crop of `base` with a random crop of `other`."""
    images, labels, names = [], [], []
    for image, truth, name in zip(base.image[:, 0], base.labels, base.names, strict=True):
        partner = int(rng.integers(len(other.labels)))
        here, there = random_box(rng, image.shape, other.image.shape[2:])
        image = image.clone()
        image[here] = other.image[partner, 0][there]
        images.append(image)
        labels.append(truth.with_box(here, other.labels[partner], there))
        names.append(f"{name} with {other.names[partner]}")
    return MicroBatch(torch.stack(images)[:, None], labels, names)


def _blank(rng: np.random.Generator, batch: MicroBatch, prompts: Sequence[str]) -> MicroBatch:
    """Noise in place of every crop: of some mean, strength and smoothness."""
    images, labels = [], []
    for image in batch.image[:, 0]:
        noise = torch.from_numpy(rng.standard_normal(image.shape, dtype=np.float32))
        if rng.random() < 0.5:
            noise = torch.as_tensor(GaussianSmooth(rng.uniform(0.3, 1.5))(noise[None]))[0]
            noise = noise / noise.std()
        level, strength = float(rng.uniform(-1.0, 1.0)), float(10 ** rng.uniform(-2.0, 0.0))
        images.append((level + strength * noise).clamp(-1.0, 1.0).as_subclass(Tensor))
        nothing = torch.zeros(image.shape, dtype=torch.uint8)
        labels.append(MixedLabels.plain(nothing, prompts))
    return MicroBatch(torch.stack(images)[:, None], labels, ["noise"] * len(images))


def _runs(rng: np.random.Generator, shape: torch.Size, voxels: int) -> Tensor:
    """Choose runs of consecutive voxels, all of them where the micro-batch is small."""
    total = int(np.prod(shape[2:])) // RUN
    wanted = max(1, min(total, voxels // (RUN * shape[0])))
    chosen = np.sort(rng.permutation(total)[:wanted])
    return torch.from_numpy(chosen)
