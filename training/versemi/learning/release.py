"""From a finished run to a pack that can be handed out: manifest, measured Dice, model card."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

from versemi import calibration as reliability
from versemi.calibration import Calibration
from versemi.evaluation import RULE, evaluate, find_cases
from versemi.inference import Segmenter
from versemi.learning.configuration import RunSettings
from versemi.learning.sources import case_lists
from versemi.learning.strangers import card_lines, measure_strangers, strangers, summary
from versemi.manifest import Manifest, PromptSettings
from versemi.modelpack import ModelPack, write_pack
from versemi.network import GroupNetworks, PromptedNetwork
from versemi.tasks import FOREGROUND, get_task

Progress = Callable[[float, str], None]


def release(
    settings: RunSettings,
    networks: PromptedNetwork | GroupNetworks,
    data: Path,
    folder: Path,
    start: ModelPack | None = None,
) -> ModelPack:
    """Write a run's networks as a pack that has not been measured yet.

    Args:
        settings: the run's.
        networks: its averaged network, or one for each prompt group.
        data: folder that holds the data sets' folders.
        folder: of the pack.
        start: the pack that the run started from, which becomes the parent.

    Raises:
        OutputError: the pack cannot be written.
    """
    described = settings.pack
    searched = {
        prompt
        for source in settings.sources
        if source["name"] in described["search"]["prompts_of"]
        for prompt in source["labels"].values()
    }
    manifest = Manifest(
        name=str(described["name"]),
        version=str(described["version"]),
        network=settings.network.to_json(),
        prompts=tuple(
            PromptSettings(
                get_task(prompt),
                search=prompt in searched,
                keep=settings.keep(prompt),
                min_ml=float(described["min_ml"]),
            )
            for prompt in settings.prompts
            if prompt != FOREGROUND
        ),
        groups={
            name: group
            for name, group in settings.groups.items()
            if any(source["group"] == name for source in settings.sources)
        },
        training={
            "finished": datetime.date.today().isoformat(),
            "steps": settings.steps,
            "seed": settings.seed,
            "cases": {s["name"]: len(case_lists(s, data).labelled) for s in settings.sources},
            "method": settings.method.name,
        },
        parent=f"{start.name} {start.version}" if start else None,
    )
    return write_pack(folder, networks, manifest, {"LICENSE": _license()})


def measure(
    pack: ModelPack,
    settings: RunSettings,
    data: Path,
    *,
    device: str = "auto",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Measure a pack on the cases that its run kept out, each whole and on its own grid.

    Args:
        pack: what to measure.
        settings: the run's, which name those cases.
        data: folder that holds the data sets' folders.
        device: as for :class:`Segmenter`.
        progress: told a fraction and a sentence.

    Returns:
        The reports of :func:`versemi.evaluation.evaluate` by source name, each with what its
        prompts found where they cannot be, under ``false_positives``; see
        :func:`versemi.learning.strangers.summary`.
    """
    segmenter = Segmenter(pack, device)
    elsewhere = strangers(settings, data, pack.task_ids)
    reports = {}
    parts = len(settings.sources) + 1
    for number, source in enumerate(settings.sources):
        cases = find_cases(data / source["folder"], case_lists(source, data).measured)
        labels = {prompt: int(value) for value, prompt in source["labels"].items()}
        reports[source["name"]] = evaluate(
            segmenter,
            cases,
            labels,
            progress=_share(progress, number, parts),
            calibration=Calibration(labels),
        )
    rows = measure_strangers(segmenter, elsewhere, _share(progress, parts - 1, parts))
    for report in reports.values():
        report["false_positives"] = summary(rows, tuple(report["tasks"]))
    return reports


def add_measurements(
    pack: ModelPack, reports: Mapping[str, Mapping[str, Any]], settings: RunSettings
) -> ModelPack:
    """Write measured Dice into the manifest, and the model card beside it.

    Raises:
        OutputError: the pack cannot be written.
    """
    scores = {task: row for report in reports.values() for task, row in report["tasks"].items()}
    manifest = replace(
        pack.manifest,
        prompts=tuple(
            replace(p, dice=None if scores[p.task.id]["dice"] is None else
                    round(scores[p.task.id]["dice"], 4))
            for p in pack.manifest.prompts
        ),
    )  # fmt: skip
    texts = {"LICENSE": _license(), "README.md": model_card(manifest, reports, settings)}
    return write_pack(pack.path, pack.build_networks(), manifest, texts)


