"""CutMix of two crops, and what is known about the result.

VerSemi, arXiv 2311.11686, section III-B: a random box of one labelled image replaces a part of
another, usually of a different task; the labels are mixed the same way. *foreground* is
supervised on the whole; every other prompt only where its own data set's labels hold. Section
III-C mixes an unlabelled image with a labelled one in the same way: its part covers no prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from versemi.geometry import Box
from versemi.tasks import FOREGROUND, TASKS


@dataclass(frozen=True)
class MixedLabels:
    """A crop's labels, and which part of it came from which data set.

    Absence of a label is not evidence of absence: where a data set's labels do not cover a
    prompt, its background says nothing about that prompt. A voxel that is labelled as another
    structure does say that it is not this one. An unlabelled scan covers nothing.

    Attributes:
        values: label values of the registry, uint8 ``(D, H, W)``.
        part: index into `covered` for each voxel, uint8 ``(D, H, W)``.
        covered: the prompts that the labels of each part cover.
        excluded: the prompts whose structure cannot be on the scan of each part.
        unlabelled: whether each part is of a scan that is learnt from without labels.
    """

    values: Tensor
    part: Tensor
    covered: tuple[frozenset[str], ...]
    excluded: tuple[frozenset[str], ...]
    unlabelled: tuple[bool, ...]

    @classmethod
    def plain(
        cls,
        values: Tensor,
        prompts: Sequence[str],
        excluded: Sequence[str] = (),
        *,
        unlabelled: bool = False,
    ) -> MixedLabels:
        """Labels of one data set only."""
        part = torch.zeros_like(values)
        return cls(values, part, (frozenset(prompts),), (frozenset(excluded),), (unlabelled,))

    def without(self, voxels: Tensor) -> MixedLabels:
        """The same, but nothing is known at some voxels, bool ``(D, H, W)``.

        They become a part of their own, which covers no prompt.
        """
        return MixedLabels(
            self.values.masked_fill(voxels, 0),
            self.part.masked_fill(voxels, len(self.covered)),
            (*self.covered, frozenset()),
            (*self.excluded, frozenset()),
            (*self.unlabelled, all(self.unlabelled)),
        )

    def with_box(self, here: Box, other: MixedLabels, there: Box) -> MixedLabels:
        """Replace the voxels `here` by those of `other` at `there`."""
        values, part = self.values.clone(), self.part.clone()
        values[here] = other.values[there]
        part[here] = other.part[there] + len(self.covered)
        return MixedLabels(
            values,
            part,
            self.covered + other.covered,
            self.excluded + other.excluded,
            self.unlabelled + other.unlabelled,
        )

    def to(self, device: torch.device) -> MixedLabels:
        """The same on another device."""
        values, part = self.values.to(device), self.part.to(device)
        return MixedLabels(values, part, self.covered, self.excluded, self.unlabelled)

    @property
    def prompts(self) -> frozenset[str]:
        """Every prompt that some part covers."""
        return frozenset().union(*self.covered)

    def present(self) -> set[str]:
        """The covered prompts that the crop really shows."""
        values = set(torch.unique(self.values).tolist())
        return {prompt for prompt in self.prompts if TASKS[prompt].label in values}

    def target(self, prompt: str) -> tuple[Tensor, Tensor]:
        """What is known about a prompt.

        Args:
            prompt: identifier; *foreground* is any labelled structure.

        Returns:
            Target in {0, 1} and whether it is known, both bool ``(D, H, W)``.
        """
        if prompt == FOREGROUND:
            truth = self.values > 0
            known = torch.tensor([bool(covered) for covered in self.covered], device=truth.device)
            return truth, known[self.part.long()]
        truth = self.values == TASKS[prompt].label
        parts = zip(self.covered, self.excluded, strict=True)
        known = torch.tensor([prompt in a or prompt in b for a, b in parts], device=truth.device)
        return truth, known[self.part.long()] | (self.values > 0)


def random_box(
    rng: np.random.Generator, shape: tuple[int, ...], other: tuple[int, ...]
) -> tuple[Box, Box]:
    """Draw a 3D box that fits into two crops.

    Args:
        rng: source of chance.
        shape, other: of the two crops, ``(D, H, W)``; they may differ.

    Returns:
        The box in the first and in the second, of one size: 0.4 to 0.8 of the smaller crop per
        axis.
    """
    here, there = [], []
    for a, b in zip(shape, other, strict=True):
        length = max(1, round(min(a, b) * rng.uniform(0.4, 0.8)))
        i, j = int(rng.integers(a - length + 1)), int(rng.integers(b - length + 1))
        here.append(slice(i, i + length))
        there.append(slice(j, j + length))
    return (here[0], here[1], here[2]), (there[0], there[1], there[2])
