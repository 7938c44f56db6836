"""From results to a page: what was done, plots, tables, and whether the targets are met."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from versemi.errors import InputError
from versemi.evaluation import RULE, mean_of_known
from versemi.export import write_text
from versemi.learning.finetuning.split import HOLD_OUT_FROM
from versemi.learning.simulation import plots
from versemi.learning.simulation.numbers import Result, Results, changes, judged, mean_dice
from versemi.learning.simulation.plan import RANKED, Run, whole_plan
from versemi.learning.simulation.settings import Settings, Telling
from versemi.learning.targets import target_table
from versemi.tasks import get_task

#: Every result, as `execute` gave it, with the settings.
PUBLISHED = "learning.json"
PAGE = "learning.md"


def published(settings: Settings, docs: Path) -> list[Result]:
    """Results that stand in ``learning.json`` already, so that any machine can add to them.

    Args:
        settings: of the simulation; results of others cannot stand beside its own.
        docs: folder of the page.

    Raises:
        InputError: the file cannot be read, or is of other settings.
    """
    path = docs / PUBLISHED
    if not path.is_file():
        return []
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        same = data["settings"] == settings.described
        results = [dict(result) for result in data["results"]]
        for result in results:
            Run.of(result)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} cannot be used ({error!r}); move it away.") from None
    if not same:
        raise InputError(
            f"{path} is of other settings than this simulation; move it away, or give another"
            " folder with --docs."
        )
    return results


def write_report(settings: Settings, results: Sequence[Result], docs: Path) -> Path:
    """Write ``learning.json``, ``learning.md`` and the plots.

    Args:
        settings: of the simulation.
        results: what has been run, in any order.
        docs: folder that gets the files.

    Returns:
        The page.

    Raises:
        OutputError: a file cannot be written.
    """
    places = {run.name: number for number, run in enumerate(whole_plan(settings))}
    ordered = sorted(results, key=lambda result: places[result["run"]])
    data = {"settings": settings.described, "results": ordered}
    write_text(json.dumps(data, indent=1, allow_nan=False) + "\n", docs / PUBLISHED)
    found = Results(ordered)
    for story in settings.stories.values():
        plots.draw_corrections(story, settings, found, _picture(docs, story.name))
    plots.draw_others(settings, found, _picture(docs, "others"))
    plots.draw_choice(settings.choice, found, _picture(docs, "choice"))
    return write_text(_page(settings, found, len(places)), docs / PAGE)


def _picture(docs: Path, name: str) -> Path:
    return docs / "pictures" / f"learning-{name}.png"


def _page(settings: Settings, results: Results, planned: int) -> str:
    done = len(results.every)
    lines = [
        "# The learning loop on real scans",
        "",
        "Made by `versemi simulate`; the numbers stand in [learning.json](learning.json), the"
        " settings in `training/versemi/learning/simulation/simulation.yaml`.",
        "",
        "A simulated user: scans of one task arrive unlabelled and are put into a case library;"
        " corrections arrive one by one, from the reference labels; after"
        f" {_listed(settings.corrections)} of them a pack is fine-tuned for some minutes, all"
        " measuring of `versemi finetune` included, and what it has learnt is measured on held-out"
        " cases, each file whole and on its own grid. The pack that is measured is the one that"
        " fine-tuning delivers, whatever its gate says of it.",
        "",
        "Three ways: **versemi** learns from the corrections and from the scans of the stream"
        " without their labels; **labels-only** from the corrections alone; **from-scratch** is a"
        " fresh network, trained for as many minutes on the corrections alone, without a pack to"
        f" start from and without measuring in between. From {HOLD_OUT_FROM} corrections on,"
        " fine-tuning holds some of them out for its gate and does not learn from these; the fresh"
        " network learns from all.",
        "",
        f"{done} of {planned} runs have been done"
        + (f"; on {'; '.join(_machines(results))}." if done else "."),
        "",
        "## Targets",
        "",
        *target_table(judged(settings, results)),
    ]
    for story in settings.stories.values():
        lines += ["", *_story(story, settings, results)]
    lines += ["", *_others(settings, results)]
    for story in settings.stories.values():
        if story.new:
            lines += ["", *_starts(story, results)]
    lines += ["", *_choice(settings, results), "", "## Rule", "", RULE, ""]
    return "\n".join(lines)


def _machines(results: Results) -> list[str]:
    return list(dict.fromkeys(str(result["hardware"]) for result in results.every))


def _story(story: Telling, settings: Settings, results: Results) -> list[str]:
    name = get_task(story.prompt).name.lower()
    base, stream = (int(story.cases[key]) for key in ("base", "stream"))
    if story.new:
        about = (
            f"A new prompt: the base pack learnt from {base} cases of `{story.source}` without"
            f" the labels of {name}, whose voxels it was told nothing about: neither that they are"
            " background nor *foreground*. Then it is given the prompt, as a group of its own, and"
            f" {stream} other cases arrive. The base line is the new prompt before any correction."
        )
    else:
        about = (
            f"An old prompt under a shift: the base pack learnt {name} from {base} unshifted"
            f" cases. {stream} other cases arrive, with altered contrast, less resolution and more"
            " noise; so do the held-out ones."
        )
    lines = [f"## {_title(story.name)}", "", about, ""]
    lines += [f"![Dice against corrections](pictures/learning-{story.name}.png)", ""]
    first = results.base(story.name)
    if first is None:
        lines += ["The base has not been run.", ""]
    else:
        lines += [
            f"Base pack: {first['steps']} steps, {first['seconds'] / 60:.0f} minutes;"
            f" {len(first['cases'])} held-out cases. Every fine-tuning takes {story.minutes:g}"
            " minutes.",
            "",
        ]
    lines += [
        "| corrections | way | Dice | HD95 (mm) | missed | steps | minutes | gate |",
        "|---|---|---|---|---|---|---|---|",
    ]
    if first is not None:
        if "unshifted" in first:
            lines.append(_row("0", "base, unshifted scans", first, "unshifted"))
        lines.append(_row("0", "base", first, "cases"))
    for count in settings.corrections:
        for way in settings.ways:
            result = results.usual(story.name, way).get(count)
            if result is None:
                lines.append(f"| {count} | {way} | not run | | | | | |")
            else:
                lines.append(_row(str(count), way, result, "cases"))
    verdicts = [
        f"- {count}, {way}: {result['reason']}"
        for way in settings.ways
        for count, result in results.usual(story.name, way).items()
        if result["reason"]
    ]
    if verdicts:
        lines += ["", "What the gate said:", "", *verdicts]
    return lines


def _row(count: str, way: str, result: Result, of: str) -> str:
    rows = result[of]
    learnt = bool(result["corrections"])
    cells = [
        count,
        way,
        _number(mean_dice(result, of)),
        _number(mean_of_known([row["hd95_mm"] for row in rows]), 1),
        str(sum(row["outcome"] == "missed" for row in rows)),
        str(result["steps"]) if learnt else "",
        f"{result['seconds'] / 60:.1f}" if learnt else "",
        result["state"],
    ]
    return f"| {' | '.join(cells)} |"


def _others(settings: Settings, results: Results) -> list[str]:
    lines = [
        "## The other prompts",
        "",
        "Change of mean Dice on the measuring cases of each data set, which no run learns from;"
        f" the dashed line is the target, {-settings.targets.lost:g}.",
        "",
        "![Change of the other prompts](pictures/learning-others.png)",
    ]
    for story in settings.stories.values():
        base = results.base(story.name)
        lines += ["", f"**{_title(story.name)}**", ""]
        if base is None:
            lines.append("Not run.")
            continue
        runs = [
            (f"{way}, {count}", result)
            for way in ("versemi", "labels-only")
            for count, result in results.usual(story.name, way).items()
        ]
        lines += [
            f"| prompt | cases | base{''.join(f' | {name}' for name, _ in runs)} |",
            f"|---|---|---|{'---|' * len(runs)}",
        ]
        for prompt in sorted(base["others"], key=lambda p: get_task(p).label):
            before = base["others"][prompt]
            cells = [get_task(prompt).name, str(before["cases"]), _number(before["dice"])]
            cells += [_signed(changes(result, base).get(prompt)) for _, result in runs]
            lines.append(f"| {' | '.join(cells)} |")
    return lines


def _starts(story: Telling, results: Results) -> list[str]:
    lines = [
        "## What a new prompt starts from",
        "",
        f"Dice of {get_task(story.prompt).name.lower()} on held-out cases, versemi.",
        "",
        f"| corrections | {' | '.join(story.like)} |",
        f"|---|{'---|' * len(story.like)}",
    ]
    for count in story.like_corrections:
        found = results.like(story.name, count)
        cells = [
            _number(mean_dice(found[like])) if like in found else "not run" for like in story.like
        ]
        lines.append(f"| {count} | {' | '.join(cells)} |")
    return lines


def _choice(settings: Settings, results: Results) -> list[str]:
    choice = settings.choice
    lines = [
        "## Ranked against random order",
        "",
        f"The story '{choice.story}', versemi: the cases that `versemi library next` puts first"
        f" under the base pack, against {len(choice.seeds)} random orders.",
        "",
        "![Orders of corrections](pictures/learning-choice.png)",
        "",
        "| order | corrections | runs | mean Dice | lowest | highest |",
        "|---|---|---|---|---|---|",
    ]
    for order, counts in ((RANKED, choice.ranked), ("random", choice.random)):
        for count in counts:
            runs = results.ordered(choice.story, order, count)
            means = [mean for mean in map(mean_dice, runs) if mean is not None]
            cells = ["not run", "", ""]
            if means:
                cells = [_number(mean_of_known(means)), _number(min(means)), _number(max(means))]
            lines.append(f"| {order} | {count} | {len(runs)} | {' | '.join(cells)} |")
    return lines


def _title(name: str) -> str:
    return name.replace("-", " ").capitalize()


def _number(value: float | None, digits: int = 3) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.3f}"


def _listed(counts: Sequence[int]) -> str:
    *first, last = map(str, counts)
    return f"{', '.join(first)} and {last}" if first else last