def model_card(
    manifest: Manifest, reports: Mapping[str, Mapping[str, Any]], settings: RunSettings
) -> str:
    """The model card in Markdown: what the weights are, what made them, what they are worth."""
    start = " --from PACK" if manifest.parent else ""
    joined = manifest.training.get("joined", {})
    made = f" (PACK is {manifest.parent})" if manifest.parent and not joined else ""
    lines = [
        f"# {manifest.name} {manifest.version}",
        "",
        "One task-prompted network for "
        f"{len(manifest.prompts)} structures, trained on a few labelled research scans. "
        "**For research and teaching only; not a medical device.** Licence of the weights: "
        "LICENSE beside this file.",
        "",
        "## Measured",
        "",
        "Mean over scans that were kept out of training, each file whole and on its own grid.",
        "",
        "| prompt | cases | Dice | Jaccard | HD95 (mm) | ASSD (mm) | missed | ECE |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for report in reports.values():
        for task, row in report["tasks"].items():
            numbers = [_number(row[m], d) for m, d in _COLUMNS]
            ece = _number(report["calibration"]["ece"][task], 3)
            cells = [get_task(task).name, str(row["cases"]), *numbers, str(row["missed"]), ece]
            lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        RULE,
        "",
        reliability.RULE,
        "",
        "| data set | errors among the most uncertain voxels | by entropy alone | at most |",
        "|---|---|---|---|",
        *(_doubt_row(name, report["calibration"]) for name, report in reports.items()),
        "",
        "## Where it cannot be",
        "",
        *card_lines(reports),
        "",
        "Again: `versemi measure PACK --data DATA` (DATA holds the folders named below).",
        "",
        "## Training",
        "",
        f"`versemi train --config base{start} --data DATA --out RUN`{made}, then `versemi measure "
        "RUN/pack --data DATA`. The settings are `training/versemi/learning/base.yaml`: "
        f"{settings.steps} steps of {settings.samples} samples of different data sets, seed "
        f"{settings.seed}, {settings.method.synthetic:.0%} of the labelled crops mixed, the "
        "averaged weights of the last step. "
        + (
            "Every scan is unlabelled for the prompts that its labels do not cover."
            if settings.method.unlabelled
            else "Labelled scans only; the unlabelled part of VerSemi was not used."
        ),
        "",
        *([str(settings.pack["note"]).strip(), ""] if settings.pack.get("note") else []),
        *(_joined_lines(manifest, joined) if joined else []),
        "| data set | labelled scans trained on | kept for measuring | terms |",
        "|---|---|---|---|",
    ]
    for source in settings.sources:
        report = reports[source["name"]]
        held = max(row["cases"] for row in report["tasks"].values())
        about = _DATA.get(source["folder"], (source["folder"], "see its provider"))
        trained = manifest.training["cases"][source["name"]]
        lines.append(f"| {about[0]} | {trained} | {held} | {about[1]} |")
    lines += [
        "",
        "Terms as far as they are known to us; check them with the provider before you rely on "
        "them.",
        "",
        "## Limits",
        "",
        "- Few scans, few scanners: sixteen abdominal CTs taught thirteen prompts. Expect failures "
        "on other protocols, on pathology and on children.",
        "- The left atrium, lung tumour and hippocampus prompts learnt from crops around the "
        "structure. On larger scans set a region of interest around it.",
        "- CT is seen only between -125 and 275 HU.",
        "- Left and right are told by the scan's geometry; a scan with a wrong header gives wrong "
        "sides.",
        "",
        "Method: Zeng et al., *Segment Together: A Versatile Paradigm for Semi-Supervised Medical "
        "Image Segmentation*, arXiv 2311.11686.",
        "",
    ]
    return "\n".join(lines)


_COLUMNS = (("dice", 3), ("jaccard", 3), ("hd95_mm", 1), ("assd_mm", 2))
_DATA = {
    "abdomen": (
        "BTCV / Synapse abdominal CT (Multi-Atlas Labeling Beyond the Cranial Vault, 2015)",
        "registered access, research",
    ),
    "left_atrium": (
        "2018 Atrial Segmentation Challenge, LGE MR, cropped as by UA-MT",
        "registered access, research",
    ),
    "lung_tumour": (
        "NSCLC-Radiomics and NSCLC-Radiogenomics CT, 92 mm cubes around the tumour",
        "CC BY-NC 3.0 and CC BY 3.0",
    ),
    "hippocampus": ("Medical Segmentation Decathlon Task04, T1 MR", "CC BY-SA 4.0"),
}


def _joined_lines(manifest: Manifest, joined: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Which groups were given the network of another pack, and what made that."""
    lines = [
        f"Some groups of {manifest.parent} were then given networks of their own (`versemi models "
        "join`, which stores weights in eight bits):",
        "",
        "| group | network of | steps | scans trained on |",
        "|---|---|---|---|",
    ]
    for group, made in joined.items():
        scans = ", ".join(f"{count} of {name}" for name, count in made["cases"].items())
        lines.append(f"| `{group}` | {made['pack']} | {made['steps']} | {scans} |")
    return [*lines, ""]


def _doubt_row(name: str, measured: Mapping[str, Any]) -> str:
    kinds = ("errors_found", "errors_found_by_entropy", "errors_findable")
    cells = [_DATA.get(name, (name,))[0], *(_number(measured[kind], 2) for kind in kinds)]
    return f"| {' | '.join(cells)} |"


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _license() -> str:
    return resources.files("versemi.learning").joinpath("pack_license.txt").read_text("utf-8")


def _share(progress: Progress | None, number: int, total: int) -> Progress | None:
    if progress is None:
        return None
    return lambda fraction, sentence: progress((number + fraction) / total, sentence)
