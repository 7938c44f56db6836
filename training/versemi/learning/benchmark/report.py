"""From results to a page: tables, plots, JSON and every case in a CSV; one page for each scale."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from versemi.errors import InputError
from versemi.evaluation import METRICS, RULE, mean_of_known
from versemi.export import write_text
from versemi.learning.benchmark import plots
from versemi.learning.benchmark.execution import mean_dice, task_mean, tasks_of
from versemi.learning.benchmark.plan import Configuration
from versemi.learning.benchmark.progress import course, seconds_to
from versemi.learning.benchmark.verdicts import targets, worth
from versemi.learning.protocol import SCALES, Protocol, scale_settings
from versemi.tasks import get_task

Result = dict[str, Any]
_TITLES = {"dice": "Dice", "jaccard": "Jaccard", "hd95_mm": "HD95 (mm)", "assd_mm": "ASD (mm)"}
_SHARES = ("dice", "jaccard")
_CHANCE = (
    "Each part against a run of the same seed. How far the seeds of `by default` lie apart is what "
    "chance does: a part that is worth less has not been shown to be worth anything. What lives on "
    "a part that the default leaves out is compared with a run that has that part."
)
#: Written by hand; the pages name it where it lies beside.
TRIED = "benchmark-tried.md"


def write_report(protocol: Protocol, results: Sequence[Result], scale: str, docs: Path) -> Path:
    """Write ``benchmark.md``, ``.json``, ``-cases.csv`` and plots, under the names of the scale.

    Args:
        protocol: what was measured.
        results: of :func:`versemi.learning.benchmark.execution.execute`, at least one.
        scale: one of :data:`versemi.learning.protocol.SCALES`.
        docs: folder that gets the files.

    Returns:
        The page.

    Raises:
        OutputError: a file cannot be written.
    """
    tasks = tasks_of(results[0])
    summary = {
        "protocol": protocol.name,
        "scale": dict(scale_settings(scale)),
        "rule": RULE,
        "results": [_summary(result, tasks) for result in results],
    }
    stem = _stem(scale)
    pictures = docs / "pictures"
    write_text(json.dumps(summary, indent=1, allow_nan=False) + "\n", docs / f"{stem}.json")
    write_text(_cases(results), docs / f"{stem}-cases.csv")
    plots.draw_dice(results, tasks, pictures / f"{stem}-dice.png")
    plots.draw_losses(results, pictures / f"{stem}-losses.png")
    if _followed(results):
        plots.draw_progress(results, pictures / f"{stem}-progress.png")
    return write_text(_page(protocol, results, tasks, scale, docs), docs / f"{stem}.md")


def published(protocol: Protocol, scale: str, docs: Path) -> list[Result]:
    """Results that stand in the page's JSON already, so that any machine can add to them.

    Args:
        protocol: what is measured.
        scale: one of :data:`versemi.learning.protocol.SCALES`; results of other settings than it
            has now cannot stand beside its own.
        docs: folder of the page.

    Raises:
        InputError: the file cannot be read, or is of another protocol or other settings.
    """
    path = docs / f"{_stem(scale)}.json"
    if not path.is_file():
        return []
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
        same = summary["protocol"] == protocol.name and summary["scale"] == dict(
            scale_settings(scale)
        )
        results = [_checked(result) for result in summary["results"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} cannot be used ({error!r}); move it away.") from None
    if not same:
        raise InputError(
            f"{path} is of another protocol or scale than this benchmark; move it away, or give "
            "another folder with --docs."
        )
    return results


def _checked(result: Result) -> Result:
    """A published result; an earlier version's runs may not say all that the page does."""
    for run in result["runs"]:
        for key in ("steps", "seconds", "flatness", "hardware"):
            if key not in run:
                raise KeyError(key)
    return dict(result)


def _stem(scale: str) -> str:
    """What the names of a scale's files begin with."""
    return "benchmark" if scale == "processor" else f"benchmark-{scale}"


def _followed(results: Sequence[Result]) -> bool:
    """Whether any run was measured before its end."""
    return any(len(course(result)) > 1 for result in results)


def _summary(result: Result, tasks: Sequence[str]) -> dict[str, Any]:
    means = {task: {m: task_mean(result, task, m) for m in METRICS} for task in tasks}
    return {**result, "mean_dice": mean_dice(result), "tasks": means}


def _cases(results: Sequence[Result]) -> str:
    columns = ("task", "case", *METRICS, "outcome", "volume_ml", "reference_ml")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["configuration", *columns])
    for result in results:
        for row in result["cases"]:
            writer.writerow(
                [Configuration.of(result).folder, *(_cell(row[key]) for key in columns)]
            )
    return text.getvalue()


def _cell(value: Any) -> Any:
    if value is None:
        return ""
    return f"{value:.5g}" if isinstance(value, float) else value


