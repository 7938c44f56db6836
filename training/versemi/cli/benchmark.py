"""``versemi benchmark``: VerSemi and its rivals on a protocol, and the page about them."""

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
    Scale,
    ScaleOption,
    output,
    result_table,
    say,
)
from versemi.cli.train import need_training_packages
from versemi.errors import InputError


def benchmark(
    protocol: Annotated[
        Path, typer.Option("--protocol", metavar="FILE", help="Tasks and cases, in JSON.")
    ],
    out: RunsOption,
    docs: DocsOption = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            "--only",
            metavar="NAME",
            help="Only these configurations, such as 10-versemi-0; give it again for more.",
        ),
    ] = None,
    report: ReportOption = False,
    scale: ScaleOption = Scale.processor,
    split: Annotated[
        int | None,
        typer.Option(
            "--split",
            metavar="SEED",
            help="Measure on cases split off the pool with this seed, for making choices.",
        ),
    ] = None,
    cache: Annotated[
        Path | None,
        typer.Option("--cache", metavar="DIR", help="Prepared scans; by default OUT/prepared."),
    ] = None,
    device: DeviceOption = Device.auto,
) -> None:
    """Train and measure VerSemi and its rivals; a benchmark that was stopped goes on where it was.

    First every method with 10% of the labels, then VerSemi without each of its parts (with those
    that the scale leaves out), two more seeds of VerSemi and of the strongest rival, 20% of the
    labels, and two more seeds without a part that cost with the first. The page is written anew
    after every configuration, and what stands in its benchmark.json is not run again, so another
    machine can go on where this one stopped. Each scale wants a folder of its own for its runs.

    Examples:

    - versemi benchmark --protocol versemi4.json --out runs/benchmark --docs docs

    - versemi benchmark --protocol versemi4.json --out runs/benchmark --docs docs --report
    """
    need_training_packages()
    from versemi.learning.benchmark.execution import RESULT, execute, mean_dice
    from versemi.learning.benchmark.plan import (
        RIVALS,
        Configuration,
        doubted,
        everything,
        first_round,
        strongest_rival,
        whole_plan,
    )
    from versemi.learning.benchmark.report import published, write_report
    from versemi.learning.protocol import Protocol, left_out_by, scale_settings, write_split

    loaded = Protocol.load(protocol)
    if split is not None:
        path = write_split(loaded, split, out / f"{loaded.name}-split{split}.json")
        loaded = Protocol.load(path).beside(loaded.folder)
    settings = scale_settings(scale.value)
    left_out = left_out_by(settings)
    every = everything(left_out)
    names = {c.folder for c in every}
    for name in only or []:
        if name not in names:
            raise InputError(
                f"There is no configuration {name}; there are {', '.join(sorted(names))}."
            )
    before = {
        Configuration.of(result).folder: result
        for result in published(loaded, scale.value, docs or out)
    }
    results: dict[str, dict[str, Any]] = {}

    def done(name: str) -> bool:
        return name in before or (out / name / RESULT).is_file()

    def go(plan: list[Configuration]) -> None:
        for configuration in plan:
            name = configuration.folder
            if name in results or (only and name not in only and not done(name)):
                continue
            if report and not done(name):
                continue
            results[name] = before.get(name) or execute(
                loaded,
                configuration,
                out,
                scale=settings,
                cache=cache or out / "prepared",
                device=device.value,
                tell=say,
            )
            kept = list(results.values())
            write_report(loaded, kept, scale.value, docs or out)

    def measured() -> list[tuple[Configuration, float]]:
        means = [(Configuration.of(result), mean_dice(result)) for result in results.values()]
        return [(c, mean) for c, mean in means if mean is not None]

    go(first_round())
    wanted = set(only or ())
    if any(c.method in RIVALS for c, _ in measured()):
        go(whole_plan(strongest_rival(measured()), left_out))
        wanted.update(c.folder for c in doubted(measured(), left_out))
    go([c for c in every if c.folder in wanted or done(c.folder)])
    if not results:
        raise InputError(f"There is no finished configuration in {out}; run it without --report.")
    table = result_table("Configuration", "Mean Dice")
    for name, result in results.items():
        mean = mean_dice(result)
        table.add_row(name, "-" if mean is None else f"{mean:.4f}")
    output().print(table)
