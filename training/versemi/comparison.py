"""Two packs on the same labelled cases: what became better, what worse, and where."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import SimpleITK as sitk

from versemi.errors import InputError
from versemi.evaluation import RULE, LabelledCase, evaluate, mean_of_known
from versemi.images import read_image, read_label_map

if TYPE_CHECKING:
    from versemi.geometry import Roi
    from versemi.inference import Segmentation, Segmenter
    from versemi.modelpack import ModelPack
    from versemi.tasks import Task

#: Smaller differences of Dice are not told apart.
_SAME = 5e-4
_SIDES = ("before", "after")

Progress = Callable[[float, str], None]


def compare(
    packs: tuple[ModelPack, ModelPack],
    cases: Sequence[LabelledCase],
    labels: Mapping[str, int],
    make_segmenter: Callable[[ModelPack], Segmenter],
    *,
    roi: Roi | None = None,
    pictures: Path | None = None,
    most: int = 4,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Measure two packs on the same cases, one pack after the other.

    Args:
        packs: before and after. A prompt that only one of them knows is measured with that one.
        cases: what to measure on, at least one.
        labels: for each prompt its value in the label maps.
        make_segmenter: builds a pack's network.
        roi: restricts the segmentation of every case.
        pictures: folder for a PNG of each of the cases that changed most; None for no pictures.
        most: how many cases that are.
        progress: called with a fraction 0..1 and a sentence.

    Returns:
        Plain data for JSON: ``before`` and ``after`` name the packs; ``tasks`` has for each prompt
        the mean Dice of both over the cases where both are defined, their difference, and how
        many cases became better, worse, or stayed; ``cases`` has a row for each case and prompt;
        ``pictures`` has their paths. Dice is a fraction 0..1; None is undefined or not known.

    Raises:
        InputError: a prompt is known to neither pack, the cases cannot be used (see
            `versemi.evaluation.evaluate`), or pictures cannot be drawn here.
        PackError: weights do not fit, or a pack was deleted meanwhile.
        OutputError: a picture could not be written.
    """
    if pictures is not None:
        need_matplotlib()
    for prompt in labels:
        if prompt not in packs[0].task_ids:
            packs[1].settings(prompt)
    reports, answers = [], []
    for number, pack in enumerate(packs):
        known = {prompt: value for prompt, value in labels.items() if prompt in pack.task_ids}
        report, kept = _measure(
            pack, cases, known, make_segmenter, roi, pictures is not None, _half(progress, number)
        )
        reports.append(report)
        answers.append(kept)
    rows = _rows(cases, labels, reports)
    result: dict[str, Any] = {
        **{s: _pack(p) for s, p in zip(_SIDES, packs, strict=True)},
        "tasks": {
            prompt: {"label": value, **_summary([r for r in rows if r["task"] == prompt])}
            for prompt, value in labels.items()
        },
        "cases": rows,
        "warnings": list(dict.fromkeys(w for report in reports for w in report["warnings"])),
        "rule": RULE,
        "device": next((report["device"] for report in reversed(reports) if report["device"]), ""),
        "pictures": [],
    }
    if pictures is not None:
        for row in changed_most(rows, most):
            index = next(i for i, case in enumerate(cases) if case.name == row["case"])
            of_case = [side[index] if side else None for side in answers]
            path = _picture(packs, cases[index], row, of_case, pictures)
            result["pictures"].append(str(path))
    return result


def changed_most(rows: Sequence[Mapping[str, Any]], most: int) -> list[Mapping[str, Any]]:
    """The rows whose Dice changed most, at most one a case, the largest change first."""
    chosen: dict[str, Mapping[str, Any]] = {}
    for row in sorted(rows, key=lambda row: -abs(_gain(row))):
        if abs(_gain(row)) >= _SAME:
            chosen.setdefault(row["case"], row)
    return list(chosen.values())[:most]


def need_matplotlib() -> None:
    """Drawing wants more than segmenting does; say so before anything is computed.

    Raises:
        InputError: matplotlib is missing.
    """
    if find_spec("matplotlib") is None:
        raise InputError(
            "Pictures need matplotlib; install the extra: pip install 'versemi[train]', or leave"
            " --pictures out."
        )


class _Recorder:
    """A segmenter whose label maps are kept, packed, in the order of the cases."""

    def __init__(self, segmenter: Segmenter) -> None:
        self._segmenter = segmenter
        self.pack = segmenter.pack
        self.device = segmenter.device
        self.answers: list[bytes] = []

    def segment(self, image: sitk.Image, tasks: Sequence[str], **options: Any) -> Segmentation:
        result = self._segmenter.segment(image, tasks, **options)
        values = sitk.GetArrayViewFromImage(result.label_map).astype(np.uint8)
        self.answers.append(zlib.compress(values.tobytes(), 1))
        return result


