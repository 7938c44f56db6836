"""Where a prompt says yes: its last bias, set after training.

So that rare structures are learnt at all, the loss counts their own voxels more than once
(`prompt_loss` of :mod:`versemi.learning.objective`), and a network that is taught so sees them too
large: the odds of every voxel are raised about as much as its voxels were. What is right for
learning is taken back here. Each prompt's last bias moves towards the shift that gives the best
mean Dice at probability one half on scans that it learnt from, at the training spacing (thresholds
after a class-weighted loss: Menon et al., *Long-tail learning via logit adjustment*, ICLR 2021).

It moves by a share ``n / (n + 16)`` of that shift, for n labelled scans: few scans are known by
heart, and seen more surely than new ones, on which the whole shift would cut too much away. No scan
that is kept for measuring is looked at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from versemi.inference.device import choose
from versemi.inference.features import FeatureVolume
from versemi.learning.data import Source
from versemi.network import PromptedNetwork
from versemi.preprocessing import DEFAULT_GROUPS
from versemi.tasks import FOREGROUND, TASKS

#: Logits that may be added to a prompt.
SHIFTS = tuple(np.round(np.arange(-4.0, 1.01, 0.25), 2).tolist())
#: Scans of a data set that are looked at, the first of its order.
MOST_SCANS = 24
_TRUST = 16

Overlaps = dict[str, list[np.ndarray]]


def choose_offsets(
    network: PromptedNetwork,
    sources: Sequence[Source],
    *,
    device: str = "auto",
) -> dict[str, float]:
    """Find what is to be added to each prompt's logit.

    Args:
        network: trained; it is not changed.
        sources: of the run; only those at the group's own spacing are looked at.
        device: as for :class:`versemi.inference.Segmenter`.

    Returns:
        Logits by prompt, of those that some labelled scan shows.
    """
    compute = choose(device)
    network = network.to(compute.device).eval()
    overlaps: Overlaps = {}
    scans: dict[str, int] = {}
    for source in sources:
        group = DEFAULT_GROUPS[source.group]
        if tuple(reversed(group.spacing)) != source.spacing:
            continue
        prompts = [p for p in source.prompts if p in network.prompts]
        prompts += [FOREGROUND] * (FOREGROUND in network.prompts)
        for prompt in prompts:
            scans[prompt] = scans.get(prompt, 0) + len(source.cases)
        for case in source.cases[:MOST_SCANS]:
            labels = np.asarray(case.labels)
            volume = FeatureVolume(
                np.asarray(case.image, dtype=np.float32),
                network,
                compute,
                group.window,
                group.overlap,
            )
            whole = tuple(slice(0, n) for n in labels.shape)
            volume.compute([whole], lambda done, total: None, lambda: False)  # type: ignore[list-item]
            # All heads in one reading of the stitched features.
            index = [network.prompts.index(prompt) for prompt in prompts]
            answers = volume.probability(whole, index)  # type: ignore[arg-type]
            for prompt, found in zip(prompts, answers, strict=True):
                truth = labels > 0 if prompt == FOREGROUND else labels == TASKS[prompt].label
                if truth.any():
                    overlaps.setdefault(prompt, []).append(overlap_by_shift(found, truth))
    return {
        prompt: round(trusted(scans[prompt]) * best_shift(np.mean(rows, axis=0)), 4)
        for prompt, rows in overlaps.items()
    }


def trusted(scans: int) -> float:
    """The share of the best shift that is made, 0..1, after learning from so many scans."""
    return scans / (scans + _TRUST)


def overlap_by_shift(probability: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Dice of a scan for each of :data:`SHIFTS`.

    Args:
        probability: of any shape.
        truth: bool, same shape, with at least one voxel.

    Returns:
        float64 ``(len(SHIFTS),)``.
    """
    # A voxel is found once its logit plus the shift is positive, so once its probability lies
    # above that of minus the shift.
    edges = 1 / (1 + np.exp(np.array(SHIFTS)))[::-1]
    inside = np.searchsorted(edges, probability.ravel(), side="left")
    found = np.bincount(inside, minlength=len(edges) + 1)
    right = np.bincount(inside[truth.ravel()], minlength=len(edges) + 1)
    above = lambda counts: counts[::-1].cumsum()[::-1][1:]  # noqa: E731
    return (2 * above(right) / np.maximum(1, above(found) + truth.sum()))[::-1]


def best_shift(dice: np.ndarray) -> float:
    """The shift of the best mean Dice; of equals, the one nearest to none."""
    order = sorted(range(len(SHIFTS)), key=lambda i: (-round(float(dice[i]), 6), abs(SHIFTS[i])))
    return float(SHIFTS[order[0]])


@torch.no_grad()
def apply_offsets(network: PromptedNetwork, offsets: Mapping[str, float]) -> None:
    """Add to the last bias of each prompt's own row, in place."""
    for prompt, shift in offsets.items():
        network.rows[network.prompts.index(prompt), -1] += shift
