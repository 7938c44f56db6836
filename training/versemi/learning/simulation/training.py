"""Training from labels alone, of a base pack and of a fresh network, outside fine-tuning.

It is the trainer of ``versemi train`` with two things that a story needs: labels that stay
unknown, and an end after some minutes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback

from versemi.export import write_text
from versemi.learning.callbacks import TrainingTime
from versemi.learning.configuration import RunSettings
from versemi.learning.data import MicroBatch, SampleDataset
from versemi.learning.mixing import MixedLabels
from versemi.learning.sources import Source, build_sources
from versemi.learning.trainer import PromptedTraining, run
from versemi.network import PromptedNetwork, build_network
from versemi.tasks import get_task

#: What a training was, beside its checkpoint.
FACTS = "training.json"
_WARM_UP = 100
# The time ends a run, not the number of its steps.
_NO_END = 1_000_000


def train_labels(
    settings: RunSettings,
    data: Path,
    folder: Path,
    *,
    cache: Path,
    hidden: Mapping[str, Mapping[int, str]] | None = None,
    minutes: float | None = None,
    device: str = "auto",
) -> PromptedNetwork:
    """Train a fresh network, or go on with a run that was stopped; returns the averaged network.

    Args:
        settings: the run; no scan is looked at without its labels, whatever the method says.
        data: folder that holds the data sets' folders.
        folder: of the run: its checkpoint, logs, and ``training.json`` with steps and seconds.
        cache: folder for prepared scans.
        hidden: by source name, values in its label maps with their prompts. Such voxels stay
            unknown: they are no background, and *foreground* is not taught there either.
        minutes: end of the training, preparing not counted; the number of steps where None.
        device: as for :class:`Segmenter`.

    Raises:
        InputError: scans or labels are missing or wrong, or `folder` holds another run.
        OutputError: a file of the run cannot be written.
    """
    hidden = hidden or {}
    entries = [
        {**entry, "labels": {**entry["labels"], **hidden.get(entry["name"], {})}}
        for entry in settings.sources
    ]
    unknown = {prompt for values in hidden.values() for prompt in values.values()}
    sources = [
        replace(source, prompts=tuple(p for p in source.prompts if p not in unknown))
        for source in build_sources(entries, data, cache, unlabelled=False, groups=settings.groups)
    ]
    steps = settings.steps if minutes is None else _NO_END
    dataset = PartlyKnown(sources, settings, steps, [get_task(p).label for p in unknown])
    L.seed_everything(settings.seed, verbose=False)
    clock = TrainingTime()
    described = {
        **settings.described(),
        "hidden": {name: dict(values) for name, values in hidden.items()},
        "minutes": minutes,
    }
    training = _Timed(
        build_network(settings.network),
        settings,
        steps,
        described,
        clock,
        None if minutes is None else minutes * 60,
    )
    run(
        training,
        dataset,
        folder,
        device=device,
        bar=minutes is None,
        callbacks=(clock, _End(training)),
    )
    facts = {"steps": int(training.trainer.global_step), "seconds": round(clock.seconds, 1)}
    write_text(json.dumps(facts) + "\n", folder / FACTS)
    return training.teacher.cpu().eval()


class PartlyKnown(SampleDataset):
    """Samples of labelled crops in which some structures are unknown.

    Args:
        sources: prepared with the labels of these structures, which they do not cover.
        settings: of the run.
        steps: length of the run.
        hidden: label values of the registry that nothing is to be learnt from.
    """

    def __init__(
        self,
        sources: list[Source],
        settings: RunSettings,
        steps: int,
        hidden: Collection[int],
    ) -> None:
        super().__init__(
            sources,
            settings.prompts,
            steps=steps,
            samples=settings.samples,
            seed=settings.seed,
            synthetic=settings.method.synthetic if settings.method.has("synthetic") else 0.0,
            unlabelled=False,
        )
        self._hidden = tuple(hidden)

    def _labelled(self, rng: np.random.Generator, source: Source) -> MicroBatch:
        batch = super()._labelled(rng, source)
        batch.labels = [forgotten(labels, self._hidden) for labels in batch.labels]
        return batch


def forgotten(labels: MixedLabels, hidden: Collection[int]) -> MixedLabels:
    """Labels that know nothing where they had one of some values.

    These voxels become a part of their own, which covers no prompt, as an unlabelled scan does.
    """
    there = torch.isin(labels.values, torch.tensor(sorted(hidden), dtype=labels.values.dtype))
    if not there.any():
        return labels
    return labels.without(there)


class _Timed(PromptedTraining):
    """Training whose rate and weights follow its time where that ends it."""

    def __init__(
        self,
        network: PromptedNetwork,
        settings: RunSettings,
        steps: int,
        described: Mapping[str, Any],
        clock: TrainingTime,
        seconds: float | None,
    ) -> None:
        super().__init__(
            network,
            settings.method,
            steps=steps,
            rate=settings.rate,
            average=settings.average,
            described=described,
        )
        self._clock = clock
        self._seconds = seconds
        if seconds is not None:
            method = self._method
            self._method = lambda networks, sample, done: method(networks, sample, self._done)

    @property
    def _done(self) -> float:
        """Share of the time that is used, 0..1; only where there is an end to it."""
        assert self._seconds is not None
        return min(1.0, self._clock.seconds / self._seconds)

    @property
    def over(self) -> bool:
        """Whether the time is over."""
        return self._seconds is not None and self._clock.seconds >= self._seconds

    def rate_share(self, step: int) -> float:
        """Warm-up over steps, then a cosine to zero over the time."""
        if self._seconds is None:
            return super().rate_share(step)
        return min(1.0, (step + 1) / _WARM_UP) * 0.5 * (1 + math.cos(math.pi * self._done))


class _End(Callback):
    """Ends a training on time."""

    def __init__(self, training: _Timed) -> None:
        self._training = training

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        """Look at the clock."""
        if self._training.over:
            trainer.should_stop = True
