"""A process that adds cases until it is killed, and says when it is inside a write."""

from __future__ import annotations

import os
import time
from multiprocessing.connection import Connection

import numpy as np
import phantoms
import SimpleITK as sitk

# All that an add needs, so that a process forked from this one starts with it.
from versemi.caselibrary import CaseLibrary, adding, transaction, verification  # noqa: F401

WRITING, IDLE = "writing", "idle"
#: What is added of each scan, one after the other: prompts by slice, None for no label.
STEPS: tuple[dict[str, list[int]] | None, ...] = (
    None,
    {"liver": [1, 2]},
    {"spleen": [2, 3]},
    {"liver": [0], "pancreas": [4]},
)
#: The label map of each version.
EXPECTED = {1: [0, 5, 5, 0, 0], 2: [0, 5, 3, 3, 0], 3: [5, 0, 3, 3, 4]}
PROMPTS = {1: ("liver",), 2: ("spleen", "liver"), 3: ("spleen", "pancreas", "liver")}


def scan(number: int) -> sitk.Image:
    """The scan of this number, which its voxels tell."""
    image = phantoms.ct(number)
    image[0, 0, 0] = number % 30000
    return image


def run(folder: str, log: str, phases: Connection, first: int) -> None:
    """Add cases for ever.

    Args:
        folder: a library.
        log: gets a line ``id version`` for each add that has returned, flushed to the disk.
        phases: told when the first file of a write is begun, and when the last is renamed, with
            how many seconds the last whole write took.
        first: number of the first scan.
    """
    began, length = 0.0, 0.02
    enter, leave = transaction.Transaction.__enter__, transaction.Transaction.__exit__

    def announced_enter(self):
        nonlocal began
        began = time.monotonic()
        phases.send((WRITING, length))
        return enter(self)

    def announced_leave(self, *error):
        nonlocal length
        leave(self, *error)
        length = time.monotonic() - began
        phases.send((IDLE, length))

    transaction.Transaction.__enter__ = announced_enter  # type: ignore[method-assign]
    transaction.Transaction.__exit__ = announced_leave  # type: ignore[method-assign]
    library = CaseLibrary.open(folder)
    number = first
    with open(log, "a", encoding="utf-8") as returned:
        while True:
            image = scan(number)
            for step in STEPS:
                labels = phantoms.labels(image, **step) if step else None
                case = library.add(
                    image,
                    name=f"n{number}",
                    modality="CT",
                    labels=labels,
                    prompts=list(step or ()),
                    predicted=labels,
                    parent="a model",
                )
                returned.write(f"{case.id} {case.version}\n")
                returned.flush()
                os.fsync(returned.fileno())
            number += 1


def check_case(case) -> None:
    """Check that a case is what `run` adds, in one of its versions."""
    image = sitk.ReadImage(str(case.image_path))
    wanted = scan(int(case.id.removeprefix("n").partition("_")[0]))
    assert np.array_equal(sitk.GetArrayFromImage(image), sitk.GetArrayFromImage(wanted))
    assert [entry["version"] for entry in case.history] == list(range(case.version + 1))
    if case.version == 0:
        assert case.label_path is None and case.prompts == ()
    else:
        label = sitk.ReadImage(str(case.label_path))
        assert phantoms.planes(label) == EXPECTED[case.version]
        assert case.prompts == PROMPTS[case.version] and case.parent == "a model"
