"""What the network says about the scans without labels, whole, written down to be learnt from.

Pseudo-labels (Lee, *Pseudo-label: the simple and efficient semi-supervised learning method*, ICML
2013 workshop) of whole scans rather than of crops: only then can the largest component be told from
the rest, crops be laid where the structure is, and a prompt be passed over that found nothing. The
moving average of the weights answers when its run begins to look at scans without labels, and
again every so often. In between the answers stand still, so that a network cannot talk itself into
something from one step to the next.

What counts is VerSemi's agreement (arXiv 2311.11686, section III-C), voxel by voxel: where
*foreground* and the cleaned answers of the prompts do not say the same, nothing is known.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import lightning as L
import numpy as np
from lightning.pytorch.callbacks import Callback

from versemi.export import replacing
from versemi.geometry import Box
from versemi.inference.device import choose
from versemi.inference.features import FeatureVolume
from versemi.inference.localise import clean
from versemi.learning.cache import CachedCase
from versemi.learning.crops import places_in
from versemi.learning.sources import Source
from versemi.preprocessing import GroupSettings
from versemi.tasks import FOREGROUND, TASKS

if TYPE_CHECKING:
    from versemi.network import PromptedNetwork

#: In a map of answers: nobody knows.
DOUBT = 255


class Answers:
    """Maps of answers of a run, in rounds.

    Args:
        folder: of all rounds; each has one named by its step.
        rounds: the steps at which the network answers, rising.
    """

    def __init__(self, folder: Path, rounds: Sequence[int]) -> None:
        self.folder = folder
        self.rounds = tuple(rounds)

    def path(self, case: CachedCase, group: str, step: int) -> Path | None:
        """Where the answers about a case lie that hold at a step; None before the first round."""
        past = [r for r in self.rounds if r <= step]
        if not past:
            return None
        return self.folder / str(past[-1]) / f"{case.folder.name}-{group}.npy"

    def of(
        self, case: CachedCase, group: str, step: int
    ) -> tuple[np.ndarray, dict[int, np.ndarray]] | None:
        """The answers about a case that hold at a step; None before the first round.

        Returns:
            Label values of the registry and `DOUBT`, uint8 ``(z, y, x)``, mapped; and some voxels
            ``(n, 3)`` of every structure in them, by label value.
        """
        path = self.path(case, group, step)
        return None if path is None else (np.load(path, mmap_mode="r"), _places(path))

    def forget_before(self, step: int) -> None:
        """Delete the rounds before a step."""
        for past in self.rounds:
            if past < step:
                shutil.rmtree(self.folder / str(past), ignore_errors=True)


class Answering(Callback):
    """Has the averaged network answer about every unlabelled scan when a round begins.

    Args:
        answers: where to.
        sources: of the run.
        groups: how scans were prepared.
        prompts: every prompt that the network has.
        keep_all: prompts of which more than the largest component is kept.
        device: as for :class:`Segmenter`.
    """

    def __init__(
        self,
        answers: Answers,
        sources: Sequence[Source],
        groups: Mapping[str, GroupSettings],
        prompts: Sequence[str],
        keep_all: Collection[str],
        device: str,
    ) -> None:
        self.answers = answers
        self.sources = sources
        self.groups = groups
        self.prompts = prompts
        self.keep_all = keep_all
        self.device = device
        self._begun = False

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """As :meth:`answer`."""
        self.answer(trainer)

    def answer(self, trainer: L.Trainer) -> None:
        """Answer, if a round begins at this step; each rank its share of the scans.

        An epoch's first samples are asked for early: of the first epoch with the loader itself, so
        this is to be called before.

        Raises:
            OutputError: the answers cannot be written.
        """
        step = trainer.global_step
        if trainer.is_global_zero and not self._begun and step == 0:
            # What another run has left.
            shutil.rmtree(self.answers.folder, ignore_errors=True)
        self._begun = True
        if step not in self.answers.rounds:
            return
        trainer.strategy.barrier()
        network: PromptedNetwork = trainer.lightning_module.teacher  # type: ignore[assignment]
        for number, (source, case) in enumerate(self._wanted()):
            path = self.answers.path(case, source.group, step)
            assert path is not None
            if number % trainer.world_size == trainer.global_rank and not path.is_file():
                found = self._answer(network, source, case)
                with replacing(path) as temporary, temporary.open("wb") as file:
                    np.save(file, found)
        trainer.strategy.barrier()
        if trainer.is_global_zero:
            self.answers.forget_before(step)

    def _wanted(self) -> Iterator[tuple[Source, CachedCase]]:
        seen = set()
        for source in self.sources:
            for case in source.unlabelled:
                if (source.group, case.folder) not in seen:
                    seen.add((source.group, case.folder))
                    yield source, case

    def _answer(self, network: PromptedNetwork, source: Source, case: CachedCase) -> np.ndarray:
        """The map of a case: label values, and `DOUBT` where two answers do not agree."""
        prompts = [p for p in self.prompts if p != FOREGROUND and TASKS[p].group == source.group]
        known = FOREGROUND in network.prompts
        asked = [*prompts, FOREGROUND] if known else prompts
        settings = self.groups[source.group]
        volume = FeatureVolume(
            np.asarray(case.image, dtype=np.float32),
            network,
            choose(self.device),
            source.crop,
            settings.overlap,
            whole_windows=settings.whole_windows,
        )
        whole: Box = tuple(slice(0, n) for n in volume.shape)  # type: ignore[assignment]
        volume.compute([whole], lambda done, total: None, lambda: False)
        found = volume.probability(whole, [network.prompts.index(p) for p in asked])
        own = found[: len(prompts)]
        # Without *foreground*, what the clean-up takes away is in doubt alone.
        other = (found[-1] if known else own.max(axis=0)) > 0.5
        voxel_ml = float(np.prod(source.spacing)) / 1000
        for prompt, probability in zip(prompts, own, strict=True):
            clean(probability, "all" if prompt in self.keep_all else "largest", 0.0, voxel_ml)
        there = own.max(axis=0) > 0.5
        labels = np.array([TASKS[p].label for p in prompts], dtype=np.uint8)
        values = np.where(there, labels[own.argmax(axis=0)], 0).astype(np.uint8)
        values[other != there] = DOUBT
        return values


# The maps themselves are opened each time: a process may not hold many files open.
@lru_cache(maxsize=256)
def _places(path: Path) -> dict[int, np.ndarray]:
    values = np.load(path)
    return places_in(np.where(values == DOUBT, 0, values))


def rounds_of(begin: float, every: float, steps: int) -> list[int]:
    """The steps at which answers are given: at a share of the run, and so often from there on."""
    found, share = [], begin
    while round(share * steps) < steps:
        found.append(round(share * steps))
        if every <= 0:
            break
        share += every
    return found
