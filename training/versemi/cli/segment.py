"""``versemi segment``: from a scan to named segments."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from versemi.cli.options import (
    Device,
    DeviceOption,
    Modality,
    PackOption,
    RoiOption,
    known_prompts,
    load_pack,
    make_segmenter,
    output,
    progress_bar,
    result_table,
    say,
)
from versemi.cli.regions import parse_roi
from versemi.errors import InputError

if TYPE_CHECKING:
    from versemi.images import ScanFile
    from versemi.inference import Segmentation
    from versemi.modelpack import ModelPack


def segment(
    image: Annotated[
        Path,
        typer.Argument(
            metavar="IMAGE", help="NIfTI, NRRD or MetaImage file, or a folder of one DICOM series."
        ),
    ],
    output_folder: Annotated[
        Path,
        typer.Option("-o", "--output", metavar="DIR", help="Folder for the results; made if new."),
    ],
    task: Annotated[
        list[str] | None,
        typer.Option(
            "-t", "--task", metavar="PROMPT", help="What to segment; give it again for more."
        ),
    ] = None,
    all_tasks: Annotated[
        bool, typer.Option("--all", help="Every prompt of the pack for the scan's modality.")
    ] = False,
    roi: RoiOption = None,
    pack: PackOption = None,
    device: DeviceOption = Device.auto,
    modality: Annotated[
        Modality | None,
        typer.Option("--modality", help="What the scan is, where its file does not say."),
    ] = None,
    series: Annotated[
        str | None,
        typer.Option("--series", metavar="UID", help="Which series of a mixed DICOM folder."),
    ] = None,
    uncertainty: Annotated[
        bool, typer.Option(help="Write a map of where the answer is uncertain.")
    ] = True,
) -> None:
    """Segment a scan under one or more task prompts.

    Writes into DIR, named after the scan: a segmentation with names, colours and terminology for
    Slicer (**.seg.nrrd**), a NIfTI label map with the table of its labels, and an uncertainty
    map between 0 and 1. All of them lie on the scan's own grid.

    Examples:

    - versemi segment ct.nii.gz -t spleen -t pancreas -o out

    - versemi segment dicom_folder --all -o out

    - versemi segment t1.nrrd -t hippocampus_anterior --roi=-45,-12,-48,-2,-32,6 -o out
    """
    if all_tasks == bool(task):
        raise InputError(
            "Say what to segment: either -t PROMPT, once or more, or --all; 'versemi tasks' lists"
            " the prompts."
        )
    box = parse_roi(roi) if roi else None
    loaded = load_pack(pack)
    from versemi.images import read_image

    asked = [] if all_tasks else known_prompts(loaded, task or [])
    scan = read_image(image, series=series)
    for warning in scan.warnings:
        say(f"Warning: {warning}")
    kind = modality.value if modality else scan.modality
    if all_tasks:
        asked, kind = _all_for(loaded, scan, kind)
    segmenter = make_segmenter(loaded, device)
    with progress_bar() as report:
        result = segmenter.segment(
            scan.image,
            asked,
            roi=box,
            modality=kind,
            progress=lambda fraction, message: report(0.9 * fraction, message),
        )
        report(0.9, "Writing the results")
        files = _write(result, scan, output_folder, uncertainty)
    for warning in result.warnings:
        say(f"Warning: {warning}")
    _print(result, files)


def _all_for(pack: ModelPack, scan: ScanFile, modality: str | None) -> tuple[list[str], str]:
    """Every prompt of the pack for the scan's modality, and that modality."""
    from versemi.images import guess_modality

    how = ""
    if modality is None:
        modality = guess_modality(scan.image)
        how = " (guessed from the intensities; --modality says otherwise)"
    tasks = [task for task in pack.tasks if task.modality == modality]
    if not tasks:
        raise InputError(
            f"The pack {pack.name} has no prompts for {modality}; choose another pack, or say what"
            " the scan is with --modality."
        )
    groups = ", ".join(dict.fromkeys(task.group for task in tasks))
    say(f"The scan is {modality}{how}: {len(tasks)} prompts of the group {groups}")
    return [task.id for task in tasks], modality


def _write(result: Segmentation, scan: ScanFile, folder: Path, uncertainty: bool) -> list[Path]:
    """Write all files, named after the scan, and return their paths."""
    from versemi.export import write_label_map, write_segmentation, write_volume
    from versemi.headers import image_suffix

    name = scan.path.resolve().name
    stem = name if scan.path.is_dir() else name[: len(name) - len(image_suffix(scan.path))]
    files = [
        write_segmentation(result.label_map, result.tasks, folder / f"{stem}.seg.nrrd"),
        *write_label_map(result.label_map, result.tasks, folder / f"{stem}_label_map.nii.gz"),
    ]
    if uncertainty:
        files.append(write_volume(result.uncertainty(), folder / f"{stem}_uncertainty.nii.gz"))
    return files


def _print(result: Segmentation, files: list[Path]) -> None:
    table = result_table("Prompt", "Label", "Volume (ml)")
    for task in result.tasks:
        volume = result.volumes_ml[task.id]
        table.add_row(task.id, str(task.label), f"{volume:.2f}" if volume else "nothing found")
    output().print(table)
    typer.echo()
    for file in files:
        typer.echo(f"{file}")
