"""The training run on Lightning: optimiser, moving average, checkpoints, logs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint, RichProgressBar
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, Sampler

from versemi.errors import VersemiError
from versemi.learning.data import MicroBatch, StepDataset
from versemi.learning.objective import supervised_loss
from versemi.network import PromptedNetwork
from versemi.tasks import TASKS

_WARMUP = 100
_MOST_LEFT_OUT = 20


class PromptedTraining(L.LightningModule):
    """Supervised training of all prompts at once.

    Args:
        network: with fresh weights, or those to go on from.
        steps: length of the run, fixed beforehand; the rate falls along a cosine to zero.
        rate: peak learning rate of AdamW. The controller's image part gets a hundredth: it moves
            all prompts together, and whenever it outgrew their own rows the organs of the abdomen
            became one. The rows, each of which few steps teach, get ten times the rate.
        average: decay of the moving average of the weights, which is what a run delivers.
    """

    def __init__(
        self, network: PromptedNetwork, *, steps: int, rate: float = 1e-3, average: float = 0.999
    ) -> None:
        super().__init__()
        self.network = network
        self.averaged = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(average))
        self.steps = steps
        self.rate = rate
        self._left_out = 0

    def configure_optimizers(self) -> dict[str, object]:  # type: ignore[override]
        """AdamW with warm-up and a cosine to zero, stepped per batch."""
        controller = {"image_part.weight": 0.01, "rows": 10.0}
        named = dict(self.network.named_parameters())
        groups: list[dict[str, Any]] = [
            {"params": [p for name, p in named.items() if name not in controller]}
        ]
        groups += [
            {"params": [named[name]], "lr": self.rate * factor}
            for name, factor in controller.items()
        ]
        optimizer = torch.optim.AdamW(groups, lr=self.rate, weight_decay=1e-4)

        def factor(step: int) -> float:
            if step < _WARMUP:
                return (step + 1) / _WARMUP
            progress = (step - _WARMUP) / max(1, self.steps - _WARMUP)
            return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def transfer_batch_to_device(
        self, batch: list[MicroBatch], device: torch.device, dataloader_idx: int
    ) -> list[MicroBatch]:
        """Move a step's data."""
        return [micro.to(device) for micro in batch]

    def training_step(self, batch: list[MicroBatch], index: int) -> Tensor:
        """One step: every micro-batch's mean loss, summed."""
        total = torch.zeros((), device=self.device)
        for micro in batch:
            losses = supervised_loss(self.network, micro)
            group = "+".join(sorted({TASKS[p].group for p in micro.labels[0].prompts}))
            for name, value in losses.items():
                self.log(f"{name}/{group}", value.detach(), batch_size=1)
                total = total + value
        self.log("loss", total.detach(), prog_bar=True, batch_size=1)
        return total

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Leave out a step whose gradient is not finite; many in a row end the run.

        Raises:
            VersemiError: the loss has diverged; the last checkpoint is still good.
        """
        norms = [p.grad.norm() for p in self.network.parameters() if p.grad is not None]
        if torch.isfinite(torch.stack(norms)).all():
            self._left_out = 0
            return
        self._left_out += 1
        if self._left_out > _MOST_LEFT_OUT:
            raise VersemiError(
                f"The gradient was not finite for {self._left_out} steps in a row, last at step "
                f"{self.global_step}; go on from the last checkpoint with a lower rate."
            )
        optimizer.zero_grad()

    def on_train_batch_end(self, *_: object) -> None:
        """Let the averaged weights follow."""
        self.averaged.update_parameters(self.network)


class EpochSampler(Sampler[int]):
    """Step numbers of one epoch, from where the run stands, also after a resume.

    Args:
        length: steps between checkpoints.
        steps: of the whole run.
        reached: tells how many steps are done. Lightning's own count of epochs is one off in a
            run that goes on from a checkpoint written at an epoch's end.
    """

    def __init__(self, length: int, steps: int, reached: Callable[[], int]) -> None:
        self.length = length
        self.steps = steps
        self._reached = reached

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[int]:
        start = self._reached()
        return iter(range(start, min(start + self.length, self.steps)))


def run(
    training: PromptedTraining,
    dataset: StepDataset,
    folder: Path,
    *,
    epoch: int = 100,
    workers: int = 1,
    accelerator: str = "auto",
) -> None:
    """Train to the end, or go on where a killed run left off.

    Args:
        training: the module; its weights are those of the end when this returns.
        dataset: one item per step.
        folder: gets ``last.ckpt``, CSV and TensorBoard logs.
        epoch: steps between checkpoints.
        workers: processes that prepare crops.
        accelerator: as Lightning names it.
    """
    loader = DataLoader(
        dataset,
        batch_size=None,
        sampler=EpochSampler(epoch, dataset.steps, lambda: training.global_step),
        num_workers=workers,
        persistent_workers=workers > 0,
        prefetch_factor=4 if workers else None,
        collate_fn=_as_is,
    )
    checkpoint = ModelCheckpoint(
        dirpath=folder, filename="step-{step}", save_last=True, save_top_k=1, every_n_epochs=1
    )
    trainer = L.Trainer(
        accelerator=accelerator,
        devices=1,
        precision="bf16-mixed",
        max_steps=dataset.steps,
        gradient_clip_val=5.0,
        callbacks=[checkpoint, RichProgressBar(leave=True)],
        logger=[CSVLogger(folder, name="csv", version=""), TensorBoardLogger(folder, name="tb")],
        log_every_n_steps=10,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    last = folder / "last.ckpt"
    trainer.fit(training, loader, ckpt_path=str(last) if last.is_file() else None)


def _as_is(item: list[MicroBatch]) -> list[MicroBatch]:
    return item