def _measure(
    pack: ModelPack,
    cases: Sequence[LabelledCase],
    labels: Mapping[str, int],
    make_segmenter: Callable[[ModelPack], Segmenter],
    roi: Roi | None,
    keep: bool,
    progress: Progress | None,
) -> tuple[dict[str, Any], list[bytes]]:
    if not labels:
        return {"cases": [], "warnings": [], "device": ""}, []
    segmenter = make_segmenter(pack)
    recorder = _Recorder(segmenter)
    answering = cast("Segmenter", recorder) if keep else segmenter
    report = evaluate(answering, cases, labels, roi=roi, progress=progress)
    return report, recorder.answers


def _rows(
    cases: Sequence[LabelledCase], labels: Mapping[str, int], reports: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    found = [{(row["case"], row["task"]): row for row in report["cases"]} for report in reports]
    rows = []
    for prompt in labels:
        for case in cases:
            row: dict[str, Any] = {"case": case.name, "task": prompt, "label": labels[prompt]}
            for side, of_pack in zip(_SIDES, found, strict=True):
                measured = of_pack.get((case.name, prompt))
                row[side] = measured["dice"] if measured else None
                row[f"{side}_outcome"] = measured["outcome"] if measured else "unknown_prompt"
            both = row["before"] is not None and row["after"] is not None
            row["change"] = row["after"] - row["before"] if both else None
            rows.append(row)
    return rows


def _summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Means over the cases that both can be compared on; all there are, where one is unknown."""
    both = [row for row in rows if row["change"] is not None]
    known = both or rows
    gains = [
        _gain(row)
        for row in rows
        if "unknown_prompt" not in (row["before_outcome"], row["after_outcome"])
    ]
    return {
        **{side: mean_of_known([row[side] for row in known]) for side in _SIDES},
        "change": mean_of_known([row["change"] for row in both]),
        "cases": len(both),
        "better": sum(gain >= _SAME for gain in gains),
        "worse": sum(gain <= -_SAME for gain in gains),
        "same": sum(abs(gain) < _SAME for gain in gains),
    }


def _gain(row: Mapping[str, Any]) -> float:
    """After minus before, where finding nothing where nothing is counts as right.

    A version that does not know the prompt counts as one that finds nothing.
    """
    outcomes = [row[f"{side}_outcome"] for side in _SIDES]
    if "both_empty" in outcomes and "unknown_prompt" in outcomes:
        return 0.0
    worth = [
        1.0 if outcome == "both_empty" else row[side] or 0.0
        for side, outcome in zip(_SIDES, outcomes, strict=True)
    ]
    return float(worth[1] - worth[0])


def _picture(
    packs: tuple[ModelPack, ModelPack],
    case: LabelledCase,
    row: Mapping[str, Any],
    answers: Sequence[bytes | None],
    folder: Path,
) -> Path:
    from versemi.comparisonpicture import draw

    image = read_image(case.image).image
    task, limits = _described(packs, row["task"])
    shape = image.GetSize()[::-1]
    masks = {"reference": sitk.GetArrayFromImage(read_label_map(case.label)) == row["label"]}
    dice = []
    for side, pack, packed in zip(_SIDES, packs, answers, strict=True):
        if packed is None or task.id not in pack.task_ids:
            masks[side] = np.zeros(shape, bool)
            dice.append("unknown prompt")
            continue
        values = np.frombuffer(zlib.decompress(packed), np.uint8).reshape(shape)
        masks[side] = values == task.label
        dice.append("nothing there" if row[side] is None else f"{row[side]:.3f}")
    name = re.sub(r"[^\w.+-]", "_", f"{case.name}_{task.id}")
    return draw(
        image,
        masks,
        folder / f"{name}.png",
        title=f"{case.name}, {task.name}. Dice: {dice[0]} before, {dice[1]} after",
        limits=limits,
    )


def _described(
    packs: tuple[ModelPack, ModelPack], prompt: str
) -> tuple[Task, tuple[float, float] | None]:
    """A prompt, and the window in which its packs look at a scan, if that is fixed."""
    pack = packs[1] if prompt in packs[1].task_ids else packs[0]
    task = pack.settings(prompt).task
    group = pack.manifest.groups.get(task.group)
    return task, group.limits if group and group.normalisation == "window" else None


def _pack(pack: ModelPack) -> dict[str, str]:
    return {"name": pack.name, "version": pack.version, "sha256": pack.digest}


def _half(progress: Progress | None, number: int) -> Progress | None:
    if progress is None:
        return None
    return lambda fraction, sentence: progress(
        (number + fraction) / 2, f"{_SIDES[number].capitalize()}: {sentence}"
    )
