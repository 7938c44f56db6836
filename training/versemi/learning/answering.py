"""What the network says about the scans without labels, whole, written down to be learnt from.

Pseudo-labels (Lee, *Pseudo-label: the simple and efficient semi-supervised learning method*, ICML
2013 workshop) of whole scans rather than of crops: only then can the largest component be told from
the rest, crops be laid where the structure is, and a prompt be passed over that found nothing. The
moving average of the weights answers when its run begins to look at scans without labels, and
again every so often. In between the answers stand still, so that a network cannot talk itself into
something from one step to the next.

What counts is VerSemi's agreement (arXiv 2311.11686, section III-C), voxel by voxel: where
*foreground* and the cleaned answers of the prompts do not say the same, nothing is known. And a
structure counts only if the network has outlined it before as it does now, since an answer that
still changes is mostly wrong: the selection of images by how stable their pseudo-labels are, of
Yang et al., *ST++: make self-training work better for semi-supervised semantic segmentation*, CVPR
2022, section 3.3.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
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
from versemi.learning.answers import DOUBT, Answers
from versemi.learning.cache import CachedCase
from versemi.learning.configuration import RunSettings
from versemi.learning.sources import Source
from versemi.tasks import FOREGROUND, TASKS, prompts_of

if TYPE_CHECKING:
    from versemi.network import GroupNetworks, PromptedNetwork


class Answering(Callback):
    """Has the averaged network answer about every unlabelled scan when a round begins.

    Args:
        answers: where to.
        sources: of the run.
        settings: the run's.
        device: as for :class:`Segmenter`.
    """

    def __init__(
        self, answers: Answers, sources: Sequence[Source], settings: RunSettings, device: str
    ) -> None:
        self.answers = answers
        self.sources = sources
        self.settings = settings
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
        if step not in self.answers.asked:
            return
        trainer.strategy.barrier()
        networks: GroupNetworks = trainer.lightning_module.averages()  # type: ignore[operator]
        for number, (source, case) in enumerate(self._wanted()):
            if number % trainer.world_size == trainer.global_rank:
                self._write(networks.of(source.group), source, case, step)
        trainer.strategy.barrier()
        if trainer.is_global_zero:
            self.answers.forget_before(step)

    def _wanted(self) -> Iterator[tuple[Source, CachedCase]]:
        seen = set()
        for source in self.sources:
            prompts = prompts_of(source.group, self.settings.prompts)
            for case in source.unlabelled:
                scan = (source.group, case.folder)
                if scan not in seen and source.uncovered(case, prompts):
                    seen.add(scan)
                    yield source, case

    def _write(self, network: PromptedNetwork, source: Source, case: CachedCase, step: int) -> None:
        """Write down what is said about a case and, in a round, what of it is learnt from.

        Structures that labels by hand cover are where these have them.
        """
        said = self.answers.said(case, source.group, step)
        if not said.is_file():
            _save(said, self._answer(network, source, case))
        path = self.answers.path(case, source.group, step)
        if step not in self.answers.rounds or path is None or path.is_file():
            return
        values = np.load(said)
        if case.labelled:
            values[np.isin(values, [TASKS[p].label for p in source.prompts])] = 0
        before = self.answers.said_before(case, source.group, step)
        if before is not None:
            values = stable(values, np.load(before), self.settings.method.stable)
        if case.labelled:
            values = np.where(case.labels > 0, case.labels, values)
        _save(path, values)

    def _answer(self, network: PromptedNetwork, source: Source, case: CachedCase) -> np.ndarray:
        """The map of a case: label values, and `DOUBT` where two answers do not agree."""
        prompts = prompts_of(source.group, network.prompts)
        known = FOREGROUND in network.prompts
        asked = [*prompts, FOREGROUND] if known else prompts
        settings = self.settings.groups[source.group]
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
        for prompt, probability in zip(prompts, own, strict=True):
            # However small: what counts as too small for a user may teach all the same.
            clean(probability, self.settings.keep(prompt), min_ml=0.0, voxel_ml=1.0)
        there = own.max(axis=0) > 0.5
        labels = np.array([TASKS[p].label for p in prompts], dtype=np.uint8)
        values = np.where(there, labels[own.argmax(axis=0)], 0).astype(np.uint8)
        values[other != there] = DOUBT
        return values


def stable(values: np.ndarray, before: np.ndarray, least: float) -> np.ndarray:
    """Doubt the structures that an earlier answer outlined otherwise.

    Args:
        values: label values and `DOUBT`, uint8 ``(z, y, x)``.
        before: the same, as answered earlier.
        least: Dice of the two outlines of a structure from which on it counts.

    Returns:
        `values` with `DOUBT` in place of the other structures.
    """
    values = values.copy()
    for label in np.unique(values):
        if label in (0, DOUBT):
            continue
        here, there = values == label, before == label
        if 2 * (here & there).sum() < least * (here.sum() + there.sum()):
            values[here] = DOUBT
    return values


def _save(path: Path, values: np.ndarray) -> None:
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.save(file, values)
