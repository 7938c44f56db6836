"""From measurements to ratios, targets and a page that says whether they are met."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Measured = Mapping[str, Mapping[str, Any]]


def fastest(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The run that took least time, with the largest peak memory of all runs.

    Whatever else the machine does only ever adds time, so the least is nearest to the truth.
    """
    if "calls" not in runs[0]:
        return runs[0]
    best = dict(min(runs, key=lambda run: sum(call["seconds"] for call in run["calls"])))
    # Each call by itself: the first is fast in one run, the second in another.
    best["calls"] = [
        min((run["calls"][i] for run in runs), key=lambda call: call["seconds"])
        for i in range(len(best["calls"]))
    ]
    best["peak_gb"] = max(run["peak_gb"] for run in runs)
    best["all_seconds"] = [[call["seconds"] for call in run["calls"]] for run in runs]
    return best


def targets(measured: Measured) -> list[dict[str, Any]]:
    """What was aimed at, what came out, and whether it was met."""
    one = _seconds(measured, "one_prompt")
    everything = _seconds(measured, "all_prompts")
    whole = _seconds(measured, "one_prompt_everywhere")
    nnunet = measured["nnunet"]["extrapolated_seconds_all"]
    ours = [name for name in measured if "calls" in measured[name]]
    return [
        _least("all CT prompts, times faster than nnU-Net v2's default", nnunet / everything, 50),
        _most("all CT prompts, times the time of one prompt", everything / one, 4),
        _most(
            "another prompt in a computed region, of the time of the first prompt",
            _seconds(measured, "one_more", 1) / one,
            0.1,
        ),
        _most(
            "the same without the coarse pass",
            _seconds(measured, "one_prompt_everywhere", 1) / whole,
            0.1,
        ),
        _most("peak memory, GB", max(measured[name]["peak_gb"] for name in ours), 4),
    ]


def page(facts: Mapping[str, Any], measured: Measured) -> str:
    """The whole report in Markdown."""
    lines = [
        "# Time and memory of segmenting",
        "",
        f"On {facts['scan']}. Processor: {facts['processor']}, {facts['threads']} threads "
        f"(load average {facts['load']} before); torch {facts['torch']}, Python "
        f"{facts['python']}; pack {facts['pack']}. Each of our "
        f"ways ran {facts['repeat']} times in fresh processes; the fastest time and the largest "
        "peak memory are given. Times are of one call to `Segmenter.segment`, from voxels in "
        "memory to the label map on the scan's own grid.",
        "",
        "| way | seconds | peak GB |",
        "|---|---:|---:|",
    ]
    lines += [f"| {name} | {time} | {memory} |" for name, time, memory in _rows(measured)]
    lines += ["", "## Where our time goes (seconds)", "", *_steps(measured)]
    lines += ["", "## Targets", "", "| target | wanted | measured | |", "|---|---:|---:|---|"]
    for target in targets(measured):
        sign = "at least" if target["kind"] == "least" else "at most"
        verdict = "met" if target["met"] else "**missed**"
        lines.append(
            f"| {target['what']} | {sign} {target['wanted']:g} | {target['measured']:.3g} "
            f"| {verdict} |"
        )
    lines += ["", "## How the others were timed", ""]
    for name in ("sliding_vnet", "nnunet"):
        lines.append(f"- {_explained(measured[name])}")
    lines += [
        "",
        "Their times are **extrapolated** from five timed windows, and are of the windows alone: "
        "reading, resampling and writing are left out for them, and are in for us. Ours is timed "
        f"whole, on {measured['all_prompts']['calls'][0]['device']}.",
        "",
    ]
    return "\n".join(lines)


def _rows(measured: Measured) -> list[tuple[str, str, str]]:
    plain, nnunet = measured["sliding_vnet"], measured["nnunet"]
    count = len(measured["all_prompts"]["calls"][0]["prompts"])
    rows = [
        ("VerSemi, one prompt (spleen)", "one_prompt", 0),
        (f"VerSemi, all {count} CT prompts", "all_prompts", 0),
        (f"VerSemi, {count - 1} CT prompts", "one_more", 0),
        ("... and one more (pancreas)", "one_more", 1),
        ("VerSemi without the coarse pass, one prompt", "one_prompt_everywhere", 0),
        ("... and one more (pancreas)", "one_prompt_everywhere", 1),
        (f"VerSemi without the coarse pass, all {count}", "all_prompts_everywhere", 0),
    ]
    table = [
        (title, f"{_seconds(measured, name, call):.2f}", f"{measured[name]['peak_gb']:.2f}")
        for title, name, call in rows
    ]
    for title, other in (("MONAI sliding window, V-Net", plain), ("nnU-Net v2", nnunet)):
        memory = f"{other['peak_gb']:.2f} (five windows)"
        for kind, amount in (("one", "one prompt"), ("all", f"all {count}")):
            seconds = f"{other[f'extrapolated_seconds_{kind}']:,.0f} (extrapolated)"
            table.append((f"{title}, {amount}", seconds, memory))
    return table


def _steps(measured: Measured) -> list[str]:
    calls = [
        ("one prompt", measured["one_prompt"]["calls"][0]),
        ("all prompts", measured["all_prompts"]["calls"][0]),
        ("one more", measured["one_more"]["calls"][1]),
        ("all, no coarse pass", measured["all_prompts_everywhere"]["calls"][0]),
    ]
    steps = list(calls[1][1]["steps"])
    lines = ["| | " + " | ".join(steps) + " |", "|---|" + "---:|" * len(steps)]
    for name, call in calls:
        times = " | ".join(f"{call['steps'].get(step, 0.0):.2f}" for step in steps)
        lines.append(f"| {name} | {times} |")
    return lines


def _explained(other: Mapping[str, Any]) -> str:
    spacing = " x ".join(f"{s:.2f}" for s in other["spacing_mm"])
    window, stride, grid = (
        " x ".join(str(n) for n in other[key]) for key in ("window", "stride", "grid")
    )
    return (
        f"{other['what']}: spacing {spacing} mm, window {window}, stride {stride}; on this scan a "
        f"grid of {grid} and {other['windows']:,} windows a pass. Five windows took "
        f"{other['seconds_for_five_windows']:.1f} s."
    )


def _seconds(measured: Measured, name: str, call: int = 0) -> float:
    return float(measured[name]["calls"][call]["seconds"])


def _least(what: str, value: float, wanted: float) -> dict[str, Any]:
    return {
        "what": what, "kind": "least", "wanted": wanted, "measured": value, "met": value >= wanted
    }  # fmt: skip


def _most(what: str, value: float, wanted: float) -> dict[str, Any]:
    return {
        "what": what, "kind": "most", "wanted": wanted, "measured": value, "met": value <= wanted
    }  # fmt: skip
