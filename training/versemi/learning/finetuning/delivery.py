"""From a judged network to a pack with its report and card, and into the model store."""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from versemi.learning.finetuning.gate import RULE, Verdict
from versemi.learning.finetuning.material import Material
from versemi.learning.finetuning.split import Split
from versemi.manifest import Manifest
from versemi.modelpack import ModelPack, write_pack
from versemi.modelstore import ModelStore
from versemi.modelstore.entry import check_name
from versemi.tasks import FOREGROUND, get_task

REPORT = "finetuning.json"
#: What a state is called where people read it; see ``docs/models.md``.
STATES = {"candidate": "available", "provisional": "provisional", "aside": "kept aside"}
_SUFFIX = re.compile(r"\+ft\d+$")


@dataclass(frozen=True)
class Facts:
    """What a run was and came to.

    Attributes:
        parent: the pack that it started from.
        material: what it learnt from.
        split: which cases were held out.
        verdict: the gate's.
        share: of the way from the parent's weights to the fine-tuned ones, in (0, 1].
        tried: every share that was measured, with the gate's reason.
        method: one of the objective's.
        unlabelled: how many scans without a label were looked at.
        minutes: that the run was given.
        seconds: that training, preparing and measuring took.
        steps: of the run whose weights are delivered.
        measured: every number, as plain data.
    """

    parent: ModelPack
    material: Material
    split: Split
    verdict: Verdict
    share: float
    tried: Mapping[str, str]
    method: str
    unlabelled: int
    minutes: float
    seconds: float
    steps: int
    measured: Mapping[str, Any]

    def report(self, version: str) -> dict[str, Any]:
        """Everything, as plain data for JSON."""
        return {
            "pack": {"name": self.parent.name, "version": version},
            "parent": {"name": self.parent.name, "version": self.parent.version},
            "state": STATES[self.verdict.standing],
            "reason": self.verdict.reason,
            "rule": RULE,
            "prompts": list(self.material.prompts),
            "method": self.method,
            "minutes": self.minutes,
            "seconds": round(self.seconds, 1),
            "steps": self.steps,
            "split": self.split.described(),
            "share_of_fine_tuned_weights": self.share,
            "shares_tried": dict(self.tried),
            "dice": self.verdict.dice,
            "agreement": self.verdict.agreement,
            "unchanged": list(self.unchanged()),
            "not_measured": list(self.not_measured()),
            "notes": list(self.material.notes),
            "material": self.material.described(),
            "measured": dict(self.measured),
        }

    def unchanged(self) -> tuple[str, ...]:
        """The pack's prompts whose group has the parent's network still."""
        groups = self.material.groups
        return tuple(t.id for t in self.parent.tasks if t.group not in groups)

    def not_measured(self) -> tuple[str, ...]:
        """The other prompts of the pack about which nothing was measured at all."""
        seen = {*self.material.prompts, *self.verdict.agreement["prompts"], *self.unchanged()}
        return tuple(p for p in self.parent.task_ids if p not in seen)


def deliver(pack: ModelPack, facts: Facts, out: Path, version: str) -> ModelPack:
    """Write the judged pack with its report and card.

    The manifest keeps only what was measured of these weights: Dice of the learnt prompts on
    held-out cases, and the parent's numbers of prompts whose network is the parent's.

    Args:
        pack: the judged weights.
        facts: of the run.
        out: folder of the new pack.
        version: of the new pack.

    Raises:
        OutputError: it cannot be written.
    """
    parent, verdict = facts.parent, facts.verdict
    measured = {
        p: round(row["tuned"], 4) for p, row in verdict.dice.items() if row["tuned"] is not None
    }
    dice = {p: parent.settings(p).dice for p in facts.unchanged()} | measured
    manifest = replace(
        parent.manifest,
        version=version,
        parent=f"{parent.name} {parent.version}",
        prompts=tuple(replace(p, dice=dice.get(p.task.id)) for p in parent.manifest.prompts),
        training={**_still_new(parent.manifest, measured), **_summary(facts)},
    )
    texts = parent.license() | {
        REPORT: json.dumps(facts.report(version), indent=1, allow_nan=False) + "\n",
        "README.md": card(facts, version),
    }
    return write_pack(out, pack.build_networks(), manifest, texts)


