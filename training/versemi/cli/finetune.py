"""``versemi finetune``: a pack learns from the cases of a library."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from versemi.cli.models import StoreOption
from versemi.cli.options import (
    Device,
    DeviceOption,
    PackOption,
    load_pack,
    output,
    result_table,
    say,
)
from versemi.cli.train import need_training_packages

if TYPE_CHECKING:
    from versemi.learning.finetuning.run import Outcome
    from versemi.learning.finetuning.watch import Control, News


class Method(str, Enum):
    """How a pack learns from a library."""

    distillation = "distillation"
    versemi = "versemi"
    labels_only = "labels-only"


def finetune(
    library: Annotated[
        Path, typer.Option("--library", metavar="DIR", help="Case library; nothing in it changes.")
    ],
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="New or empty folder for the new pack.")
    ],
    pack: PackOption = None,
    minutes: Annotated[
        float,
        typer.Option("--minutes", metavar="N", help="Bound of the whole, measuring included."),
    ] = 15.0,
    prompts: Annotated[
        list[str] | None,
        typer.Option(
            "-t",
            "--prompts",
            metavar="PROMPT",
            help="What to learn; give it again for more. By default all that some corrected case"
            " covers.",
        ),
    ] = None,
    method: Annotated[
        Method,
        typer.Option(
            "--method",
            help="Labels teach in each. Under distillation every scan holds the other prompts,"
            " under versemi it teaches the learnt ones, too.",
        ),
    ] = Method.distillation,
    store: StoreOption = None,
    device: DeviceOption = Device.auto,
    json_lines: Annotated[
        bool,
        typer.Option(
            "--json-lines",
            help="For programs: progress as JSON lines on stdout; pause, resume and cancel as JSON"
            " lines on stdin, whose end ends the run.",
        ),
    ] = False,
) -> None:
    """Let a pack learn from corrected and unlabelled cases; what comes out has to pass a gate.

    The new pack goes to OUT and into the model store, as **available** if it passed,
    **provisional** if too few cases were corrected to measure it, or **kept aside** with the
    reason. It is never taken into use by itself; 'versemi models use' does that. Every number is in
    OUT/finetuning.json.

    The same command goes on with a run that was stopped; OUT.work beside OUT holds it until then.

    Examples:

    - versemi finetune --library spleens --out packs/spleens

    - versemi finetune --library spleens --pack shipped -t spleen --minutes 30 --out packs/spleens
    """
    learn = partial(
        _run, library, out, pack, minutes, tuple(prompts or ()), method.value, store, device.value
    )
    if json_lines:
        code = _for_programs(learn)
        # The reader's thread waits in a read that nothing can interrupt: leave without it.
        sys.stderr.flush()
        os._exit(code)
    with _bar() as tell:
        outcome = learn(tell, None)
    table = result_table("Prompt", "Held-out cases", "Dice", "Parent's")
    for prompt, row in outcome.report["dice"].items():
        numbers = ("-" if row[k] is None else f"{row[k]:.3f}" for k in ("tuned", "parent"))
        table.add_row(prompt, str(row["cases"]), *numbers)
    output().print(table)
    for note in outcome.report["notes"]:
        say(note)
    say(_sentence(outcome))


def _run(
    library: Path,
    out: Path,
    pack: Path | None,
    minutes: float,
    prompts: tuple[str, ...],
    method: str,
    store: Path | None,
    device: str,
    tell: Callable[[News], None],
    control: Control | None,
) -> Outcome:
    need_training_packages()
    loaded = load_pack(pack)
    from versemi.caselibrary import CaseLibrary
    from versemi.modelstore import ModelStore, default_folder

    # Before torch is imported, so that a wrong path is told at once.
    CaseLibrary.open(library)
    with _quiet():
        from versemi.learning.finetuning.run import finetune as run

        return run(
            library,
            loaded,
            out,
            minutes=minutes,
            prompts=prompts,
            method=method,
            store=ModelStore(store or default_folder()),
            device=device,
            tell=tell,
            control=control,
        )


def _for_programs(learn: Callable[[Callable[[News], None], Control | None], Outcome]) -> int:
    """The run with nothing but the protocol on stdout; returns the exit code."""
    from versemi.errors import VersemiError
    from versemi.learning.finetuning.door import Door
    from versemi.worker.server import take_pipes

    door = Door(*take_pipes(), lambda: os._exit(1))
    door.listen()
    try:
        outcome = learn(door.tell, door.control)
    except Exception as error:  # whatever it is, the program has to hear of it
        door.error(error)
        return 2 if isinstance(error, VersemiError) else 1
    from versemi.learning.finetuning.delivery import REPORT

    door.result(outcome, outcome.pack.path / REPORT, _sentence(outcome))
    return 0


def _sentence(outcome: Outcome) -> str:
    pack = outcome.pack
    return f"{pack.name}@{pack.version} is {outcome.state}. {outcome.reason}"


@contextmanager
def _bar() -> Iterator[Callable[[News], None]]:
    """Show a bar on stderr with what a run is doing, its loss and the Dice so far."""
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[numbers]}"),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    ) as bar:
        line = bar.add_task("Starting", total=1.0, numbers="")

        def tell(news: News) -> None:
            numbers = [] if news.loss is None else [f"loss {news.loss:.3f}"]
            numbers += [f"{prompt} {dice:.3f}" for prompt, dice in news.dice.items()]
            bar.update(
                line,
                completed=news.fraction,
                description=news.sentence,
                numbers=", ".join(numbers),
            )

        yield tell


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what Lightning says of itself from the progress."""
    # First, for its import sets a level of its own.
    import versemi.learning.trainer  # noqa: F401

    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning")
            yield
    finally:
        logger.setLevel(level)
