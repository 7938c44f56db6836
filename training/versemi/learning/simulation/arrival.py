"""How the cases of a story come into a library, and which of them are corrected."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from versemi.caselibrary import CaseLibrary
from versemi.errors import InputError
from versemi.evaluation import LabelledCase
from versemi.export import write_text
from versemi.images import read_image, read_label_map
from versemi.modelpack import ModelPack
from versemi.tasks import get_task

_ORDER = "order.json"
_SOURCE = "versemi simulate"


def arrive(folder: Path, stream: Sequence[LabelledCase], modality: str) -> CaseLibrary:
    """A library of all scans of a stream, unlabelled; goes on with one that is not complete.

    Raises:
        InputError: a scan cannot be read.
        OutputError: the library cannot be written.
    """
    library = CaseLibrary.create(folder)
    there = {case.name for case in library.cases()}
    for case in stream:
        if case.name not in there:
            image = read_image(case.image).image
            library.add(image, name=case.name, modality=modality, source=_SOURCE)
    return library


def correction_order(
    folder: Path, stream: Sequence[LabelledCase], seed: int | None, ranked: Callable[[], list[str]]
) -> list[str]:
    """Names of a stream's cases in the order of their correction.

    The order stands in ``order.json`` from then on: a ranking would come out otherwise once
    cases of the library are corrected.

    Args:
        folder: of the run.
        stream: in the order of arrival.
        seed: of a random order; None for the order that `ranked` gives.
        ranked: names of the cases, the first to correct first.

    Raises:
        InputError: the order that is kept is of another stream.
        OutputError: it cannot be kept.
    """
    path = folder / _ORDER
    names = [case.name for case in stream]
    if not path.is_file():
        if seed is None:
            order = ranked()
        else:
            order = [names[i] for i in np.random.default_rng(seed).permutation(len(names))]
        write_text(json.dumps(order) + "\n", path)
    kept = [str(name) for name in json.loads(path.read_text(encoding="utf-8"))]
    if sorted(kept) != sorted(names):
        raise InputError(
            f"{path} orders other cases than arrive in this story; take {folder} away to run it"
            " anew."
        )
    return kept


def correct(
    library: CaseLibrary,
    cases: Sequence[LabelledCase],
    value: int,
    prompt: str,
    parent: ModelPack | None,
    answer: Callable[[sitk.Image], sitk.Image],
) -> None:
    """Add the reference labels of some cases as corrections, one after the other.

    Args:
        library: which has the scans.
        cases: to correct, in this order; those that are corrected already are left as they are.
        value: of the prompt in the reference label maps.
        prompt: what is corrected.
        parent: the pack whose answer is corrected; None where the user paints without one.
        answer: gives that pack's label map of a scan.

    Raises:
        InputError: a scan or its label cannot be read.
        OutputError: the library cannot be written.
    """
    done = {case.name for case in library.cases() if prompt in case.prompts}
    task = get_task(prompt)
    for case in cases:
        if case.name in done:
            continue
        image = read_image(case.image).image
        reference = sitk.GetArrayFromImage(read_label_map(case.label))
        painted = np.where(reference == value, task.label, 0).astype(np.uint8)
        labels = sitk.GetImageFromArray(painted)
        labels.CopyInformation(image)
        library.add(
            image,
            name=case.name,
            modality=task.modality,
            labels=labels,
            prompts=[prompt],
            predicted=answer(image) if parent else None,
            parent=f"{parent.name} {parent.version}" if parent else None,
            source=_SOURCE,
        )
