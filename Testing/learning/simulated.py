"""A simulation on a few balls: settings, data, and a learner that answers at once."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import SimpleITK as sitk

from versemi.caselibrary import CaseLibrary
from versemi.evaluation import LabelledCase
from versemi.learning.simulation.learners import Learnt
from versemi.learning.simulation.plan import Run, whole_plan
from versemi.learning.simulation.settings import Settings
from versemi.learning.simulation.stories import Story
from versemi.tasks import TASKS

SHAPE = (24, 32, 32)
POOL, DEVTEST = 7, 2
#: As ``simulation.yaml``, small: data set `ct` has liver and right kidney, `mr` left atria.
SETTINGS: dict[str, Any] = {
    "seed": 1,
    "corrections": [1, 2],
    "ways": ["versemi", "labels-only", "from-scratch"],
    "targets": {"corrections": 2, "recovered": 0.5, "organ": 0.8, "lost": 0.01},
    "choice": {"story": "shift", "ranked": [1], "random": [1, 2], "seeds": [0, 1]},
    "stories": {
        "shift": {
            "minutes": 0.05,
            "prompt": "left_atrium",
            "source": "mr",
            "cases": {"protocol": "small.json", "task": "left_atrium", "base": 3, "stream": 3},
            "shift": {
                "gamma": [0.5, 0.6],
                "fold": [0.7, 0.8],
                "spacing": [4.0, 4.0, 4.0],
                "noise": [0.05, 0.06],
            },
        },
        "new-prompt": {
            "minutes": 0.05,
            "prompt": "liver",
            "source": "ct",
            "cases": {"protocol": "small.json", "task": "right_kidney", "base": 2, "stream": 3},
            "like": ["foreground", "right_kidney", "nothing"],
            "like_corrections": [1],
        },
    },
    "base": {
        "seed": 1,
        "steps": 4,
        "samples": 2,
        "rate": 0.001,
        "average": 0.5,
        "method": {"without": ["consistency", "pseudo-labels"], "synthetic": 0.5},
        "network": {"backbone": "residual-unet", "features": 8},
        "sources": [
            {
                "name": "ct",
                "folder": "ct",
                "group": "ct",
                "labels": {1: "liver", 2: "right_kidney"},
                "measure": {"protocol": "small.json", "task": "right_kidney"},
                "crop": [16, 32, 32],
                "weight": 1.0,
            },
            {
                "name": "mr",
                "folder": "mr",
                "group": "lge_mr",
                "labels": {1: "left_atrium"},
                "measure": {"protocol": "small.json", "task": "left_atrium"},
                "crop": [32, 32, 32],
                "weight": 1.0,
            },
        ],
        "pack": {
            "name": "simulated",
            "version": "1",
            "search": {"prompts_of": []},
            "keep_all": [],
            "min_ml": 0.0,
        },
    },
    "scratch": {
        "samples": 1,
        "rate": 0.001,
        "average": 0.5,
        "method": {"without": ["consistency", "pseudo-labels"], "synthetic": 0.0},
    },
}


def write_data(data: Path) -> Path:
    """Two data sets of balls, and the protocol that divides them."""
    rng = np.random.default_rng(0)
    tasks = {}
    for folder, prompts in (("ct", ("liver", "right_kidney")), ("mr", ("left_atrium",))):
        names = [f"{folder}_{i}" for i in range(POOL + DEVTEST)]
        for name in names:
            _write(data / folder, name, rng, len(prompts))
        table = {str(value): TASKS[p].name for value, p in enumerate(prompts, start=1)}
        (data / folder / "dataset.json").write_text(json.dumps({"order": names, "labels": table}))
        for value, prompt in enumerate(prompts, start=1):
            tasks[prompt] = {
                "dataset": folder,
                "label": value,
                "pool": names[:POOL],
                "labelled_10": names[:1],
                "labelled_20": names[:2],
                "devtest": names[POOL:],
            }
    (data / "small.json").write_text(json.dumps({"name": "small", "tasks": tasks}))
    return data


def _write(folder: Path, name: str, rng: np.random.Generator, balls: int) -> None:
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in SHAPE), indexing="ij"), axis=-1)
    labels = np.zeros(SHAPE, np.uint8)
    for value in range(1, balls + 1):
        centre = np.array([*rng.uniform(10, 14, 2), 16.0 * value - 8 + rng.uniform(-1, 1)])
        labels[((grid - centre) ** 2).sum(axis=-1) < 25] = value
    levels = np.array([-60, 60, 200] if balls == 2 else [60, 180])
    values = (levels[labels] + rng.normal(0, 10, SHAPE)).astype(np.int16)
    if balls == 1:
        values = np.maximum(values, 0)
    for part, array in (("imagesTr", values), ("labelsTr", labels)):
        (folder / part).mkdir(parents=True, exist_ok=True)
        image = sitk.GetImageFromArray(array)
        image.SetSpacing([2.5, 2.5, 2.5])
        sitk.WriteImage(image, str(folder / part / f"{name}.nii.gz"))


class StandIn:
    """A learner whose packs are names and whose Dice is `dice(pack, case)`."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.libraries: dict[str, CaseLibrary] = {}
        self.digest = "d" * 64

    def base(self, story: Story, folder: Path) -> Learnt:
        self.calls.append(f"base {story.name}")
        (folder / "pack").mkdir(parents=True, exist_ok=True)
        return Learnt(self._pack(folder, "base"), 60.0, 4)

    def start(self, story: Story, base: Any, like: str, folder: Path) -> Any:
        self.calls.append(f"start {like}")
        return self._pack(folder, f"like {like}")

    def tuned(self, story: Story, library: Path, parent: Any, method: str, folder: Path) -> Learnt:
        self.calls.append(f"tuned {folder.name} from {parent.version}")
        self.libraries[folder.name] = CaseLibrary.open(library)
        return Learnt(self._pack(folder, "tuned"), 3.0, 9, "available", "Passed: it is better.")

    def scratch(self, story: Story, library: CaseLibrary, folder: Path) -> Learnt:
        self.calls.append(f"scratch {folder.name}")
        self.libraries[folder.name] = library
        return Learnt(self._pack(folder, "scratch"), 3.0, 9)

    def answer(self, pack: Any, image: sitk.Image, prompt: str) -> sitk.Image:
        found = np.zeros(image.GetSize()[::-1], np.uint8)
        found[:4] = TASKS[prompt].label
        labels = sitk.GetImageFromArray(found)
        labels.CopyInformation(image)
        return labels

    def ranked(self, library: CaseLibrary, pack: Any, prompt: str) -> list[str]:
        self.calls.append("ranked")
        return [case.name for case in reversed(library.cases())]

    def measured(
        self, pack: Any, cases: Sequence[LabelledCase], labels: Mapping[str, int]
    ) -> list[dict[str, Any]]:
        shifted = any("-scans" in str(case.image) for case in cases)
        self.calls.append(f"measured {pack.version} {'shifted' * shifted or 'as is'}")
        return [row(case.name, 0.6 if shifted else 0.8, task) for case in cases for task in labels]

    def _pack(self, folder: Path, version: str) -> Any:
        return SimpleNamespace(name="stand-in", version=version, path=folder, digest=self.digest)


