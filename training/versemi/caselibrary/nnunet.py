"""A raw data set of nnU-Net v2, with its ignore label where a label map knows nothing.

nnU-Net learns nothing from voxels of the ignore label (Isensee et al., nnU-Net v2). A case whose
label does not cover a prompt keeps the voxels that are known to be something; all its other
voxels may be that structure, so they are neither it nor background.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from versemi.caselibrary.case import IMAGES, LABELS, SUFFIX, Case
from versemi.caselibrary.datasetjson import DATASET, channel_name
from versemi.caselibrary.descriptions import chosen, to_json
from versemi.caselibrary.transaction import PART
from versemi.errors import InputError, OutputError
from versemi.export import write_text, write_volume
from versemi.tasks import Task

IGNORE = "ignore"
_CHANNEL = "_0000"


def export(
    cases: Sequence[Case],
    tasks: Mapping[str, Task],
    folder: Path,
    modality: str | None,
    prompts: Sequence[str] | None,
) -> Path:
    """Write a library's cases as a data set; see `CaseLibrary.export_nnunet`."""
    labelled = [case for case in cases if case.label_path]
    modality = _one_modality(labelled, modality)
    labelled = [case for case in labelled if case.modality == modality]
    if prompts is None:
        prompts = [prompt for case in labelled for prompt in case.prompts]
    wanted = chosen(prompts, tasks, modality)
    used = [case for case in labelled if {task.id for task in wanted} & set(case.prompts)]
    if not used:
        names = ", ".join(task.id for task in wanted) or "any prompt"
        raise InputError(
            f"No {modality} case of the library has a label that covers {names}; add a corrected"
            " case first, or choose other prompts."
        )
    temporary = folder.with_name(f"{PART}{uuid.uuid4().hex[:8]}-{folder.name}")
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise InputError(f"{folder} is there already and not empty; give a new folder.")
        _write(temporary, used, wanted, modality, tasks)
        if folder.is_dir():
            folder.rmdir()
        os.replace(temporary, folder)
    except OSError as error:
        raise OutputError(
            f"The data set could not be written to {folder} ({error.strerror or error}); make room"
            " or choose another folder."
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def remap(labels: np.ndarray, covered: Sequence[Task], wanted: Sequence[Task]) -> np.ndarray:
    """Label values of the library as nnU-Net wants them.

    Args:
        labels: (D, H, W), a voxel's value is its prompt's label.
        covered: what this label map covers.
        wanted: the prompts of the data set, which get the values 1, 2, ...

    Returns:
        uint8, (D, H, W). Where `covered` lacks a wanted prompt, voxels of no structure carry
        ``len(wanted) + 1``. Voxels of a covered structure that is not wanted are background, for
        no voxel belongs to two structures.
    """
    missing = set(wanted) - set(covered)
    values = np.zeros(int(max(labels.max(initial=0), *(t.label for t in wanted))) + 1, np.uint8)
    values[0] = len(wanted) + 1 if missing else 0
    for number, task in enumerate(wanted, start=1):
        if task not in missing:
            values[task.label] = number
    return values[labels]


def _one_modality(labelled: Sequence[Case], asked: str | None) -> str:
    found = sorted({case.modality for case in labelled})
    if asked is None and len(found) > 1:
        raise InputError(
            f"The library has labelled cases of {' and '.join(found)}, and a data set of nnU-Net"
            " has one modality; say which."
        )
    if asked is None and not found:
        raise InputError("The library has no labelled case; add a corrected case first.")
    return asked or found[0]


def _write(
    folder: Path,
    cases: Sequence[Case],
    wanted: Sequence[Task],
    modality: str,
    tasks: Mapping[str, Task],
) -> None:
    (folder / IMAGES).mkdir(parents=True)
    ignoring = False
    for case in cases:
        shutil.copyfile(case.image_path, folder / IMAGES / f"{case.id}{_CHANNEL}{SUFFIX}")
        try:
            image = sitk.ReadImage(str(case.label_path))
        except RuntimeError:
            raise InputError(
                f"The label map {case.label_path} cannot be read; run 'versemi library verify'."
            ) from None
        covered = [tasks[id] for id in case.prompts]
        ignoring = ignoring or not set(wanted) <= set(covered)
        remapped = sitk.GetImageFromArray(remap(sitk.GetArrayViewFromImage(image), covered, wanted))
        remapped.CopyInformation(image)
        write_volume(remapped, folder / LABELS / f"{case.id}{SUFFIX}")
    values = {"background": 0, **{task.id: n for n, task in enumerate(wanted, start=1)}}
    if ignoring:
        values[IGNORE] = len(wanted) + 1
    content = {
        "name": "VerSemi",
        "description": "Written by 'versemi library export'.",
        "channel_names": {"0": channel_name([modality])},
        "labels": values,
        "numTraining": len(cases),
        "file_ending": SUFFIX,
        "training": [
            {
                "image": f"./{IMAGES}/{case.id}{_CHANNEL}{SUFFIX}",
                "label": f"./{LABELS}/{case.id}{SUFFIX}",
                "case": case.id,
                "version": case.version,
                "prompts": list(case.prompts),
            }
            for case in cases
        ],
        "tasks": [to_json(task) for task in wanted],
    }
    write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", folder / DATASET)
