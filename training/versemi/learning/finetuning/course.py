"""One run of training within its time: learning rate, fixed parts, pauses."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from versemi.errors import OutputError
from versemi.learning.data import Sample, SampleDataset
from versemi.learning.finetuning.objective import Objective
from versemi.learning.finetuning.watch import Watch
from versemi.learning.methods import Networks
from versemi.learning.sources import Source
from versemi.learning.trainer import PromptedTraining, run
from versemi.network import PromptedNetwork

_RATE = 1e-3
_AVERAGE = 0.99
_WARM_UP = 0.05
#: Steps between checkpoints.
_EPOCH = 50
# The time ends a run, not the number of its steps.
_NO_END = 1_000_000
_SEED = 2026


class FineTuning(PromptedTraining):
    """Training from a parent's weights that keeps what no scan of the run speaks about.

    The controller's image part, which moves all prompts together, is fixed.

    Args:
        parent: frozen; the student starts as its copy.
        objective: how a sample becomes a loss.
        done: tells the share of the run's time that is used, 0..1; the rate falls with it.
        described: as for `PromptedTraining`.
    """

    def __init__(
        self,
        parent: PromptedNetwork,
        objective: Objective,
        *,
        done: Callable[[], float],
        described: Mapping[str, Any],
    ) -> None:
        network = copy.deepcopy(parent).train().requires_grad_(True)
        network.image_part.weight.requires_grad_(False)
        super().__init__(
            network,
            objective.method,
            steps=_NO_END,
            rate=_RATE,
            average=_AVERAGE,
            described=described,
        )
        # In a tuple, so that it is no part of the module and of its checkpoints.
        self._parent = (parent.eval().requires_grad_(False),)
        self._objective = objective
        self._done = done
        self._method = self._losses

    def on_fit_start(self) -> None:
        """Bring the parent to where the student is."""
        self._parent[0].to(self.device)

    def rate_share(self, step: int) -> float:
        """Warm-up and a cosine to zero, over the run's time."""
        done = self._done()
        warm = min(1.0, (done + 0.01) / _WARM_UP)
        return warm * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))

    def _losses(self, networks: Networks, sample: Sample, done: float) -> dict[str, Tensor]:
        return self._objective.losses(networks, self._parent[0], sample, self._done())


class _Course(Callback):
    """Ends a run on time, holds it while it is paused, and says where it stands."""

    def __init__(self, watch: Watch, sentence: str, end: float, keep: Callable[[], None]) -> None:
        self._watch = watch
        self._sentence = sentence
        self._end = end
        self._keep = keep

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any
    ) -> None:
        self._watch.go_on()

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        loss = trainer.callback_metrics.get("loss")
        if loss is not None:
            before = self._watch.loss
            now = float(loss)
            self._watch.loss = now if before is None else 0.9 * before + 0.1 * now
        self._watch.say(f"{self._sentence}, step {trainer.global_step}")
        if self._watch.used >= self._end:
            trainer.should_stop = True

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._keep()


def train(
    parent: PromptedNetwork,
    objective: Objective,
    sources: Sequence[Source],
    folder: Path,
    *,
    watch: Watch,
    begun: float,
    seconds: float,
    sentence: str,
    keep: Callable[[], None],
    device: str = "auto",
    workers: int = 1,
) -> tuple[PromptedNetwork, int]:
    """Train until the time is over, or go on where a killed run left off; at least one step.

    Args:
        parent: where to start, and what the other prompts follow.
        objective: of the run.
        sources: prepared scans.
        folder: for the checkpoint and logs.
        watch: the clock of the whole command.
        begun: reading of that clock when this run began, at its first start.
        seconds: that it has.
        sentence: what to say meanwhile.
        keep: called after each checkpoint.
        device: as for :class:`Segmenter`.
        workers: processes that prepare crops.

    Returns:
        The moving average of the weights, and how many steps made it.

    Raises:
        Cancelled: somebody has asked to stop; the last checkpoint is there.
        OutputError: the folder cannot be written.
        VersemiError: the run has diverged.
    """
    dataset = SampleDataset(
        sources,
        parent.prompts,
        steps=_NO_END,
        samples=1,
        seed=_SEED,
        synthetic=objective.method.synthetic,
        unlabelled=objective.unlabelled,
    )
    L.seed_everything(_SEED, verbose=False)
    training = FineTuning(
        parent,
        objective,
        done=lambda: (watch.used - begun) / seconds,
        described={"sources": [f"{s.name}: {[c.name for c in s.cases]}" for s in sources]},
    )
    try:
        run(
            training,
            dataset,
            folder,
            epoch=_EPOCH,
            workers=workers,
            device=device,
            bar=False,
            callbacks=(_Course(watch, sentence, begun + seconds, keep),),
        )
    except OSError as error:  # of the logs
        raise OutputError(
            f"The training could not write to {folder} ({error.strerror or error}); make room and"
            " start the command again, it goes on from the last checkpoint."
        ) from None
    parent.cpu()
    return training.teacher.cpu().eval(), int(training.trainer.global_step)


def interpolate(parent: PromptedNetwork, tuned: PromptedNetwork, share: float) -> PromptedNetwork:
    """Weights on the line from the parent's (share 0) to the fine-tuned (share 1).

    Wortsman et al., *Robust fine-tuning of zero-shot models*, CVPR 2022.
    """
    between = copy.deepcopy(tuned)
    before = parent.state_dict()
    with torch.no_grad():
        for name, weight in between.state_dict().items():
            weight.lerp_(before[name], 1 - share)
    return between
