"""``dataset.json`` and ``labelsTr/``: what a library tells programs that know only these.

Both repeat what the records say. A writer brings them up to date with each change, and makes up
for what an earlier writer, killed in between, left behind.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Container, Iterable, Sequence
from pathlib import Path
from typing import Any

from versemi.caselibrary.case import LABELS, SUFFIX, Record
from versemi.caselibrary.descriptions import to_json
from versemi.caselibrary.transaction import Transaction
from versemi.tasks import FOREGROUND, TASKS, Task

DATASET = "dataset.json"


def describe(records: Sequence[Record]) -> dict[str, Any]:
    """The content of ``dataset.json``: nnU-Net v2's form, with MONAI's lists beside it."""
    labelled = [record for record in records if record.newest.label]
    used = {task.id: task for record in labelled for task in record.tasks}
    return {
        "name": "VerSemi case library",
        "description": (
            "A VerSemi case library. A label map says something about the prompts that its entry"
            " in 'training' lists and nothing about all others: for nnU-Net, write a data set with"
            " 'versemi library export', where the ignore label says so."
        ),
        "channel_names": {"0": channel_name(record.modality for record in records)},
        "labels": _labels(used.values()),
        "numTraining": len(labelled),
        "file_ending": SUFFIX,
        # nnU-Net finds its pairs here, so that scans without a label may lie beside the others.
        "dataset": {
            record.id: {"images": [record.image.path], "label": f"{LABELS}/{record.id}{SUFFIX}"}
            for record in labelled
        },
        "training": [
            {
                "image": f"./{record.image.path}",
                "label": f"./{LABELS}/{record.id}{SUFFIX}",
                "case": record.id,
                "modality": record.modality,
                "version": record.newest.number,
                "prompts": list(record.newest.prompts),
            }
            for record in labelled
        ],
        "unlabelled": [
            {"image": f"./{record.image.path}", "case": record.id, "modality": record.modality}
            for record in records
            if not record.newest.label
        ],
        "tasks": [to_json(t) for t in sorted(used.values(), key=lambda task: task.label)],
    }


def channel_name(modalities: Iterable[str]) -> str:
    """What nnU-Net calls the channel; it normalises by Hounsfield units what is called CT."""
    return " or ".join(sorted(set(modalities))) or "image"


def stage_repetitions(
    transaction: Transaction, records: Sequence[Record], stale: Container[str] = ()
) -> None:
    """Stage ``dataset.json``, and those files of ``labelsTr/`` that are not of the newest version.

    Args:
        transaction: of the change, in which new label maps may be staged already.
        records: all cases as they will be.
        stale: cases whose file in ``labelsTr/`` is known to be another.
    """
    folder = transaction.root
    listed = _listed_versions(folder)
    for record in records:
        label = record.newest.label
        copy = folder / LABELS / f"{record.id}{SUFFIX}"
        current = listed.get(record.id) == record.newest.number and copy.is_file()
        if label and (record.id in stale or not current):
            source = transaction.staged(folder / label.path)
            if source.is_file():
                shutil.copyfile(source, transaction.stage(copy, following=True))
    content = json.dumps(describe(records), indent=1, ensure_ascii=False)
    transaction.stage_text(folder / DATASET, content + "\n", following=True)


def is_current(folder: Path, records: Sequence[Record]) -> bool:
    """Whether ``dataset.json`` says what the records say."""
    return _read(folder) == describe(records)


def _labels(used: Iterable[Task]) -> dict[str, int]:
    """Names and values without a gap, which nnU-Net asks for: what lies between is named, too."""
    names = {task.label: task.id for task in TASKS.values() if task.id != FOREGROUND}
    highest = 0
    for task in used:
        names[task.label] = task.id
        highest = max(highest, task.label)
    values = {names.get(value, f"unused_{value}"): value for value in range(1, highest + 1)}
    return {"background": 0, **values}


def _listed_versions(folder: Path) -> dict[str, int]:
    try:
        return {str(e["case"]): int(e["version"]) for e in _read(folder)["training"]}
    except (KeyError, TypeError, ValueError):
        return {}


def _read(folder: Path) -> Any:
    """The present file; None where it is missing or damaged, for it can be written anew."""
    try:
        return json.loads((folder / DATASET).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
