"""The training run on Lightning: optimiser, moving average, checkpoints, logs."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from versemi.errors import InputError, VersemiError
from versemi.inference.device import choose
from versemi.learning.answering import Answering
from versemi.learning.callbacks import Checkpoint, StepsBar, WaitingTime
from versemi.learning.data import Sample, SampleDataset
from versemi.learning.learners import Learner, Learners
from versemi.learning.methods import MethodSettings, Networks, build_method
from versemi.learning.sources import Source
from versemi.network import GroupNetworks, PromptedNetwork

# What Lightning has to say in passing is mostly advertisement.
logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)

LAST = "last.ckpt"
_WARMUP = 100
_MOST_LEFT_OUT = 20


class PromptedTraining(L.LightningModule):
    """Training of one network by one method.

    Args:
        network: with fresh weights, or those to go on from.
        method: how a sample becomes a loss.
        steps: of the optimiser, fixed beforehand; the rate falls along a cosine to zero, twice if
            the method has it start anew.
        rate: peak learning rate of AdamW. The controller's image part gets a hundredth: it moves
            all prompts together, and whenever it outgrew their own rows the organs of the abdomen
            became one. The rows, each of which few steps teach, get ten times the rate.
        average: decay of the moving average of the weights, which is the teacher and what a run
            delivers.
        partner: the second network of cross pseudo supervision.
        described: the run's settings as plain data; a checkpoint goes on only under the same.
        groups: of the prompts; each of several gets a network of its own, if the method has that.
    """

    def __init__(
        self,
        network: PromptedNetwork | GroupNetworks,
        method: MethodSettings,
        *,
        steps: int,
        rate: float = 1e-3,
        average: float = 0.999,
        partner: PromptedNetwork | None = None,
        described: Mapping[str, Any] | None = None,
        groups: Sequence[str] = (),
    ) -> None:
        super().__init__()
        networks = network if isinstance(network, GroupNetworks) else GroupNetworks(network)
        if not method.has("prompt"):
            for one in networks.each():
                one.detach_from_image()
        own = method.has("group-networks") and len(groups) > 1
        if groups and not own:
            networks = GroupNetworks(networks.of(groups[0]))
        self.learners = Learners(networks, groups if own else (), average)
        self.partner = partner
        self.steps = steps
        self.rate = rate
        self.described = dict(described or {})
        self._method = build_method(method)
        self._restart = round(method.begin * steps) if method.restart and method.unlabelled else 0
        self._left_out = 0
        self._averaged_at = 0
        self._stepping: list[Learner] = []
        self._of_step: list[Tensor] = []

    @property
    def network(self) -> PromptedNetwork:
        """The network of a run that has one for all groups."""
        (learner,) = self.learners.each()
        return learner.network

    @property
    def teacher(self) -> PromptedNetwork:
        """The moving average of that network."""
        (learner,) = self.learners.each()
        return learner.average

    def averages(self) -> GroupNetworks:
        """The moving averages of all groups."""
        return self.learners.averages()

    def configure_optimizers(self) -> dict[str, object]:  # type: ignore[override]
        """AdamW with warm-up and a cosine to zero, stepped per batch."""
        factors = {"image_part.weight": 0.01, "rows": 10.0}
        groups: list[dict[str, Any]] = []
        for network in (*(learner.network for learner in self.learners.each()), self.partner):
            named = dict(network.named_parameters()) if network else {}
            named = {name: p for name, p in named.items() if p.requires_grad}
            if named:
                groups.append({"params": [p for n, p in named.items() if n not in factors]})
            groups += [
                {"params": [named[name]], "lr": self.rate * factor}
                for name, factor in factors.items()
                if name in named
            ]
        optimizer = torch.optim.AdamW(groups, lr=self.rate, weight_decay=1e-4)

        # A lambda, for a checkpoint would keep the attributes of a method.
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: self.rate_share(step))
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def rate_share(self, step: int) -> float:
        """The share of the peak rate at a step of the optimiser."""
        if step < _WARMUP:
            return (step + 1) / _WARMUP
        first, last = _WARMUP, self.steps
        if step < self._restart:
            last = self._restart
        elif self._restart:
            first = self._restart
        progress = (step - first) / max(1, last - first)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))

    def training_step(self, batch: Sample, index: int) -> Tensor:
        """The sum of the method's losses on one sample.

        Raises:
            VersemiError: the loss is not a number; the last checkpoint is still good.
        """
        learner = self.learners.of(batch.group)
        networks = Networks(learner.network, learner.average, self.partner)
        losses = self._method(networks, batch, self.global_step / self.steps)
        total = torch.stack(list(losses.values())).sum()
        if not torch.isfinite(total):
            raise VersemiError(
                f"The loss is {float(total.detach())} at step {self.global_step}, sample "
                f"{batch.number} ({', '.join(batch.labelled.names)}); look at these scans, and go "
                "on from the last checkpoint, perhaps with a lower rate."
            )
        for name, value in losses.items():
            self.log(f"{name}/{batch.source}", value.detach(), batch_size=1)
        self._of_step.append(total.detach())
        mean = torch.stack(self._of_step).mean()
        self.log("loss", mean, prog_bar=True, batch_size=1, sync_dist=True)
        return total

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Leave out a step whose gradient is not finite; many in a row end the run.

        Raises:
            VersemiError: the run has diverged; the last checkpoint is still good.
        """
        self._stepping = [one for one in self.learners.each() if one.has_gradient()]
        norms = [p.grad.norm() for p in self.parameters() if p.grad is not None]
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
        """Let the moving averages follow what has moved, once a step of the optimiser."""
        if self.global_step != self._averaged_at:
            self._averaged_at = self.global_step
            self._of_step.clear()
            for learner in self._stepping:
                learner.follow()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Say in the checkpoint which run it is of."""
        checkpoint["run"] = self.described

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse the checkpoint of another run.

        Raises:
            InputError: it was made with other settings.
        """
        theirs = checkpoint.get("run", {})
        different = [
            f"{key} was {theirs.get(key)!r} and is {self.described.get(key)!r}"
            for key in sorted({*theirs, *self.described})
            if theirs.get(key) != self.described.get(key)
        ]
        if different:
            raise InputError(
                "The checkpoint in the run's folder was made with other settings "
                f"({'; '.join(different)}); give another folder, or the settings it was made with."
            )
        self._averaged_at = int(checkpoint["global_step"])


