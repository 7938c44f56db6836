"""What happens beside the steps of a run: checkpoints, progress, the time lost by waiting."""

from __future__ import annotations

import csv
import io
import os
import time
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.utilities import rank_zero_only
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from versemi.errors import OutputError
from versemi.export import write_text


class Checkpoint(Callback):
    """One checkpoint that is whole at every moment, written at the end of each epoch.

    Lightning's own callback writes in place: a kill in the middle would leave half a file.

    Args:
        path: of the checkpoint.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write beside, then rename.

        Raises:
            OutputError: it could not be written; the one before is still there.
        """
        temporary = self.path.with_name(f".{self.path.name}.new")
        try:
            trainer.save_checkpoint(temporary)
            if trainer.is_global_zero:
                with temporary.open("rb+") as file:
                    os.fsync(file.fileno())
                os.replace(temporary, self.path)
        except (OSError, RuntimeError) as error:
            temporary.unlink(missing_ok=True)
            raise OutputError(
                f"The checkpoint {self.path} could not be written ({error}); make room and start "
                "the command again, it goes on from the checkpoint before."
            ) from None
        trainer.strategy.barrier()


class KeptLog(Callback):
    """Keeps the CSV log of a run that goes on: Lightning's logger deletes what it finds.

    To be made before the trainer is. Rows of steps that the checkpoint does not know are dropped,
    for these steps are done again.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: Path) -> None:
        self._log = folder / "csv" / "metrics.csv"
        # A run that is killed before it goes on finds its log here the next time.
        self._earlier = folder / "earlier.csv"
        self._set_aside()

    @rank_zero_only
    def _set_aside(self) -> None:
        if self._log.is_file():
            os.replace(self._log, self._earlier)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Put back what belongs to steps that are done.

        Raises:
            OutputError: the log could not be written.
        """
        if not trainer.is_global_zero or not self._earlier.is_file():
            return
        with self._earlier.open(encoding="utf-8", newline="") as file:
            # A kill may have cut the last line short.
            lines = [line for line in file if line.endswith("\n")]
        reader = csv.DictReader(lines)
        rows = [row for row in reader if int(row["step"]) < trainer.global_step]
        if rows:
            columns = list(reader.fieldnames or ())
            text = io.StringIO()
            writer = csv.DictWriter(text, columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
            write_text(text.getvalue(), self._log)
            for logger in trainer.loggers:
                if isinstance(logger, CSVLogger):
                    logger.experiment.metrics_keys = columns
        self._earlier.unlink()

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """A run that was at its end already has not started."""
        if trainer.is_global_zero and self._earlier.is_file():
            os.replace(self._earlier, self._log)


class WaitingTime(Callback):
    """Logs the share of the time that steps spent waiting for data, as ``waiting``."""

    def __init__(self) -> None:
        self._ended: float | None = None
        self._started = 0.0
        self._waited = 0.0
        self._since = time.perf_counter()

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any
    ) -> None:
        """A sample has arrived."""
        self._started = time.perf_counter()
        if self._ended is not None:
            self._waited += self._started - self._ended

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        """The next sample is asked for."""
        self._ended = time.perf_counter()
        elapsed = self._ended - self._since
        if elapsed > 10:
            pl_module.log("waiting", self._waited / elapsed, batch_size=1)
            self._waited, self._since = 0.0, self._ended

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Writing a checkpoint is not waiting for data."""
        self._ended = None


class TrainingTime(Callback):
    """Seconds of training, over all the times that a run was stopped and went on."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._since: float | None = None

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any
    ) -> None:
        """The clock runs from the first sample on, waiting for data and checkpoints included."""
        now = time.perf_counter()
        if self._since is not None:
            self.seconds += now - self._since
        self._since = now

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint."""
        return {"seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """From the checkpoint."""
        self.seconds = float(state_dict["seconds"])


class StepsBar(Callback):
    """A progress bar over the steps of the whole run; Lightning's counts samples of an epoch."""

    def __init__(self) -> None:
        self._bar: Progress | None = None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Show it, from where the run stands."""
        if not trainer.is_global_zero:
            return
        self._bar = Progress(
            TextColumn("Training"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]}"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        self._task = self._bar.add_task("", total=trainer.max_steps, loss="-")
        self._bar.update(self._task, completed=trainer.global_step)
        self._bar.start()

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        """Count a step."""
        if self._bar:
            loss = trainer.callback_metrics.get("loss")
            shown = "-" if loss is None else f"{float(loss):.3f}"
            self._bar.update(self._task, completed=trainer.global_step, loss=shown)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Leave the last state on the screen."""
        self._stop()

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        """Give the terminal back."""
        self._stop()

    def _stop(self) -> None:
        if self._bar:
            self._bar.stop()
            self._bar = None