def row(case: str, dice: float | None, task: str = "left_atrium") -> dict[str, Any]:
    """A row of `evaluate`."""
    return {
        "case": case,
        "task": task,
        "dice": dice,
        "hd95_mm": 4.0,
        "assd_mm": 1.0,
        "outcome": "both_present",
    }


def result(run: Run, dice: Sequence[float], **more: Any) -> dict[str, Any]:
    """A result with made-up numbers."""
    return {
        **run.described(),
        "base": None if run.way == "from-scratch" else "d" * 64,
        "corrected": [],
        "state": "available" if run.way in ("versemi", "labels-only") else "",
        "reason": "Passed: it is better." if run.way in ("versemi", "labels-only") else "",
        "seconds": 900.0,
        "steps": 700,
        "hardware": "2 cores of a machine",
        "cases": [row(f"case {i}", value) for i, value in enumerate(dice)],
        **more,
    }


def made_up(settings: Settings) -> list[dict[str, Any]]:
    """A result for every run: versemi best, fresh networks worst, more corrections better."""
    rng = np.random.default_rng(3)
    level = {"versemi": 0.72, "labels-only": 0.70, "from-scratch": 0.5, "base": 0.55}
    found = []
    for run in whole_plan(settings):
        story = settings.stories[run.story]
        gain = 0.05 * np.log2(max(1, run.corrections)) + 0.02 * (run.order == "ranked")
        around = level[run.way] + gain
        dice = np.clip(around + rng.normal(0, 0.03, 8), 0, 1).round(4).tolist()
        more: dict[str, Any] = {}
        if run.way == "base" and story.shift:
            more["unshifted"] = [row(f"case {i}", 0.88) for i in range(8)]
        if run.way != "from-scratch":
            others = [p for p in ("liver", "right_kidney", "left_atrium") if p != story.prompt]
            more["others"] = {
                p: {"dice": round(0.9 + rng.normal(0, 0.002), 4), "cases": 4} for p in others
            }
        found.append(result(run, dice, **more))
    return found
