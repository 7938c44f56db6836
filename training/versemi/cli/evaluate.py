"""``versemi evaluate``: how good a pack is on labelled cases."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from versemi.cli.options import (
    CasesOption,
    Device,
    DeviceOption,
    JsonOption,
    LabelsOption,
    PackOption,
    RoiOption,
    TasksOption,
    case_names,
    known_prompts,
    load_pack,
    make_segmenter,
    output,
    progress_bar,
    result_table,
    say,
    values_of,
)
from versemi.cli.regions import parse_roi


def evaluate(
    folder: Annotated[
        Path,
        typer.Argument(metavar="DIR", help="Holds imagesTr/ and labelsTr/ with the same names."),
    ],
    task: TasksOption,
    label: LabelsOption,
    cases: CasesOption = None,
    roi: RoiOption = None,
    pack: PackOption = None,
    device: DeviceOption = Device.auto,
    json_file: JsonOption = None,
) -> None:
    """Measure a model pack on labelled cases: Dice, Jaccard, and surface distances in mm.

    Every case of DIR that has a label is segmented whole and compared on its own grid. One pass
    serves all prompts. Where reference and answer are both empty, the case is left out of the
    means and counted; where only one is, Dice is 0.

    Examples:

    - versemi evaluate abdomen -t spleen --label 1 --json spleen.json

    - versemi evaluate abdomen -t spleen --label 1 -t pancreas --label 11 --cases held_out.txt
    """
    labels = values_of(task, label)
    box = parse_roi(roi) if roi else None
    loaded = load_pack(pack)
    known_prompts(loaded, task)
    from versemi import evaluation
    from versemi.export import check_folder

    if json_file is not None:
        check_folder(json_file.parent)
    found = evaluation.find_cases(folder, case_names(cases or []))
    segmenter = make_segmenter(loaded, device)
    with progress_bar() as report:
        result = evaluation.evaluate(segmenter, found, labels, roi=box, progress=report)
    for warning in result["warnings"]:
        say(f"Warning: {warning}")
    # First, for the disk may be full, and measuring takes hours.
    _print(result)
    if json_file is not None:
        evaluation.write_report(result, json_file)


def _print(result: Mapping[str, Any]) -> None:
    table = result_table("Prompt", "Dice", "Jaccard", "HD95 (mm)", "ASSD (mm)", "Cases", "Remarks")
    for task, summary in result["tasks"].items():
        counts = {
            "both empty": summary["both_empty"],
            "missed": summary["missed"],
            "false positive": summary["false_positive"],
        }
        remarks = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
        table.add_row(task, *_numbers(summary), str(summary["cases"]), remarks)
    if len(result["tasks"]) > 1:
        table.add_row("mean", *_numbers(result["mean"]), "", "")
    output().print(table)


def _numbers(summary: Mapping[str, Any]) -> list[str]:
    digits = {"dice": 3, "jaccard": 3, "hd95_mm": 2, "assd_mm": 2}
    return [
        "-" if summary[metric] is None else f"{summary[metric]:.{places}f}"
        for metric, places in digits.items()
    ]
