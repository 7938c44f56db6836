"""``versemi models``: the versions of the model on this machine, and which of them is in use."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from versemi.cli.options import (
    CasesOption,
    Device,
    DeviceOption,
    JsonOption,
    LabelsOption,
    RoiOption,
    TasksOption,
    case_names,
    make_segmenter,
    output,
    progress_bar,
    result_table,
    say,
    values_of,
)
from versemi.cli.regions import parse_roi

if TYPE_CHECKING:
    from versemi.modelstore import Entry, ModelStore

app = typer.Typer(
    help="The versions of the model: list, choose, compare, hand on.",
    rich_markup_mode="markdown",
)

StoreOption = Annotated[
    Path | None,
    typer.Option(
        "--store",
        metavar="DIR",
        help="Model store; by default VERSEMI_MODELS, else a folder of your own data.",
    ),
]
VersionArgument = Annotated[
    str,
    typer.Argument(metavar="NAME@VERSION", help="As 'versemi models list' says, or 'shipped'."),
]
_STATES = {
    "active": "active",
    "candidate": "available",
    "provisional": "provisional",
    "aside": "kept aside",
    "damaged": "damaged",
}


@app.command("list")
def list_models(store: StoreOption = None) -> None:
    """List all versions of the model, and what each can be used for.

    **Dice** is the mean over a version's prompts of what was measured on scans that it was not
    trained on. **Active** is what the other commands use where no --pack is named.
    """
    opened = _open(store)
    entries = opened.entries()
    table = result_table("Name", "Version", "Parent", "Date", "Dice", "Size", "State")
    for entry in entries:
        table.add_row(
            escape(entry.name),
            entry.version or "-",
            escape(entry.parent or "-"),
            entry.date or "-",
            "-" if entry.dice is None else f"{entry.dice:.3f}",
            f"{entry.size / 1e6:.1f} MB",
            escape(_state(entry)),
        )
    if entries:
        output().print(table)
    else:
        typer.echo(
            "There is no model yet, and none ships with this installation; 'versemi models import'"
            " takes one in."
        )
    output().print(f"\nModel store {opened.folder}", soft_wrap=True, markup=False)
    if not any(entry.active for entry in entries):
        chosen = opened.chosen()
        if chosen is not None:
            say(
                f"Warning: the active model {'@'.join(chosen)} is no longer in the store, so the"
                " one that ships answers; choose another with 'versemi models use'."
            )
    _mention_environment()


@app.command()
def use(version: VersionArgument, store: StoreOption = None) -> None:
    """Choose the version that answers from now on; all others stay.

    A version that is damaged or was kept aside is refused, and the one in use stays. **shipped**
    goes back to the model that came with the installation.

    Examples:

    - versemi models use atria@2

    - versemi models use shipped
    """
    opened = _open(store)
    entry = opened.find(version)
    chosen = (
        opened.activate_shipped() if entry.shipped else opened.activate(entry.name, entry.version)
    )
    typer.echo(f"{chosen.ref} is active.")
    if chosen.record.standing == "provisional":
        say(f"It is provisional{_because(chosen)}.")
    _mention_environment()


@app.command()
def compare(
    before: Annotated[
        str, typer.Argument(metavar="BEFORE", help="NAME@VERSION, 'shipped', or a pack's folder.")
    ],
    after: Annotated[str, typer.Argument(metavar="AFTER", help="The same.")],
    data: Annotated[
        Path,
        typer.Option(
            "--data", metavar="DIR", help="Holds imagesTr/ and labelsTr/ with the same names."
        ),
    ],
    task: TasksOption,
    label: LabelsOption,
    cases: CasesOption = None,
    roi: RoiOption = None,
    device: DeviceOption = Device.auto,
    json_file: JsonOption = None,
    pictures: Annotated[
        Path | None,
        typer.Option(
            "--pictures",
            metavar="DIR",
            help="Put a picture of each of the cases that changed most here. It shows the scan.",
        ),
    ] = None,
    store: StoreOption = None,
) -> None:
    """Compare two versions on labelled cases: Dice for each prompt and case, before and after.

    Means are over the cases in which both Dice are defined; where neither reference nor answer
    has anything, there is none. A prompt that only one version knows is measured with that one.

    Examples:

    - versemi models compare shipped atria@2 --data atria -t left_atrium --label 1

    - versemi models compare atria@1 atria@2 --data atria -t left_atrium --label 1 --cases
    held_out.txt --json change.json --pictures change
    """
    labels = values_of(task, label)
    box = parse_roi(roi) if roi else None
    opened = _open(store)
    from versemi.modelstore import find_pack

    packs = (find_pack(before, opened), find_pack(after, opened))
    from versemi import comparison, evaluation
    from versemi.export import check_folder

    # Before hours of measuring, and not after.
    for folder in (json_file.parent if json_file else None, pictures):
        if folder is not None:
            check_folder(folder)
    found = evaluation.find_cases(data, case_names(cases or []))
    with progress_bar() as report:
        result = comparison.compare(
            packs,
            found,
            labels,
            lambda pack: make_segmenter(pack, device),
            roi=box,
            pictures=pictures,
            progress=report,
        )
    for warning in result["warnings"]:
        say(f"Warning: {warning}")
    _print(result)
    if json_file is not None:
        evaluation.write_report(result, json_file)
    for path in result["pictures"]:
        output().print(path, soft_wrap=True, markup=False)
    if pictures is not None and not result["pictures"]:
        say("No case changed, so there is no picture.")


@app.command()
def export(
    version: VersionArgument,
    file: Annotated[Path, typer.Argument(metavar="FILE.zip", help="New file.")],
    store: StoreOption = None,
) -> None:
    """Write a version as one zip file, for another machine.

    It holds the weights, what describes them, and their licence; no scan, and nothing of the
    case library.
    """
    written = _open(store).export_zip(version, file)
    size = written.stat().st_size / 1e6
    output().print(f"{written}, {size:.1f} MB", soft_wrap=True, markup=False)


@app.command("import")
def import_model(
    file: Annotated[Path, typer.Argument(metavar="FILE.zip", help="From 'versemi models export'.")],
    store: StoreOption = None,
) -> None:
    """Take in a version from a zip file, once all its checksums are right.

    It becomes active only when you say so, and never takes the place of a version that is there.
    """
    entry = _open(store).import_zip(file)
    if entry.state == "aside":
        typer.echo(f"{entry.ref} was taken in; it is kept aside{_because(entry)}.")
    else:
        typer.echo(f"{entry.ref} was taken in; 'versemi models use {entry.ref}' makes it active.")


@app.command()
def join(
    pack: Annotated[Path, typer.Argument(metavar="PACK", help="What answers all other groups.")],
    other: Annotated[Path, typer.Argument(metavar="OTHER", help="What is to answer the group.")],
    group: Annotated[str, typer.Option("--group", help="Of both, such as lge_mr.")],
    version: Annotated[str, typer.Option("--version", help="Of the new pack.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder of the new pack.")],
) -> None:
    """Let one group of a pack be answered by another pack, which was trained for it alone.

    The other groups answer as before, but for the rounding of the weights, which are stored in
    eight bits.

    Example:

    - versemi models join base runs/atrium/pack --group lge_mr --version 2.0.0 --out joined
    """
    from versemi.learning.joining import join as run
    from versemi.modelstore import find_pack

    made = run(find_pack(pack), find_pack(other), group, out, version)
    say(f"Wrote the pack {made.path}: {group} has a network of its own, still to be measured.")


def _open(folder: Path | None) -> ModelStore:
    from versemi.modelstore import ModelStore, default_folder

    return ModelStore(folder or default_folder())


def _state(entry: Entry) -> str:
    words = [_STATES[entry.state]]
    if entry.active and entry.state != "active":
        words.insert(0, "active")
    if entry.state == "active" and entry.record.standing == "provisional":
        words.append("provisional")
    if entry.shipped:
        words.append("shipped")
    state = ", ".join(words)
    return f"{state}: {entry.reason}" if entry.reason else state


def _because(entry: Entry) -> str:
    return f" ({entry.reason.rstrip('.')})" if entry.reason else ""


def _mention_environment() -> None:
    if os.environ.get("VERSEMI_PACK"):
        say(
            "The environment variable VERSEMI_PACK is set, so the pack that it names answers,"
            " whatever is active."
        )


def _print(result: Mapping[str, Any]) -> None:
    console = output()
    for side in ("before", "after"):
        pack = result[side]
        console.print(f"{side}: {pack['name']} {pack['version']}", soft_wrap=True, markup=False)
    table = result_table("Prompt", "Case", "Before", "After", "Change", "Remarks")
    for prompt, summary in result["tasks"].items():
        for row in result["cases"]:
            if row["task"] == prompt:
                table.add_row(prompt, escape(row["case"]), *_numbers(row), _remark(row))
        counts = (f"{summary[what]} {what}" for what in ("better", "worse", "same"))
        table.add_row(prompt, "mean", *_numbers(summary), ", ".join(counts), style="bold")
    console.print(table)


def _numbers(row: Mapping[str, Any]) -> list[str]:
    change = "-" if row["change"] is None else f"{row['change']:+.3f}"
    return [*("-" if row[s] is None else f"{row[s]:.3f}" for s in ("before", "after")), change]


def _remark(row: Mapping[str, Any]) -> str:
    words = {
        "unknown_prompt": "not a prompt of it",
        "both_empty": "nothing there",
        "missed": "missed",
        "false_positive": "false positive",
    }
    remarks = [
        f"{side}: {words[row[f'{side}_outcome']]}"
        for side in ("before", "after")
        if row[f"{side}_outcome"] in words
    ]
    return ", ".join(remarks)
