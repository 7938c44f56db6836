"""Segments real scans through Slicer's MRML, as the module does, and shows what came out.

Run by ``make demo``. For each scan it writes the segmentation (``.seg.nrrd``, by MRML's own
storage), its export (a NIfTI label map with a label table) and a picture, and prints volumes,
overlap with a reference where there is one, and the seconds of each step.
"""

from __future__ import annotations

import argparse
import os
import shutil
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from run_scan import Runner, ScanReport
from scans import DemoScan, data_folder, demo_scans
from versemi.errors import VersemiError
from VerSemiSlicerLib.Errors import UserError


def main() -> int:
    """Run the demo; 2 where something that was given cannot be used."""
    arguments = _arguments()
    if arguments.pack is not None:
        os.environ["VERSEMI_PACK"] = str(arguments.pack.resolve())

    console = Console()
    # Absolute: MRML takes relative paths for parts of its scene folder.
    out: Path = arguments.out.resolve()
    try:
        runner = Runner(arguments.device)
    except (UserError, VersemiError) as error:
        console.print(f"[red]{error}[/]")
        return 2
    console.print(f"Model pack [bold]{runner.pack}[/], in a worker process of its own.")
    reports: list[ScanReport] = []
    try:
        for scan in demo_scans(out):
            if arguments.only and scan.name not in arguments.only:
                continue
            reports.append(_run(runner, scan, out, console))
            _show(reports[-1], console)
    except (UserError, VersemiError) as error:
        console.print(f"[red]{error}[/]")
        return 2
    finally:
        runner.close()
    if data_folder() is None:
        console.print("No research data here (VERSEMI_DATA): only the scan from the wheel was run.")
    if arguments.pictures is not None:
        arguments.pictures.mkdir(parents=True, exist_ok=True)
        for report in reports:
            # The research scans must not be passed on, nor pictures of them.
            if report.scan.reference is None:
                shutil.copy(report.picture, arguments.pictures)
    console.print(f"Everything is in [bold]{out}[/].")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("out/demo"), help="where results go")
    parser.add_argument("--pack", type=Path, help="model pack; the one that ships by default")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    parser.add_argument("--only", nargs="*", help="names of scans: mni152 left_atrium abdomen")
    parser.add_argument(
        "--pictures", type=Path, help="copy pictures of scans that may be shown to this folder"
    )
    return parser.parse_args()


def _run(runner: Runner, scan: DemoScan, out: Path, console: Console) -> ScanReport:
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    )
    with bar:
        task = bar.add_task(scan.title, total=1.0)

        def tell(fraction: float, sentence: str) -> None:
            bar.update(task, completed=fraction, description=sentence)

        return runner.run(scan, out, tell)


def _show(report: ScanReport, console: Console) -> None:
    console.print(f"\n[bold]{report.scan.title}[/]  {report.device}")
    for warning in report.warnings:
        console.print(f"[yellow]{warning}[/]")
    has_reference = report.scan.reference is not None
    table = Table("segment", box=None, header_style="dim")
    table.add_column("ml", justify="right")
    if has_reference:
        table.add_column("Dice", justify="right")
    for found in report.found:
        row = [found.name, f"{found.volume_ml:.1f}"]
        if has_reference:
            row.append("-" if found.dice is None else f"{found.dice:.3f}")
        table.add_row(*row)
    console.print(table)
    steps = Table("step", box=None, header_style="dim")
    steps.add_column("s", justify="right")
    for step, seconds in report.seconds.items():
        steps.add_row(step, f"{seconds:.2f}")
    console.print(steps)
    for path in report.files:
        console.print(f"  {path}", highlight=False)


if __name__ == "__main__":
    raise SystemExit(main())
