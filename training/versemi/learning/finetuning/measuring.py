"""Dice on corrected cases and agreement with the parent, on whole scans through `Segmenter`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from versemi.caselibrary import Case
from versemi.errors import Cancelled, InputError, OutputError
from versemi.export import replacing
from versemi.images import read_image, read_label_map
from versemi.inference import Segmenter
from versemi.learning.finetuning.gate import Agreed
from versemi.learning.finetuning.material import Corrected, Material
from versemi.learning.finetuning.split import Split
from versemi.learning.finetuning.watch import CANCELLED, Watch
from versemi.modelpack import ModelPack
from versemi.tasks import TASKS

#: At most so many whole scans are compared with the parent's answers.
AGREEMENT_SCANS = 4


@dataclass(frozen=True)
class Measured:
    """One pack on one scan.

    Attributes:
        dice: for each learnt prompt that the label covers whether the label has it, and the
            Dice; None where label and answer are both empty.
        labels: the answer under all other prompts of the scan's groups, uint8 ``(z, y, x)`` on
            its own grid; None where it was not asked for, or there is no other prompt.
        seconds: that it took.
    """

    dice: Mapping[str, tuple[bool, float | None]]
    labels: np.ndarray | None
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """What the state keeps of it."""
        return {"dice": {p: list(v) for p, v in self.dice.items()}, "seconds": self.seconds}


def other_prompts(material: Material, pack: ModelPack, case: Case) -> tuple[str, ...]:
    """The prompts of a scan's groups that are not learnt, in the order of the pack."""
    groups = material.groups_of(case)
    return tuple(p for p in pack.task_ids if TASKS[p].group in groups and p not in material.prompts)


def agreement_cases(material: Material, split: Split, pack: ModelPack, count: int) -> list[Case]:
    """The scans on which the other prompts are compared with the parent's answers.

    Args:
        material: of the run.
        split: of its corrected cases.
        pack: the parent.
        count: how many at most.

    Returns:
        Those held out of the final run first, which it never saw, then unlabelled ones, then
        corrected ones; by identifier among each.
    """
    held = {c.case.id for c in split.stages[-1].held_out}
    corrected = {c.case.id for c in material.corrected}
    ordered = sorted(
        (case for case in material.cases if other_prompts(material, pack, case)),
        key=lambda case: (case.id not in held, case.id in corrected, case.id),
    )
    return ordered[:count]


def measure(
    segmenter: Segmenter,
    case: Case,
    learnt: Corrected | None,
    others: Sequence[str],
    watch: Watch,
) -> Measured:
    """Segment one scan whole; its features are computed once for both questions.

    Args:
        segmenter: with the pack.
        case: the scan.
        learnt: the corrected case whose label to compare with; None for no comparison.
        others: the prompts whose answer to keep.
        watch: the clock; asked whether to stop between windows.

    Raises:
        Cancelled: somebody has asked to stop.
        InputError: the scan or its label cannot be read.
    """
    watch.go_on()
    begun = watch.used
    image = read_image(case.image_path).image

    def answer(prompts: Sequence[str]) -> np.ndarray:
        try:
            result = segmenter.segment(
                image, prompts, modality=case.modality, cancel=watch.asked_to_stop
            )
        except Cancelled:
            raise Cancelled(CANCELLED) from None
        return sitk.GetArrayFromImage(result.label_map)

    dice: dict[str, tuple[bool, float | None]] = {}
    if learnt is not None:
        assert case.label_path is not None
        reference = sitk.GetArrayFromImage(read_label_map(case.label_path))
        found = answer(learnt.prompts)
        if found.shape != reference.shape:
            raise InputError(
                f"The label of the case {case.id} lies on another grid than its scan; run 'versemi"
                " library verify'."
            )
        for prompt, value in zip(learnt.prompts, learnt.values, strict=True):
            there = reference == value
            dice[prompt] = (bool(there.any()), _dice(found == TASKS[prompt].label, there))
    labels = answer(others) if others else None
    segmenter.forget()
    return Measured(dice, labels, watch.used - begun)


def agreement(
    case: Case, prompts: Sequence[str], parent: np.ndarray, tuned: np.ndarray
) -> list[Agreed]:
    """Compare two answers under some prompts, uint8 ``(z, y, x)`` each."""
    rows = []
    for prompt in prompts:
        value = _dice(tuned == TASKS[prompt].label, parent == TASKS[prompt].label)
        rows.append(Agreed(case.id, prompt, 1.0 if value is None else value))
    return rows


def keep_labels(labels: np.ndarray, path: Path) -> None:
    """Write an answer, compressed and whole.

    Raises:
        OutputError: it cannot be written.
    """
    with replacing(path) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(stream, labels=labels)


def kept_labels(path: Path) -> np.ndarray:
    """Read what `keep_labels` has written.

    Raises:
        OutputError: it is damaged.
    """
    try:
        with np.load(path) as data:
            return np.asarray(data["labels"])
    except (OSError, ValueError, KeyError) as error:
        raise OutputError(
            f"The parent's answer {path} cannot be read any more ({error}); remove the folder"
            f" {path.parents[1]} to begin anew."
        ) from None


def _dice(first: np.ndarray, second: np.ndarray) -> float | None:
    """Dice of two masks, 0..1; None where both are empty."""
    size = int(first.sum()) + int(second.sum())
    return 2 * int((first & second).sum()) / size if size else None
