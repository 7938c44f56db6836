"""One training run from settings to the end: scans, network, steps."""

from __future__ import annotations

from pathlib import Path

import lightning as L

from versemi.learning.configuration import RunSettings, build_sources
from versemi.learning.data import StepDataset
from versemi.learning.trainer import PromptedTraining, run
from versemi.network import PromptedNetwork, build_network


def train(
    settings: RunSettings,
    data: Path,
    out: Path,
    *,
    cache: Path,
    accelerator: str = "auto",
    workers: int = 1,
) -> PromptedNetwork:
    """Train, or go on with a run that was stopped; returns the averaged network.

    Args:
        settings: the run, its length included.
        data: folder that holds the data sets' folders.
        out: folder of the run: checkpoints and logs.
        cache: folder for prepared scans.
        accelerator: as Lightning names it.
        workers: processes that prepare crops.

    Raises:
        InputError: scans or labels are missing.
    """
    L.seed_everything(settings.seed, verbose=False)
    sources = build_sources(settings, data, cache)
    dataset = StepDataset(sources, steps=settings.steps, seed=settings.seed, mix=settings.mix)
    training = PromptedTraining(
        build_network(settings.network),
        steps=settings.steps,
        rate=settings.rate,
        average=settings.average,
    )
    run(training, dataset, out, accelerator=accelerator, workers=workers)
    averaged = training.averaged.module
    assert isinstance(averaged, PromptedNetwork)
    return averaged.eval()