class StepSampler(Sampler[int]):
    """Numbers of the samples of the next steps, from where the run stands, also after a resume.

    Args:
        length: steps between checkpoints.
        steps: of the whole run.
        samples: per step, over all ranks.
        reached: tells how many steps are done. Lightning's own count of epochs is one off in a
            run that goes on from a checkpoint written at an epoch's end.
        rank, ranks: this process, and how many there are; each takes its share of every step.
        breaks: steps before which an epoch ends, whatever its length.
    """

    def __init__(
        self,
        length: int,
        steps: int,
        samples: int,
        reached: Callable[[], int],
        rank: int = 0,
        ranks: int = 1,
        breaks: Sequence[int] = (),
    ) -> None:
        self.length = length
        self.breaks = tuple(breaks)
        self.steps = steps
        self.samples = samples
        self._reached = reached
        self._share = range(rank, samples, ranks)

    def __len__(self) -> int:
        return self.length * len(self._share)

    def __iter__(self) -> Iterator[int]:
        start = self._reached()
        stop = min([start + self.length, self.steps, *(b for b in self.breaks if b > start)])
        for step in range(start, stop):
            for place in self._share:
                yield step * self.samples + place


class _Data(L.LightningDataModule):
    """Loads samples; asked for its loader after the ranks know of each other."""

    def __init__(
        self,
        dataset: SampleDataset,
        epoch: int,
        workers: int,
        answering: Answering | None,
    ) -> None:
        super().__init__()
        self.dataset = dataset
        self.answering = answering
        self.epoch = epoch
        self.workers = workers

    def train_dataloader(self) -> DataLoader[Sample]:
        """One sample an item, in the order of their numbers."""
        trainer = self.trainer
        assert trainer is not None
        if self.answering:
            self.answering.answer(trainer)
        sampler = StepSampler(
            self.epoch,
            self.dataset.steps,
            self.dataset.samples,
            lambda: trainer.global_step,
            trainer.global_rank,
            trainer.world_size,
            self.answering.answers.asked if self.answering else (),
        )
        return DataLoader(
            self.dataset,
            batch_size=None,
            sampler=sampler,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            prefetch_factor=4 if self.workers else None,
            collate_fn=_as_is,
        )

    def transfer_batch_to_device(
        self, batch: Sample, device: torch.device, dataloader_idx: int
    ) -> Sample:
        """Move a sample."""
        return batch.to(device)


