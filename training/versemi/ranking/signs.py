"""What a model lets one scan say about itself: gap, doubt, and where it lies among others.

All of it is measured prompt by prompt, so that a large organ does not drown a small one. A voxel
is *in question* for a prompt if that is the most probable prompt of its group there, and it or
*foreground* is at least :data:`QUESTION` probable.

- **Gap**: ``sum |m - f| / sum max(m, f)`` over these voxels, where m is the probability of the most
  probable prompt and f that of *foreground*; one less their soft Jaccard index. VerSemi (arXiv
  2311.11686, section III-C) teaches both to agree; where they do not, the model has not learnt the
  scan.
- **Doubt**: the mean binary entropy of the prompt over these voxels, in bits.
- **Bottleneck**: the pooled bottleneck features as the network's controller reads them, centred and
  of length one, so that only their direction counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from versemi.inference.evidence import Evidence
    from versemi.modelpack import ModelPack

QUESTION = 0.1


@dataclass(frozen=True)
class Signs:
    """Of one prompt on one scan, or of several together.

    Attributes:
        gap: 0..1; None where no voxel is in question, or the network has no *foreground*.
        doubt: 0..1 bits; None where no voxel is in question.
        ml: what the prompt finds before clean-up, in millilitres.
        bottleneck: ``(C,)``, of length one.
    """

    gap: float | None
    doubt: float | None
    ml: float
    bottleneck: tuple[float, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {**asdict(self), "bottleneck": list(self.bottleneck)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Signs:
        """The inverse of :meth:`to_json`.

        Raises:
            KeyError, TypeError, ValueError: it is something else.
        """
        gap, doubt = (None if data[k] is None else float(data[k]) for k in ("gap", "doubt"))
        return cls(gap, doubt, float(data["ml"]), tuple(float(v) for v in data["bottleneck"]))


def signs_of(evidence: Iterable[Evidence], pack: ModelPack) -> dict[str, Signs]:
    """Measure each asked prompt of a segmented scan.

    Args:
        evidence: of :meth:`versemi.inference.Segmentation.evidence`.
        pack: says below which volume a prompt's component is noise; what is in question for a
            prompt and smaller than that counts as nothing.
    """
    found = {}
    for part in evidence:
        voxel_ml = float(np.prod(part.grid.spacing)) / 1000
        winner, best = part.probabilities.argmax(axis=0), part.probabilities.max(axis=0)
        most = best if part.foreground is None else np.maximum(best, part.foreground)
        open_ = most >= QUESTION
        direction = _direction(part.bottleneck)
        for prompt in part.asked:
            row = part.prompts.index(prompt)
            here = open_ & (winner == row)
            count = int(here.sum())
            gap = doubt = None
            if count and count * voxel_ml >= pack.settings(prompt).min_ml:
                doubt = _rounded(_entropy(best[here]).mean())
                if part.foreground is not None:
                    differing = np.abs(best[here] - part.foreground[here]).sum(dtype=np.float64)
                    gap = _rounded(differing / most[here].sum(dtype=np.float64))
            ml = float((part.probabilities[row] > 0.5).sum()) * voxel_ml
            found[prompt] = Signs(gap, doubt, round(ml, 4), direction)
    return found


def together(signs: Iterable[Signs]) -> Signs:
    """The means over prompts that say something; volumes add up."""
    every = list(signs)
    gaps = [s.gap for s in every if s.gap is not None]
    doubts = [s.doubt for s in every if s.doubt is not None]
    return Signs(
        gap=float(np.mean(gaps)) if gaps else None,
        doubt=float(np.mean(doubts)) if doubts else None,
        ml=sum(s.ml for s in every),
        bottleneck=_direction(np.mean([s.bottleneck for s in every], axis=0)),
    )


def _direction(pooled: np.ndarray) -> tuple[float, ...]:
    centred = pooled.astype(np.float64) - pooled.mean(dtype=np.float64)
    length = np.linalg.norm(centred)
    return tuple(_rounded(v) for v in centred / length) if length > 0 else (0.0,) * len(pooled)


def _entropy(probability: np.ndarray) -> np.ndarray:
    from versemi.inference.evidence import entropy

    return entropy(probability)


def _rounded(value: float) -> float:
    return round(float(value), 6)
