"""False positives outside the trained region: what prompts find where their structure cannot be.

Labels are not needed for that: on a scan of the brain every voxel of *spleen* is wrong. Which data
sets exclude which prompts stands in :mod:`versemi.learning.anatomy`; four scans without anything in
them exclude every prompt.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from versemi.evaluation import find_cases
from versemi.geometry import Roi, image_corners
from versemi.images import read_image
from versemi.inference import Segmenter
from versemi.learning.anatomy import SHOWN, excluded
from versemi.learning.configuration import RunSettings
from versemi.learning.sources import case_lists
from versemi.modelpack import ModelPack
from versemi.tasks import get_task

Progress = Callable[[float, str], None]

SEED = 2026
EMPTY = "empty"
#: Edge of the part of a large scan in which a prompt is asked that learnt from crops.
MIDDLE_MM = 128.0
#: Voxels ``(z, y, x)`` and mm ``(x, y, z)``: 128 x 128 x 120 mm.
_EMPTY_SHAPE = (48, 64, 64)
_EMPTY_SPACING = (2.0, 2.0, 2.5)
#: Intensities of the scans that hold nothing, by name.
EMPTY_SCANS: dict[str, Callable[[np.random.Generator], np.ndarray]] = {
    "ct_noise": lambda chance: chance.normal(50, 100, _EMPTY_SHAPE),
    "ct_air": lambda chance: chance.normal(-1000, 10, _EMPTY_SHAPE),
    "mr_noise": lambda chance: chance.rayleigh(100, _EMPTY_SHAPE),
    "mr_air": lambda chance: chance.normal(10, 1, _EMPTY_SHAPE),
}

RULE = (
    "On scans that were kept out of training and on which anatomy excludes the structure"
    " (docs/false-positives.md), and on four empty scans; one prompt asked at a time, also across"
    " modalities. Every voxel found is wrong. Given are the scans with any voxel and the mean"
    " volume in millilitres over all the scans, those without a voxel included. A prompt that the"
    " pack does not search for, since it learnt from crops, is asked in the middle"
    f" {MIDDLE_MM:g} mm of a larger scan. The empty scans, made with the seed {SEED}: CT noise"
    " (normal, 50 HU, standard deviation 100), CT air (normal, -1000 HU, 10), MR noise (Rayleigh,"
    " scale 100) and MR air (normal, 10, standard deviation 1)."
)


@dataclass(frozen=True)
class Stranger:
    """A scan with the prompts that cannot be on it.

    Attributes:
        dataset: the folder that it comes from, or ``"empty"``.
        name: the case's.
        prompts: identifiers, at least one.
        read: gives the scan.
    """

    dataset: str
    name: str
    prompts: tuple[str, ...]
    read: Callable[[], sitk.Image]


def strangers(settings: RunSettings, data: Path, prompts: tuple[str, ...]) -> list[Stranger]:
    """The held-out scans of a run that exclude some prompt, and the empty scans.

    Args:
        settings: the run's, which name the scans.
        data: folder that holds the data sets' folders.
        prompts: what can be asked.

    Raises:
        InputError: a data set cannot be used.
    """
    found: dict[tuple[str, str], Stranger] = {}
    for source in settings.sources:
        folder = str(source["folder"])
        absent, names = excluded(folder, prompts), case_lists(source, data).measured
        if absent and names:
            for case in find_cases(data / folder, names):
                # Several tasks of a benchmark may share a data set: each scan once.
                read = partial(_read, case.image)
                found[folder, case.name] = Stranger(folder, case.name, absent, read)
    empty = [Stranger(EMPTY, name, prompts, partial(empty_scan, name)) for name in EMPTY_SCANS]
    return [*found.values(), *empty]


def empty_scan(name: str) -> sitk.Image:
    """A scan of 128 x 128 x 120 mm that holds nothing, float32; the same each time.

    Args:
        name: of :data:`EMPTY_SCANS`.
    """
    chance = np.random.default_rng([SEED, zlib.crc32(name.encode())])
    image = sitk.GetImageFromArray(EMPTY_SCANS[name](chance).astype(np.float32))
    image.SetSpacing(_EMPTY_SPACING)
    return image


def measure_strangers(
    segmenter: Segmenter, found: Sequence[Stranger], progress: Progress | None = None
) -> list[dict[str, Any]]:
    """Ask each prompt on each scan that cannot hold its structure.

    Args:
        segmenter: of the pack.
        found: of :func:`strangers`.
        progress: told a fraction and a sentence.

    Returns:
        ``dataset``, ``case``, ``task`` and ``ml`` of each answer.

    Raises:
        InputError: a scan cannot be read.
    """
    rows = []
    for number, stranger in enumerate(found):
        image = stranger.read()
        for index, prompt in enumerate(stranger.prompts):
            if progress is not None:
                done = (number + index / len(stranger.prompts)) / len(found)
                progress(done, f"{stranger.name}: no {get_task(prompt).name.lower()} can be there")
            # Each alone, so that no prompt takes another's false voxels.
            result = segmenter.segment(
                image,
                [prompt],
                roi=_where(image, prompt, segmenter.pack),
                modality=get_task(prompt).modality,
            )
            rows.append(
                {
                    "dataset": stranger.dataset,
                    "case": stranger.name,
                    "task": prompt,
                    "ml": result.volumes_ml[prompt],
                }
            )
    return rows


def summary(rows: Sequence[Mapping[str, Any]], prompts: tuple[str, ...]) -> dict[str, Any]:
    """What some prompts found on strangers.

    Args:
        rows: of :func:`measure_strangers`.
        prompts: which of them.

    Returns:
        Plain data: under ``tasks``, by prompt and data set, ``scans``, ``with_any_voxel`` and
        ``mean_ml``; ``cases``, the rows; and the ``rule``.
    """
    mine = [row for row in rows if row["task"] in prompts]
    tasks: dict[str, dict[str, Any]] = {}
    for prompt in prompts:
        by_set: dict[str, list[float]] = {}
        for row in mine:
            if row["task"] == prompt:
                by_set.setdefault(row["dataset"], []).append(row["ml"])
        tasks[prompt] = {
            dataset: {
                "scans": len(ml),
                "with_any_voxel": sum(v > 0 for v in ml),
                "mean_ml": round(sum(ml) / len(ml), 4),
            }
            for dataset, ml in by_set.items()
        }
    return {"tasks": tasks, "cases": mine, "rule": RULE}


def card_lines(reports: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The part of a model card: rule and table, a row a prompt and a column a data set.

    Args:
        reports: by source, each with what :func:`summary` gave under ``false_positives``.
    """
    tasks = {
        prompt: of_sets
        for report in reports.values()
        for prompt, of_sets in report["false_positives"]["tasks"].items()
    }
    names = {name for of_sets in tasks.values() for name in of_sets}
    columns = [name for name in (*SHOWN, EMPTY) if name in names]
    lines = [
        f"| prompt | {' | '.join(c if c != EMPTY else 'empty scans' for c in columns)} |",
        "|---" * (len(columns) + 1) + "|",
    ]
    for prompt, of_sets in tasks.items():
        cells = [_cell(of_sets[column]) if column in of_sets else "-" for column in columns]
        lines.append(f"| {get_task(prompt).name} | {' | '.join(cells)} |")
    return [RULE, "", *lines]


def _cell(measured: Mapping[str, Any]) -> str:
    return (
        f"{measured['with_any_voxel']} of {measured['scans']} scans, {measured['mean_ml']:.2f} ml"
    )


def _where(image: sitk.Image, prompt: str, pack: ModelPack) -> Roi | None:
    """The middle of a large scan for a prompt that learnt from crops; else everywhere."""
    corners = image_corners(image)
    low, high = corners.min(axis=0), corners.max(axis=0)
    if pack.settings(prompt).search or (high - low).max() <= MIDDLE_MM:
        return None
    middle, half = (low + high) / 2, np.minimum(high - low, MIDDLE_MM) / 2
    (x0, y0, z0), (x1, y1, z1) = middle - half, middle + half
    # From LPS, where the corners are, to RAS.
    return Roi.from_bounds((-x1, -x0, -y1, -y0, z0, z1))


def _read(path: Path) -> sitk.Image:
    return read_image(path).image
