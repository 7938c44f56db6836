"""``versemi simulate``: the learning loop on real scans, with a simulated user, and its page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from versemi.cli.options import (
    Device,
    DeviceOption,
    DocsOption,
    ReportOption,
    RunsOption,
    output,
    result_table,
    say,
)
from versemi.cli.train import need_training_packages
from versemi.errors import InputError


def simulate(
    data: Annotated[
        Path,
        typer.Option("--data", metavar="DIR", help="Folder of the data sets and the protocol."),
    ],
    out: RunsOption,
    docs: DocsOption = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            "--only",
            metavar="NAME",
            help="Only this story, such as shift, or this run, such as shift-versemi-4; give it"
            " again for more.",
        ),
    ] = None,
    report: ReportOption = False,
    device: DeviceOption = Device.auto,
) -> None:
    """Let a simulated user correct scans and a pack learn from them, and measure what it learnt.

    In the story **shift** the scans of an old prompt look different from one day on, in
    **new-prompt** a pack gets a prompt that it was never taught. The page is written anew after
    every run, and what stands in its learning.json is not run again, so another machine can go on
    where this one stopped, with the folder of the base pack.

    Examples:

    - versemi simulate --data datasets --out runs/learning --docs docs

    - versemi simulate --data datasets --out runs/learning --docs docs --only shift-versemi-4
    """
    need_training_packages()
    from versemi.learning.simulation.plan import chosen, whole_plan
    from versemi.learning.simulation.report import published, write_report
    from versemi.learning.simulation.settings import load_settings

    settings = load_settings()
    wanted = {run.name for run in chosen(settings, only or [])}
    page = docs or out
    results: dict[str, dict[str, Any]] = {r["run"]: r for r in published(settings, page)}

    from versemi.learning.simulation.execution import SETTINGS, check_folder_of, execute, finished
    from versemi.learning.simulation.learners import Engine
    from versemi.learning.simulation.stories import tell

    stories = {}
    if not report:
        # Told before the first run, not hours later.
        names = {run.story for run in whole_plan(settings) if run.name in wanted}
        stories = {name: tell(settings, name, data) for name in sorted(names)}
    if not report or (out / SETTINGS).is_file():
        check_folder_of(settings, out)
    for run in whole_plan(settings):
        known = None if run.name in results else finished(run, out)
        if known is not None:
            results[run.name] = known
    if results:
        write_report(settings, list(results.values()), page)
    elif report:
        raise InputError(f"There is no finished run in {out}; give the command without --report.")
    learner = Engine(settings, out / "prepared", device.value, say)
    for run in () if report else whole_plan(settings):
        if run.name in results or run.name not in wanted:
            continue
        begun = (r["base"] for r in results.values() if r["story"] == run.story)
        results[run.name] = execute(
            run,
            stories[run.story],
            settings,
            out,
            learner,
            base=next(filter(None, begun), None),
            tell=say,
        )
        write_report(settings, list(results.values()), page)
    table = result_table("Run", "Dice", "Gate")
    from versemi.learning.simulation.numbers import mean_dice

    for name, result in results.items():
        mean = mean_dice(result)
        table.add_row(name, "-" if mean is None else f"{mean:.4f}", result["state"])
    output().print(table)