def next_version(parent: ModelPack, store: ModelStore | None) -> str:
    """The parent's version with the first suffix ``+ft1``, ``+ft2``, ... that is new.

    Args:
        parent: its own suffix, if it has one, is counted on from.
        store: whose versions are taken; None for no store.

    Raises:
        InputError: no store can keep a pack of this name and version, or it may not be read.
        PackError: the store was made by a newer version.
    """
    stem = _SUFFIX.sub("", parent.version)
    taken = {parent.version}
    if store is not None:
        taken |= {entry.version for entry in store.entries() if entry.name == parent.name}
    number = 1
    while f"{stem}+ft{number}" in taken:
        number += 1
    version = f"{stem}+ft{number}"
    if store is not None:
        check_name(parent.name, "name")
        check_name(version, "version")
    return version


def card(facts: Facts, version: str) -> str:
    """The model card in Markdown: what made the weights, and what they are worth."""
    parent, verdict, material = facts.parent, facts.verdict, facts.material
    learnt = facts.split.stages[-1].learnt
    lines = [
        f"# {parent.name} {version}",
        "",
        f"Fine-tuned from {parent.name} {parent.version} for"
        f" {', '.join(_name(p) for p in material.prompts)}. **For research and teaching only; not"
        " a medical device.** Licence of the weights: that of the parent, LICENSE beside this"
        " file.",
        "",
        f"**{STATES[verdict.standing].capitalize()}.** {verdict.reason}",
        "",
        "## Measured",
        "",
        facts.split.sentence(),
        "",
        "| prompt | corrected cases | held-out cases | Dice | parent's Dice |",
        "|---|---|---|---|---|",
    ]
    for prompt, row in verdict.dice.items():
        cases = sum(prompt in c.prompts for c in material.corrected)
        cells = [_name(prompt), str(cases), str(row["cases"]), *map(_number, _pair(row))]
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "| other prompt | Dice with the parent's answer |", "|---|---|"]
    lines += [f"| {_name(p)} | {_number(d)} |" for p, d in verdict.agreement["prompts"].items()]
    lines += ["", RULE, ""]
    if facts.unchanged():
        names = ", ".join(_name(p) for p in facts.unchanged())
        lines += [f"Answered by the parent's network, as before: {names}.", ""]
    if facts.not_measured():
        lines += [f"Not measured: {', '.join(_name(p) for p in facts.not_measured())}.", ""]
    lines += [
        "## Training",
        "",
        f"`versemi finetune`, {facts.steps} steps on {len(learnt)} corrected and"
        f" {facts.unlabelled} unlabelled scans,"
        f" method {facts.method}; {facts.seconds / 60:.1f} minutes with all measuring. The weights"
        f" are {facts.share:.0%} of the way from the parent's to the fine-tuned ones.",
        "",
        "Method: Zeng et al., *Segment Together: A Versatile Paradigm for Semi-Supervised Medical "
        "Image Segmentation*, arXiv 2311.11686.",
        "",
    ]
    return "\n".join(lines)


def _summary(facts: Facts) -> dict[str, Any]:
    """What the manifest says of the run; no case is named, for a pack may be handed on."""
    learnt = facts.split.stages[-1].learnt
    return {
        "finished": datetime.date.today().isoformat(),
        "method": f"finetune {facts.method}",
        "steps": facts.steps,
        "minutes": facts.minutes,
        "finetuning": {
            "prompts": list(facts.material.prompts),
            "corrected_cases": len(facts.material.corrected),
            "learnt_from": len(learnt),
            "unlabelled_cases": len(facts.material.unlabelled),
            "validation": facts.split.kind,
            "share_of_fine_tuned_weights": facts.share,
            "state": STATES[facts.verdict.standing],
            "reason": facts.verdict.reason,
            "dice": facts.verdict.dice,
            "agreement": facts.verdict.agreement,
            "unchanged": list(facts.unchanged()),
            "not_measured": list(facts.not_measured()),
        },
    }


def _still_new(parent: Manifest, measured: Mapping[str, float]) -> dict[str, Any]:
    """That a prompt was added holds on until it is measured."""
    added = parent.training.get("added")
    return {"added": added} if added and added.get("prompt") not in measured else {}


def _pair(row: Mapping[str, Any]) -> tuple[float | None, float | None]:
    return row["tuned"], row["parent"]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _name(prompt: str) -> str:
    return prompt if prompt == FOREGROUND else get_task(prompt).name
