"""``versemi tasks``: what can be asked for, and ``versemi tasks add``, one more prompt."""

from __future__ import annotations

import re
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from versemi.cli.options import Modality, PackOption, load_pack, output, result_table, say
from versemi.errors import InputError

if TYPE_CHECKING:
    from versemi.modelpack import ModelPack
    from versemi.tasks import Code

app = typer.Typer(rich_markup_mode="markdown")


class Keep(str, Enum):
    """Which parts of an answer are kept."""

    all = "all"
    largest = "largest"


@app.callback(invoke_without_command=True)
def tasks(context: typer.Context, pack: PackOption = None) -> None:
    """List the task prompts that a model pack knows, or add one.

    The identifiers in the first column are what **-t** takes. Prompts of one group are
    answered by one pass, so that asking for all of them takes little longer than asking for one.
    Dice is the pack's mean on cases that it was not trained on, where that was measured.
    """
    if context.invoked_subcommand:
        return
    loaded = load_pack(pack)
    columns = ("Prompt", "Name", "Label", "Modality", "Group", "Region", "Dice", "SNOMED CT")
    table = result_table(*columns)
    notes = []
    for prompt in loaded.manifest.prompts:
        task = prompt.task
        code = f"{task.type.value} {task.type.meaning}"
        if task.modifier:
            code += f", {task.modifier.meaning.lower()}"
        if task.note:
            notes.append(f"{task.id}: {task.note}")
            code += " *"
        dice = "-" if prompt.dice is None else f"{prompt.dice:.3f}"
        words = (task.name, str(task.label), task.modality, task.group, task.region, dice, code)
        table.add_row(task.id, *words)
    console = output()
    console.print(table)
    console.print(f"\nPack {loaded.name} {loaded.version}, {loaded.path}", soft_wrap=True)
    for note in notes:
        console.print(f"* {note}", soft_wrap=True)


@app.command("add")
def add(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Shown to people, such as 'Thymus'.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder of the new pack.")],
    terminology: Annotated[
        str,
        typer.Option(
            "--terminology",
            metavar="CODES",
            help="Category, type and, where there is one, modifier as scheme^value^meaning joined"
            " by ~; an entry copied from Slicer's terminology tag is understood too.",
        ),
    ],
    modality: Annotated[Modality, typer.Option("--modality", help="What its scans are.")],
    color: Annotated[
        str, typer.Option("--color", metavar="#RRGGBB", help="For display.")
    ] = "#E0C040",
    group: Annotated[
        str | None,
        typer.Option("--group", help="Group as which its scans are prepared; needed for MR."),
    ] = None,
    like: Annotated[
        str | None,
        typer.Option(
            "--like",
            metavar="PROMPT",
            help="What it starts from, or 'nothing'; by default foreground, where the pack has it.",
        ),
    ] = None,
    keep: Annotated[
        Keep, typer.Option("--keep", help="Of its answers: all parts, or the largest alone.")
    ] = Keep.all,
    pack: PackOption = None,
) -> None:
    """Give a pack one more prompt, which is then to be taught from a few corrected cases.

    The old prompts answer as before, and go on doing so when the new one has been taught: it is a
    group of its own, and gets a network of its own when it learns.

    Example:

    - versemi tasks add Thymus --terminology "SCT^123037004^Anatomical
      Structure~SCT^9875009^Thymus" --modality CT --out packs/thymus
    """
    loaded = load_pack(pack)
    codes = _codes(terminology)
    shown = _color(color)
    chosen = _group(loaded, modality.value, group)
    from versemi.learning.newprompt import add_prompt, free_label
    from versemi.tasks import Task, own_group

    identifier = _identifier(name)
    task = Task(
        id=identifier,
        name=name.strip(),
        label=free_label([t.label for t in loaded.tasks]),
        category=codes[0],
        type=codes[1],
        color=shown,
        modality=modality.value,
        group=own_group(chosen, identifier),
        region="own",
        modifier=codes[2] if len(codes) > 2 else None,
    )
    made = add_prompt(loaded, task, out, beside=chosen, like=like, keep=keep.value)
    say(f"Wrote the pack {made.path}: {task.id}, label {task.label}, still to be taught.")


def _identifier(name: str) -> str:
    words = re.findall(r"[a-z0-9]+", name.lower())
    if not words or not words[0][0].isalpha():
        raise InputError(
            f"The name {name!r} gives no identifier; use letters and digits, a letter first."
        )
    return "_".join(words)


def _codes(terminology: str) -> list[Code]:
    """Category, type and perhaps modifier."""
    from versemi.tasks import Code

    parts = terminology.split("~")
    if "^" not in parts[0]:
        parts = parts[1:]
    codes = []
    for part in parts[:3]:
        pieces = [piece.strip() for piece in part.split("^")]
        if len(pieces) != 3:
            raise InputError(f"The code {part!r} is not of the form scheme^value^meaning.")
        if all(pieces):
            codes.append(Code(value=pieces[1], meaning=pieces[2], scheme=pieces[0]))
    if len(codes) < 2:
        raise InputError(
            f"The terminology {terminology!r} needs a category and a type, such as"
            " 'SCT^123037004^Anatomical Structure~SCT^9875009^Thymus'."
        )
    return codes


def _color(text: str) -> tuple[int, int, int]:
    if not re.fullmatch(r"#[0-9a-fA-F]{6}", text):
        raise InputError(f"The colour {text!r} is not of the form #RRGGBB, such as #E0C040.")
    red, green, blue = (int(text[i : i + 2], 16) for i in (1, 3, 5))
    return red, green, blue


def _group(pack: ModelPack, modality: str, asked: str | None) -> str:
    groups = sorted({task.group for task in pack.tasks if task.modality == modality})
    # A group with a coarse pass looks at whole scans; it suits whatever may be added.
    usual = [group for group in groups if pack.manifest.groups[group].coarse] or groups
    if asked is None and len(usual) == 1:
        return usual[0]
    if asked is None or asked not in groups:
        known = ", ".join(groups) or "none"
        raise InputError(
            f"Say with --group which group prepares the scans; the pack has {known} for {modality}."
        )
    return asked
