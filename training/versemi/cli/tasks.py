"""``versemi tasks``: what can be asked for."""

from __future__ import annotations

from versemi.cli.options import PackOption, load_pack, output, result_table


def tasks(pack: PackOption = None) -> None:
    """List the task prompts that a model pack knows.

    The identifiers in the first column are what **-t** takes. Prompts of one group are
    answered by one pass, so that asking for all of them takes little longer than asking for one.
    Dice is the pack's mean on cases that it was not trained on, where that was measured.
    """
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
