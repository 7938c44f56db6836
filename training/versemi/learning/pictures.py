"""What the network answers while it learns, drawn every so often."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback

from versemi.learning.data import MicroBatch, SampleDataset
from versemi.network import GroupNetworks, PromptedNetwork
from versemi.tasks import FOREGROUND, TASKS

_SAMPLES = 4


class Pictures(Callback):
    """Draws the averaged network's answers on the run's first samples.

    One row a sample: the slice with most labelled voxels, its labels, the answers, and the
    probability of *foreground* where the network has it.

    Args:
        dataset: the run's samples.
        folder: gets ``step-000500.png`` and so on.
        every: steps between pictures.
    """

    def __init__(self, dataset: SampleDataset, folder: Path, every: int = 500) -> None:
        self.dataset = dataset
        self.folder = folder
        self.every = every
        self._drawn = 0

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        """Draw when it is time."""
        step = trainer.global_step
        if not trainer.is_global_zero or step == self._drawn or step % self.every:
            return
        self._drawn = step
        with trainer.precision_plugin.forward_context():
            networks: GroupNetworks = pl_module.averages()  # type: ignore[operator]
            draw(self.dataset, networks, self.folder / f"step-{step:06d}.png")


def draw(dataset: SampleDataset, networks: GroupNetworks, path: Path) -> None:
    """Draw the answers on the first samples of a run.

    Args:
        dataset: the run's samples.
        networks: answer.
        path: PNG.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    count = min(_SAMPLES, len(dataset))
    figure = Figure(figsize=(10, 2.6 * count), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(count, 4, squeeze=False)
    for row, number in zip(axes, range(count), strict=True):
        sample = dataset[number]
        network = networks.of(sample.group)
        panels = _panels(sample.labelled.to(next(network.parameters()).device), network)
        for axis, (title, panel) in zip(row, panels.items(), strict=True):
            axis.imshow(panel, cmap="gray", vmin=0, vmax=1, origin="lower")
            axis.set_title(f"{sample.source}: {title}" if title == "scan" else title, fontsize=9)
            axis.set_axis_off()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=80)


@torch.no_grad()
def _panels(batch: MicroBatch, network: PromptedNetwork) -> dict[str, np.ndarray]:
    """Pictures ``(H, W)`` or ``(H, W, 3)`` in 0..1 of the first crop, by title."""
    values = batch.labels[0].values.cpu().numpy()
    plane = int((values > 0).sum(axis=(1, 2)).argmax())
    prompts = [p for p in network.prompts if p == FOREGROUND or p in batch.labels[0].prompts]
    index = torch.tensor([network.prompts.index(p) for p in prompts], device=batch.image.device)
    logits = network(batch.image[:1], index)
    answers = torch.sigmoid(logits[0, :, plane].float()).cpu().numpy()
    scan = (batch.image[0, 0, plane].float().cpu().numpy() + 1) / 2
    shown = [p for p in prompts if p != FOREGROUND]
    foreground = (
        answers[prompts.index(FOREGROUND)] if FOREGROUND in prompts else np.zeros_like(scan)
    )
    truth = np.stack([values[plane] == TASKS[p].label for p in shown]).astype(np.float32)
    found = np.stack([answers[prompts.index(p)] for p in shown])
    return {
        "scan": scan,
        "labels": _coloured(scan, truth, shown),
        "answers": _coloured(scan, found, shown),
        "foreground": foreground,
    }


def _coloured(scan: np.ndarray, shares: np.ndarray, prompts: list[str]) -> np.ndarray:
    """Lay the most probable prompt of each pixel over the scan where it is above one half."""
    picture = np.repeat(scan[..., None], 3, axis=2)
    winner = shares.argmax(axis=0)
    above = shares.max(axis=0) > 0.5
    colors = np.array([TASKS[p].color for p in prompts], dtype=np.float32) / 255
    picture[above] = 0.5 * picture[above] + 0.5 * colors[winner[above]]
    return picture
