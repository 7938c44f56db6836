"""What the commands share: options, where their words go, and progress."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from versemi.errors import InputError

if TYPE_CHECKING:
    from versemi.inference import Segmenter
    from versemi.modelpack import ModelPack

#: Tables in a pipe or file are not squeezed into the 80 columns that rich assumes there.
_PIPE_WIDTH = 160


class Device(str, Enum):
    """Where to compute."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"
    mps = "mps"


class Scale(str, Enum):
    """How large the runs of a benchmark are."""

    processor = "processor"
    fine = "fine"
    full = "full"


class Modality(str, Enum):
    """What kind of scan an image is."""

    CT = "CT"
    MR = "MR"


PackOption = Annotated[
    Path | None,
    typer.Option(
        "--pack",
        metavar="DIR|NAME@VERSION",
        help=(
            "Model pack: its folder, or one that 'versemi models list' shows; by default the"
            " active one."
        ),
    ),
]
TasksOption = Annotated[
    list[str],
    typer.Option("-t", "--task", metavar="PROMPT", help="What to measure; give it again for more."),
]
LabelsOption = Annotated[
    list[int],
    typer.Option("--label", metavar="VALUE", help="Its value in the label maps; one for each -t."),
]
CasesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--cases",
        metavar="NAME|FILE",
        help="Only these: a case's name, or a file with a name a line or a JSON list.",
    ),
]
JsonOption = Annotated[
    Path | None, typer.Option("--json", metavar="FILE", help="Write everything here.")
]
ScaleOption = Annotated[
    Scale,
    typer.Option(
        "--scale",
        help="Of the protocol's runs: coarse scans; the same with finer atria and a network for"
        " each group of prompts; or fine scans and a larger network, for a GPU.",
    ),
]
RunsOption = Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder of all runs.")]
DocsOption = Annotated[
    Path | None,
    typer.Option("--docs", metavar="DIR", help="Write the page here; by default into OUT."),
]
ReportOption = Annotated[
    bool, typer.Option("--report", help="Run nothing; write the page about what is there.")
]
DeviceOption = Annotated[
    Device, typer.Option("--device", help="Where to compute; auto takes the fastest there is.")
]
RoiOption = Annotated[
    str | None,
    typer.Option(
        "--roi",
        metavar="BOX",
        help=(
            "Look only inside a box: six RAS bounds in mm as r0,r1,a0,a1,s0,s1, or a markups ROI"
            " saved by Slicer (.mrk.json), which may be oblique."
        ),
    ),
]


def output() -> Console:
    """Results go to stdout."""
    return Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH, highlight=False)


def result_table(*columns: str) -> Table:
    """A table that begins in the first column and can be read by a script, too."""
    return Table(*columns, box=None, pad_edge=False)


def say(sentence: str) -> None:
    """Tell something beside the results, on stderr, as one line whatever its length."""
    typer.echo(sentence, err=True)


def load_pack(path: Path | None) -> ModelPack:
    """Load a pack's manifest: of a folder or ``NAME@VERSION``, or of the active pack."""
    from versemi.modelstore import active_pack, find_pack

    if path is not None:
        return find_pack(path)
    pack, warning = active_pack()
    if warning:
        say(f"Warning: {warning}")
    return pack


def values_of(tasks: Sequence[str], labels: Sequence[int]) -> dict[str, int]:
    """The value of each prompt in the label maps, from as many -t as --label.

    Raises:
        InputError: their numbers differ, or a prompt is given twice.
    """
    if len(tasks) != len(labels):
        raise InputError(
            f"There are {len(tasks)} prompts and {len(labels)} label values; give one --label for"
            " each -t, in the same order."
        )
    if len(set(tasks)) != len(tasks):
        raise InputError("A prompt is given twice; give each -t once.")
    return dict(zip(tasks, labels, strict=True))


def case_names(given: Sequence[str]) -> list[str]:
    """Names as given, with files replaced by the names in them.

    Raises:
        InputError: a file is no list of names.
    """
    names: list[str] = []
    for entry in given:
        path = Path(entry)
        if not path.is_file():
            names.append(entry)
            continue
        try:
            text = path.read_text(encoding="utf-8")
            listed = json.loads(text) if text.lstrip().startswith("[") else text.split("\n")
            names += [name.strip() for name in listed if name.strip()]
        except (OSError, ValueError, AttributeError):
            raise InputError(
                f"{path} is not a list of cases; write one name a line, or a JSON list of names."
            ) from None
    return list(dict.fromkeys(names))


def make_segmenter(pack: ModelPack, device: Device) -> Segmenter:
    """Build the network; this is what takes the first seconds."""
    say(f"Loading {pack.name} {pack.version}")
    from versemi.inference import Segmenter

    return Segmenter(pack, device=device.value)


def known_prompts(pack: ModelPack, asked: Sequence[str]) -> list[str]:
    """Return the asked prompts, each once.

    Raises:
        InputError: the pack lacks one; told before the scan is read and torch is imported.
    """
    for id in asked:
        pack.settings(id)
    return list(dict.fromkeys(asked))


@contextmanager
def progress_bar() -> Iterator[Callable[[float, str], None]]:
    """Show a bar on stderr; gives a function that takes a fraction and a sentence."""
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    ) as bar:
        line = bar.add_task("Starting", total=1.0)

        def report(fraction: float, message: str) -> None:
            bar.update(line, completed=fraction, description=message)

        yield report
