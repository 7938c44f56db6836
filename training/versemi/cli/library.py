"""``versemi library``: scans, corrections and unlabelled scans in one folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from versemi.cli.nextcase import next_case
from versemi.cli.options import Modality, output, result_table, say
from versemi.errors import InputError, VersemiError

if TYPE_CHECKING:
    import SimpleITK as sitk

    from versemi.caselibrary import Case, CaseLibrary

app = typer.Typer(
    help="Keep scans, corrections and unlabelled scans for learning.",
    rich_markup_mode="markdown",
)

LibraryArgument = Annotated[
    Path, typer.Argument(metavar="LIBRARY", help="Folder of the case library.")
]
_BACKGROUND = "background"


@app.command()
def add(
    library: Annotated[
        Path, typer.Argument(metavar="LIBRARY", help="Folder of the case library; made if new.")
    ],
    image: Annotated[
        list[Path],
        typer.Argument(
            metavar="IMAGE...", help="Scans: files, or folders of one DICOM series each."
        ),
    ],
    label: Annotated[
        list[Path] | None,
        typer.Option(
            "--label", metavar="MASK", help="Its label map; one for each IMAGE, in their order."
        ),
    ] = None,
    value_map: Annotated[
        list[str] | None,
        typer.Option(
            "--map",
            metavar="VALUE=PROMPT",
            help="What a value of the masks means; PROMPT may be 'background'.",
        ),
    ] = None,
    modality: Annotated[
        Modality | None,
        typer.Option("--modality", help="What the scans are, where their files do not say."),
    ] = None,
) -> None:
    """Add scans without a label, or with one, or a correction of a scan that is there.

    A scan is recognised by its voxels and their place. If it is there already, its mask becomes
    a new version of that case: the prompts of **--map** are taken from it, all others stay. A
    scan that cannot be added does not keep the others from being added.

    Examples:

    - versemi library add atria unlabelled/*.nii.gz

    - versemi library add atria scan.nrrd --label mask.nii.gz --map 1=left_atrium
    """
    masks = label or []
    meanings = _meanings(value_map or [])
    if masks and len(masks) != len(image):
        raise InputError(
            f"There are {len(image)} scans and {len(masks)} masks; give one --label for each"
            " IMAGE, in the same order, or none."
        )
    if bool(masks) != bool(meanings):
        raise InputError(
            "A mask and the meaning of its values belong together: give --label MASK and --map"
            " VALUE=PROMPT, such as --map 1=left_atrium."
        )
    from versemi.caselibrary import CaseLibrary

    opened = CaseLibrary.create(library)
    failed = []
    table = result_table("Case", "Name", "Modality", "Version", "Prompts")
    for index, path in enumerate(image):
        try:
            kind = modality.value if modality else None
            case = _add(opened, path, masks[index] if masks else None, meanings, kind)
        except VersemiError as error:
            if len(image) == 1:
                raise
            failed.append(path)
            say(f"{path}: {error}")
        else:
            table.add_row(*_row(case))
    if table.rows:
        output().print(table)
    if failed:
        raise InputError(
            f"{len(failed)} of {len(image)} scans were not added, for the reasons above; the"
            " others are in the library."
        )


@app.command("list")
def list_cases(library: LibraryArgument) -> None:
    """List the cases of a library."""
    from versemi.caselibrary import CaseLibrary

    opened = CaseLibrary.open(library)
    cases = opened.cases()
    if cases:
        table = result_table("Case", "Name", "Modality", "Version", "Prompts", "Parent")
        for case in cases:
            table.add_row(*_row(case), escape(case.parent or "-"))
        output().print(table)
    labelled = sum(case.version > 0 for case in cases)
    typer.echo(
        f"{len(cases)} cases, {labelled} with a label and {len(cases) - labelled} without"
        if cases
        else "The library has no cases yet; 'versemi library add' adds some."
    )
    _warn(opened)


@app.command()
def show(
    library: LibraryArgument,
    case: Annotated[str, typer.Argument(metavar="CASE", help="As 'versemi library list' says.")],
) -> None:
    """Show where a case's files are, and how its label came to be."""
    from versemi.caselibrary import CaseLibrary

    found = CaseLibrary.open(library).case(case)
    facts = {
        "Case": found.id,
        "Name": found.name,
        "Modality": found.modality,
        "Source": found.source or "-",
        "Image": str(found.image_path),
        "Label": str(found.label_path or "-"),
        "Prediction": str(found.predicted_path or "-"),
        "Digest": found.digest,
    }
    console = output()
    for fact, value in facts.items():
        console.print(f"{fact:<12}{value}", soft_wrap=True, markup=False)
    console.print()
    table = result_table("Version", "Time", "Reviewed", "Covered", "Parent")
    for entry in found.history:
        table.add_row(
            str(entry["version"]),
            entry["time"],
            ", ".join(entry["reviewed"]) or "-",
            ", ".join(entry["prompts"]) or "-",
            escape(entry["parent"] or "-"),
        )
    console.print(table)


@app.command()
def verify(
    library: LibraryArgument,
    report_only: Annotated[
        bool, typer.Option("--report-only", help="Say what is wrong, and change nothing.")
    ] = False,
) -> None:
    """Read every file of a library, and set aside what is damaged.

    A damaged case, or a file that belongs to no case, is moved into the library's folder
    **aside/** with a note that says why; nothing is deleted. The exit code is 2 where something
    was damaged.
    """
    from versemi.caselibrary import CaseLibrary

    opened = CaseLibrary.open(library)
    findings = opened.verify(set_aside=not report_only)
    for finding in findings:
        where = f" It was moved to {finding.aside}." if finding.aside else ""
        if finding.kind == "outdated" and not report_only:
            where = " They were written anew."
        case = f"case {finding.case}: " if finding.case else ""
        typer.echo(f"{finding.kind.capitalize()}: {case}{finding.problem}{where}")
    damaged = {finding.case for finding in findings if finding.kind == "damaged"}
    count = len(opened.cases())
    typer.echo(
        f"{count} cases are as they were written."
        if not damaged
        else f"{len(damaged)} cases were damaged; {count} cases can be used."
    )
    if damaged:
        raise typer.Exit(2)


@app.command()
def export(
    library: LibraryArgument,
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="New folder, such as Dataset101_Atrium.")
    ],
    task: Annotated[
        list[str] | None,
        typer.Option("-t", "--task", metavar="PROMPT", help="Only this; give it again for more."),
    ] = None,
    modality: Annotated[
        Modality | None,
        typer.Option("--modality", help="Which cases, where the library has CT and MR."),
    ] = None,
) -> None:
    """Write the labelled cases as a raw data set of nnU-Net v2.

    Where a case's label does not cover a prompt, the voxels that might be that structure carry
    nnU-Net's ignore label. MONAI reads the same **dataset.json**.
    """
    import json

    from versemi.caselibrary import CaseLibrary

    opened = CaseLibrary.open(library)
    kind = modality.value if modality else None
    written = opened.export_nnunet(folder, modality=kind, prompts=task or None)
    content = json.loads((written / "dataset.json").read_text(encoding="utf-8"))
    table = result_table("Label", "Value", "Cases")
    for name, value in content["labels"].items():
        table.add_row(name, str(value), _covering(name, content["training"]))
    output().print(table)
    typer.echo(f"\n{content['numTraining']} cases in {written}")
    if not _is_nnunet_name(written.name):
        say(
            f"nnU-Net wants a name like Dataset101_Atrium; rename {written.name} before you use it."
        )


app.command("next")(next_case)


def _add(
    library: CaseLibrary,
    path: Path,
    mask: Path | None,
    meanings: dict[int, str],
    modality: str | None,
) -> Case:
    from versemi.cases import stem_of
    from versemi.images import guess_modality, read_image, read_label_map

    scan = read_image(path)
    for warning in scan.warnings:
        say(f"Warning: {path}: {warning}")
    prompts = [prompt for prompt in dict.fromkeys(meanings.values()) if prompt != _BACKGROUND]
    kind = modality or scan.modality
    if kind is None:
        of_prompts = {library.tasks[p].modality for p in prompts if p in library.tasks}
        kind = of_prompts.pop() if len(of_prompts) == 1 else guess_modality(scan.image)
    labels = None
    if mask is not None:
        labels = _translate(read_label_map(mask), mask, meanings, library)
    return library.add(
        scan.image,
        name=stem_of(path),
        modality=kind,
        labels=labels,
        prompts=prompts,
        source=str(path.resolve()),
    )


def _meanings(given: Sequence[str]) -> dict[int, str]:
    """What each value of a mask means."""
    meanings: dict[int, str] = {}
    for entry in given:
        value, _, prompt = entry.partition("=")
        if not value.strip().isdecimal() or int(value) == 0 or not prompt.strip():
            raise InputError(
                f"--map {entry} is not understood; write VALUE=PROMPT with a value above 0, such"
                " as --map 1=left_atrium."
            )
        if meanings.setdefault(int(value), prompt.strip()) != prompt.strip():
            raise InputError(f"--map gives the value {int(value)} two meanings; give it one.")
    if meanings and set(meanings.values()) == {_BACKGROUND}:
        raise InputError("--map names no prompt; say which value is one, such as 1=left_atrium.")
    return meanings


def _translate(
    mask: sitk.Image, path: Path, meanings: dict[int, str], library: CaseLibrary
) -> sitk.Image:
    """The mask with the label values of the prompts."""
    import numpy as np
    import SimpleITK as sitk

    tasks = library.tasks
    values = sitk.GetArrayViewFromImage(mask)
    translated = np.zeros(values.shape, np.uint16)
    explained = values == 0
    for value, prompt in meanings.items():
        here = values == value
        explained |= here
        if prompt in tasks:
            translated[here] = tasks[prompt].label
    if not explained.all():
        value = values[~explained].flat[0]
        raise InputError(
            f"{path.name} has the value {value:g}, whose meaning is not given; add --map"
            f" {value:g}=PROMPT, or --map {value:g}={_BACKGROUND} if it is to be left out."
        )
    labels = sitk.GetImageFromArray(translated)
    labels.CopyInformation(mask)
    return labels


def _row(case: Case) -> tuple[str, ...]:
    version = str(case.version) if case.version else "unlabelled"
    # Square brackets in a name are no markup.
    name = escape(case.name)
    return case.id, name, case.modality, version, ", ".join(case.prompts) or "-"


def _covering(name: str, training: Sequence[dict[str, Any]]) -> str:
    count = sum(name in entry["prompts"] for entry in training)
    return str(count) if count else ""


def _is_nnunet_name(name: str) -> bool:
    import re

    return re.fullmatch(r"Dataset\d{3}_\w+", name) is not None


def _warn(library: CaseLibrary) -> None:
    """Tell of cases that are not shown."""
    _, damaged = library.scan()
    if damaged:
        say(
            f"Warning: {len(damaged)} damaged cases are not shown ({', '.join(damaged)}); run"
            f" 'versemi library verify {library.folder}'."
        )
