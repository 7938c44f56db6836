"""``versemi segment``: from scans to named segments."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

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
    from versemi.batch import Outcome, Question, Report
    from versemi.cases import Case
    from versemi.inference import Segmentation
    from versemi.modelpack import ModelPack

Tell = Callable[[float, str], None]

#: Of the command, where some scans failed and all others went well.
SOME_FAILED = 1


def segment(
    images: Annotated[
        list[Path],
        typer.Argument(
            metavar="IMAGE",
            help=(
                "NIfTI, NRRD or MetaImage files, folders, or lists (.txt, one path a line,"
                " relative to the list). A folder is taken by what lies in it: of a folder of"
                " image files, each is a scan; a folder of one DICOM series is one scan; of a"
                " folder of folders, each that holds DICOM is a scan."
            ),
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
        typer.Option("--modality", help="What the scans are, where their files do not say."),
    ] = None,
    series: Annotated[
        str | None,
        typer.Option("--series", metavar="UID", help="Which series of one mixed DICOM folder."),
    ] = None,
    uncertainty: Annotated[
        bool, typer.Option(help="Write a map of where the answer is uncertain.")
    ] = True,
    scheduler: Annotated[
        str | None,
        typer.Option(
            "--scheduler",
            metavar="ADDRESS",
            help=(
                "Hand the scans to a Dask cluster: tcp://HOST:PORT, or the scheduler's file"
                " (.json). All machines have to see images, pack and DIR under the same paths."
            ),
        ),
    ] = None,
) -> int:
    """Segment scans under one or more task prompts.

    Writes into DIR, named after the scan: a segmentation with names, colours and terminology for
    Slicer (**.seg.nrrd**), a NIfTI label map with the table of its labels, and an uncertainty
    map between 0 and 1. All of them lie on the scan's own grid.

    **Many scans**: one that fails does not stop the others. The table at the end, and
    segment_report.json and .csv in DIR, say what failed and why. Give the command again, and what
    is done is not done again: the same image, prompts, region and pack, and results that are
    there. Scans of the same name get that of the folder above in front (site1_ct, site2_ct),
    further ones where that is the same, too; a name that has results stays with its scan.

    Exit code: 0 where all went well, 1 where some of many scans failed, 2 where the command
    cannot be carried out as given (or its only scan cannot), 130 where it was interrupted.

    Examples:

    - versemi segment ct.nii.gz -t spleen -t pancreas -o out

    - versemi segment dicom_folder --all -o out

    - versemi segment t1.nrrd -t hippocampus_anterior --roi=-45,-12,-48,-2,-32,6 -o out

    - versemi segment folder_of_images more.txt -t spleen -o out --scheduler tcp://node1:8786
    """
    if all_tasks == bool(task):
        raise InputError(
            "Say what to segment: either -t PROMPT, once or more, or --all; 'versemi tasks' lists"
            " the prompts."
        )
    box = parse_roi(roi) if roi else None
    loaded = load_pack(pack)
    from versemi import batch, cases

    asked = batch.Question(
        tasks=tuple(known_prompts(loaded, task or [])),
        roi=box,
        modality=modality.value if modality else None,
        uncertainty=uncertainty,
    )
    if scheduler is None and cases.is_one_scan(images):
        _one(images[0], series, asked, loaded, device, output_folder)
        return 0
    if series is not None:
        raise InputError(
            "--series names one series of one DICOM folder; give that folder alone with it, and"
            " without --scheduler."
        )
    found = cases.find_images(images)
    cases.check_output(output_folder, images, found)
    for mixed in cases.mixed_folders(images):
        say(
            f"Warning: {mixed} holds images and DICOM; only the images are taken, so give the"
            " DICOM in a folder of its own."
        )
    folder = output_folder.absolute()
    return _many(_Many(batch.find_cases(found, folder), asked, loaded, device, folder), scheduler)


def _one(
    image: Path,
    series: str | None,
    question: Question,
    pack: ModelPack,
    device: Device,
    folder: Path,
) -> None:
    from versemi.batch import prompts_for, write_results
    from versemi.cases import stem_of
    from versemi.export import check_folder
    from versemi.images import read_image

    check_folder(folder)
    scan = read_image(image, series=series)
    for warning in scan.warnings:
        say(f"Warning: {warning}")
    prompts, modality, sentence = prompts_for(pack, scan, question)
    if sentence:
        say(sentence)
    segmenter = make_segmenter(pack, device)
    with progress_bar() as report:
        result = segmenter.segment(
            scan.image,
            prompts,
            roi=question.roi,
            modality=modality,
            progress=lambda fraction, message: report(0.9 * fraction, message),
        )
        report(0.9, "Writing the results")
        files = write_results(result, stem_of(image), folder, uncertainty=question.uncertainty)
    for warning in result.warnings:
        say(f"Warning: {warning}")
    _print(result, files)


def _print(result: Segmentation, files: list[Path]) -> None:
    table = result_table("Prompt", "Label", "Volume (ml)")
    for task in result.tasks:
        volume = result.volumes_ml[task.id]
        table.add_row(task.id, str(task.label), f"{volume:.2f}" if volume else "nothing found")
    output().print(table)
    typer.echo()
    for file in files:
        typer.echo(f"{file}")


@dataclass(frozen=True)
class _Many:
    """What a run over many scans is about; `folder` is absolute."""

    cases: list[Case]
    question: Question
    pack: ModelPack
    device: Device
    folder: Path


def _many(run: _Many, scheduler: str | None) -> int:
    """Do what is left to do, here or on a cluster, and report; returns the exit code."""
    from versemi.batch import FAILED, Report, find_done, pack_facts

    with ExitStack() as stack:
        client = None
        if scheduler is not None:
            from versemi import cluster

            client = stack.enter_context(cluster.connected(scheduler))
        facts = pack_facts(run.pack)
        report = Report(run.cases, run.question, facts, run.folder)
        left = []
        for case in run.cases:
            done = find_done(case, run.question, facts, run.folder)
            if done is None:
                left.append(case)
            else:
                report.add(done)
        # Before anything is computed, because the folder may not be writable.
        report.write()
        try:
            with progress_bar() as tell:
                if client is None:
                    outcomes = _here(run, left, tell)
                else:
                    if not client.scheduler_info()["workers"]:
                        say("The scheduler has no workers yet; waiting for the first.")
                    tell(0.0, f"Waiting for {len(left)} scans")
                    outcomes = cluster.segment_on_cluster(
                        client,
                        left,
                        run.question,
                        run.pack.path.absolute(),
                        facts,
                        run.folder,
                        run.device.value,
                    )
                for number, outcome in enumerate(outcomes, start=1):
                    report.add(outcome)
                    _tell_outcome(outcome, report)
                    if client is not None:
                        tell(number / len(left), f"{number} of {len(left)} scans")
        finally:
            report.write()
    failed = report.of(FAILED)
    _print_report(report, failed)
    return SOME_FAILED if failed else 0


def _here(run: _Many, left: list[Case], tell: Tell) -> Iterator[Outcome]:
    """One scan after the other; the model is loaded if there is one to do."""
    from versemi.batch import segment_case

    if not left:
        return
    segmenter = make_segmenter(run.pack, run.device)
    for number, case in enumerate(left):
        part = partial(_tell_part, tell, number, len(left), case.name)
        yield segment_case(case, run.question, segmenter, run.folder, part)


def _tell_part(
    tell: Tell, number: int, count: int, name: str, fraction: float, message: str
) -> None:
    tell((number + fraction) / count, f"{number + 1} of {count}, {name}: {message}")


def _tell_outcome(outcome: Outcome, report: Report) -> None:
    """A line for each scan, for those who look at a log."""
    for warning in outcome.warnings:
        say(f"Warning: {outcome.case}: {warning}")
    reason = f": {outcome.reason}" if outcome.reason else ""
    say(f"[{report.finished}/{len(report)}] {outcome.case} {outcome.status}{reason}")


def _print_report(report: Report, failed: list[Outcome]) -> None:
    if failed:
        table = result_table("Failed", "Why")
        for outcome in failed:
            # A file's name need not be UTF-8, and the terminal could not print it.
            row = (outcome.case, outcome.reason)
            table.add_row(*(Text(cell.encode("utf-8", "replace").decode()) for cell in row))
        output().print(table)
        typer.echo()
    typer.echo(f"{len(report)} scans: {report.summary}")
    for file in report.paths:
        typer.echo(f"{file}")