def run(
    training: PromptedTraining,
    dataset: SampleDataset,
    folder: Path,
    *,
    epoch: int = 100,
    workers: int = 1,
    device: str = "auto",
    devices: int = 1,
    nodes: int = 1,
    bar: bool = True,
    answering: Answering | None = None,
    callbacks: tuple[Callback, ...] = (),
) -> None:
    """Train to the end, or go on where a killed run left off.

    A step's samples are shared among the ranks; a rank with several accumulates their gradients.

    Args:
        training: the module; its weights are those of the end when this returns.
        dataset: the run's samples.
        folder: gets ``last.ckpt``, CSV and TensorBoard logs.
        epoch: steps between checkpoints.
        workers: processes that prepare crops, per rank.
        device: as for :class:`Segmenter`; with its precision.
        devices: ranks on this machine.
        nodes: machines.
        bar: whether the terminal shows how many of the steps are done.
        answering: answers about whole scans before the samples that are learnt from with them.
        callbacks: more of them.

    Raises:
        InputError: the samples of a step cannot be shared equally among the ranks, a crop does
            not fit the network, or the folder holds the checkpoint of another run.
    """
    ranks = devices * nodes
    if dataset.samples % ranks:
        raise InputError(
            f"A step has {dataset.samples} samples, which {ranks} processes cannot share equally; "
            "choose another number of devices, or of samples in the settings."
        )
    _check_crops(dataset.sources, training.averages().shared.divisor)
    last = folder / LAST
    compute = choose(device)
    trainer = L.Trainer(
        accelerator={"cuda": "gpu"}.get(compute.device.type, compute.device.type),
        devices=devices,
        num_nodes=nodes,
        strategy=_strategy(ranks, bool(training.learners.groups)),
        # Where bf16 has to be emulated, a CPU takes many times as long with it as without.
        precision="bf16-mixed" if compute.autocast else "32-true",
        max_steps=dataset.steps,
        max_epochs=-1,
        accumulate_grad_batches=dataset.samples // ranks,
        gradient_clip_val=5.0,
        callbacks=[
            Checkpoint(last),
            WaitingTime(),
            *([StepsBar()] if bar else []),
            *([answering] if answering else []),
            *callbacks,
        ],
        logger=[CSVLogger(folder, name="csv", version=""), TensorBoardLogger(folder, name="tb")],
        log_every_n_steps=10,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    data = _Data(dataset, epoch, workers, answering)
    trainer.fit(training, datamodule=data, ckpt_path=str(last) if last.is_file() else None)


def _strategy(ranks: int, several: bool) -> str:
    if ranks == 1:
        return "auto"
    # A step goes through the networks of some groups alone.
    return "ddp_find_unused_parameters_true" if several else "ddp"


def _check_crops(sources: Sequence[Source], divisor: int) -> None:
    """Told at once; such a crop would end the run when it is first drawn."""
    for source in sources:
        if any(length % divisor for length in source.crop):
            raise InputError(
                f"The crop of {source.name} is {' x '.join(str(n) for n in source.crop)} voxels, "
                f"but this network takes multiples of {divisor} only; change it in the settings."
            )


def _as_is(item: Any) -> Any:
    return item