def _page(
    protocol: Protocol,
    results: Sequence[Result],
    tasks: Sequence[str],
    scale: str,
    docs: Path,
) -> str:
    stem, settings = _stem(scale), scale_settings(scale)
    samples = int(settings["samples"])
    pages = [f"{_stem(name)}.md" for name in SCALES if name != scale]
    beside = [f"The same at another scale: [{p}]({p})." for p in pages if (docs / p).is_file()]
    if (docs / TRIED).is_file():
        beside.append(f"What was tried, and what it came to: [{TRIED}]({TRIED}).")
    lines = [
        f"# Benchmark on {protocol.name}, {scale} scale",
        "",
        f"Made by `versemi benchmark --scale {scale}`; the numbers stand in [{stem}.json]"
        f"({stem}.json), every case in [{stem}-cases.csv]({stem}-cases.csv). Whole files, each on "
        "its own grid; the averaged weights of the last step; no checkpoint was chosen.",
        "",
        f"Scale: {settings['steps']} steps of {samples} sample{'s' * (samples > 1)} for the "
        "methods with one model for all tasks; a model of one task sees as many batches of its "
        f"task. Settings: `training/versemi/learning/{SCALES[scale]}`.",
        "",
        *(text for line in beside for text in (line, "")),
        f"![Dice per task and method](pictures/{stem}-dice.png)",
        "",
        *targets(results, tasks),
        "",
    ]
    for fraction in sorted({r["fraction"] for r in results}):
        chosen = [r for r in results if r["fraction"] == fraction]
        lines += [f"## {fraction}% of the labels", ""]
        for metric in METRICS:
            lines += [*_table(chosen, tasks, metric), ""]
    if not all(Configuration.of(result).whole for result in results):
        lines += [
            "## What each part is worth",
            "",
            _CHANCE,
            "",
            *worth(results, tasks, settings),
            "",
        ]
    lines += ["## Cost and convergence", "", *_costs(results), ""]
    lines += [
        "Every method sums its own losses, so only the shapes of their curves can be compared.",
        "",
        f"![Training loss](pictures/{stem}-losses.png)",
        "",
    ]
    if _followed(results):
        times = _times(results)
        title = "Time to the Dice of labels alone" if times else "Dice over time"
        lines += [f"## {title}", "", *times, *([""] if times else [])]
        lines += [f"![Dice over time](pictures/{stem}-progress.png)", ""]
    lines += ["## Rule", "", RULE, ""]
    return "\n".join(lines)


def _table(results: Sequence[Result], tasks: Sequence[str], metric: str) -> list[str]:
    """One row per method; mean over seeds, with the standard deviation where there are several."""
    names = [get_task(task).name for task in tasks]
    lines = [
        f"**{_TITLES[metric]}**",
        "",
        f"| method | seeds | {' | '.join(names)} | mean |",
        f"|---|---|{'---|' * (len(tasks) + 1)}",
    ]
    by_variant: dict[str, list[Result]] = {}
    for result in results:
        by_variant.setdefault(Configuration.of(result).variant, []).append(result)
    for name, group in by_variant.items():
        columns = [[task_mean(result, task, metric) for result in group] for task in tasks]
        means = [mean_of_known([column[i] for column in columns]) for i in range(len(group))]
        cells = [_spread(column, metric) for column in [*columns, means]]
        lines.append(f"| {name} | {len(group)} | {' | '.join(cells)} |")
    return lines


def _spread(values: Sequence[float | None], metric: str) -> str:
    factor, digits = (100, 1) if metric in _SHARES else (1, 1)
    known = [v * factor for v in values if v is not None]
    if not known:
        return "-"
    spread = f" ± {stdev(known):.{digits}f}" if len(known) > 1 else ""
    return f"{mean(known):.{digits}f}{spread}"


def _times(results: Sequence[Result]) -> list[str]:
    """When each method came to what `supervised` reached at its end, with as many labels; nothing
    where that was not run.
    """
    firsts = [result for result in results if Configuration.of(result).followed]
    goals = {r["fraction"]: mean_dice(r) for r in firsts if r["method"] == "supervised"}
    if not goals:
        return []
    lines = [
        "Minutes of training until the mean Dice over the tasks first reached that of `supervised` "
        "at its end, with as many labels and the first seed; measured after every quarter, "
        "straight lines between. A method with a model for each task trains one after the other.",
        "",
        "| labels | method | minutes | of the run's | final Dice |",
        "|---|---|---|---|---|",
    ]
    for result in firsts:
        points, goal = course(result), goals.get(result["fraction"])
        if goal is None or not points:
            continue
        seconds = seconds_to(points, goal)
        cells = [
            f"{result['fraction']}%",
            Configuration.of(result).variant,
            "never" if seconds is None else f"{seconds / 60:.0f}",
            f"{points[-1][0] / 60:.0f}",
            f"{100 * points[-1][1]:.1f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _costs(results: Sequence[Result]) -> list[str]:
    lines = [
        "Loss still falling: by how much the mean training loss of the last tenth of the steps lay "
        "under that of the tenth before.",
        "",
        "| configuration | steps | minutes | loss still falling | hardware |",
        "|---|---|---|---|---|",
    ]
    for result in results:
        runs = result["runs"]
        falling = mean_of_known([run["flatness"] for run in runs])
        cells = [
            Configuration.of(result).folder,
            " + ".join(str(run["steps"]) for run in runs),
            f"{sum(run['seconds'] for run in runs) / 60:.0f}",
            "-" if falling is None else f"{falling:.1%}",
            "; ".join(dict.fromkeys(run["hardware"] for run in runs)),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines
