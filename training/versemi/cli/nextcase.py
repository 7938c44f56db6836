"""``versemi library next``: which case to correct next."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from versemi.cli.options import (
    Device,
    DeviceOption,
    JsonOption,
    PackOption,
    load_pack,
    output,
    progress_bar,
    result_table,
    say,
)


def next_case(
    library: Annotated[Path, typer.Argument(metavar="LIBRARY", help="Folder of the case library.")],
    task: Annotated[
        list[str] | None,
        typer.Option(
            "-t",
            "--task",
            metavar="PROMPT",
            help="What is to be learnt; give it again for more. By default every prompt of each"
            " scan's modality.",
        ),
    ] = None,
    pack: PackOption = None,
    count: Annotated[int, typer.Option("--count", min=1, help="How many cases to show.")] = 10,
    device: DeviceOption = Device.auto,
    json_file: JsonOption = None,
) -> None:
    """Say which unlabelled cases to correct next, and why.

    First come scans on which the model contradicts itself (**gap**: the prompts against
    *foreground*), is not sure (**doubt**), and that are unlike those with a label and those above
    (**novelty**). Each scan is looked at once for each model version.

    Examples:

    - versemi library next atria

    - versemi library next atria -t left_atrium --count 3 --json next.json
    """
    from versemi.caselibrary import CaseLibrary
    from versemi.export import check_folder, write_text
    from versemi.ranking import rank

    if json_file is not None:
        check_folder(json_file.parent)
    opened = CaseLibrary.open(library)
    loaded = load_pack(pack)
    with progress_bar() as report:
        found = rank(opened, loaded, task or (), device=device.value, progress=report)
    if json_file is not None:
        write_text(json.dumps(found.to_json(), indent=1, allow_nan=False) + "\n", json_file)
    table = result_table("Rank", "Case", "Doubt", "Gap", "Novelty", "Why")
    for row in found.cases[:count]:
        table.add_row(
            str(row.rank),
            row.case,
            _number(row.doubt),
            _number(row.gap),
            _number(row.novelty),
            escape(row.why),
        )
    output().print(table)
    more = len(found.cases) - count
    if more > 0:
        typer.echo(f"\n{more} more unlabelled cases come after these; --count shows more.")
    for sentence in found.left_out:
        say(f"Not ranked: {sentence}")
    if found.not_kept:
        say(f"Warning: what was measured cannot be kept for the next time: {found.not_kept}")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
