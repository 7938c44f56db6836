"""The command line. A command is a file; what computes is imported when a command runs.

``versemi --help`` has to answer at once, so no file of this package imports numpy, SimpleITK or
torch at its top.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Sequence
from typing import Any

import typer

from versemi.cli import (
    benchmark,
    evaluate,
    finetune,
    library,
    models,
    segment,
    simulate,
    tasks,
    train,
)
from versemi.errors import VersemiError

app = typer.Typer(
    name="versemi",
    help=(
        "Segment scans under task prompts, and measure how well that went.\n\n"
        "Start with **versemi tasks** to see what can be asked for, then"
        " **versemi segment scan.nii.gz -t spleen -o out**. Everything runs on this machine."
    ),
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(tasks.app, name="tasks")
app.command("segment")(segment.segment)
app.command("evaluate")(evaluate.evaluate)
app.command("train")(train.train)
app.command("measure")(train.measure)
app.command("finetune")(finetune.finetune)
app.command("benchmark")(benchmark.benchmark)
app.command("simulate")(simulate.simulate)
app.add_typer(library.app, name="library")
app.add_typer(models.app, name="models")


#: Base of what is wrong with a command line; typer brings click along under varying names.
_ClickError: Any = typer.BadParameter.__mro__[2]
_INTERRUPTED = 130
_NO_ROOM = (errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; bad input is one sentence on stderr and exit code 2.

    Args:
        arguments: without the program's name; those of the process where None.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        sys.exit(app(given or ["--help"], prog_name="versemi", standalone_mode=False) or 0)
    except VersemiError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    except _ClickError as error:
        command = error.ctx.command_path if error.ctx else "versemi"
        message = error.format_message().rstrip(".")
        print(f"{message}; see '{command} --help'.", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        # Logs and pictures are written by libraries, which do not know our sentences.
        if error.errno not in _NO_ROOM:
            raise
        place = f" in writing {error.filename}" if error.filename else ""
        print(
            f"The disk or quota is full{place}; make room and give the command again.",
            file=sys.stderr,
        )
        sys.exit(2)
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(_INTERRUPTED)
