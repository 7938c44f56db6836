"""Adding a scan or a correction: everything is checked before anything is written."""

from __future__ import annotations

import errno
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

import SimpleITK as sitk

from versemi.caselibrary.case import (
    CASES,
    IMAGES,
    LABELS,
    RECORD,
    SUFFIX,
    Case,
    Record,
    StoredFile,
    Version,
    make_id,
    sha256_of,
)
from versemi.caselibrary.datasetjson import stage_repetitions
from versemi.caselibrary.descriptions import check_agreement, chosen
from versemi.caselibrary.identity import Grid, identify
from versemi.caselibrary.labels import (
    check_label_map,
    check_reviewed,
    equal,
    holds,
    merge,
    on_stored_grid,
    whole_numbers,
)
from versemi.caselibrary.transaction import Transaction
from versemi.errors import InputError
from versemi.headers import check_header
from versemi.images import check_image, guess_modality
from versemi.tasks import Task

MODALITIES = ("CT", "MR")
_COMPRESSION_LEVEL = 1


@dataclass(frozen=True)
class Draft:
    """A scan with its label maps, checked as far as can be without the library.

    Attributes:
        image: 3D, one value a voxel.
        labels: unsigned whole numbers on the image's grid, or None.
        predicted: likewise.
        reviewed: what `labels` covers.
        digest, grid: what the scan is recognised by.
    """

    image: sitk.Image
    name: str
    modality: str
    labels: sitk.Image | None
    predicted: sitk.Image | None
    reviewed: tuple[Task, ...]
    parent: str | None
    source: str
    digest: str
    grid: Grid


def prepare(
    image: sitk.Image,
    *,
    name: str,
    modality: str,
    labels: sitk.Image | None,
    prompts: Sequence[str],
    predicted: sitk.Image | None,
    parent: str | None,
    source: str,
    tasks: Mapping[str, Task],
) -> Draft:
    """Check what is to be added; arguments are those of `CaseLibrary.add`.

    Args:
        tasks: all prompts that there are.

    Raises:
        InputError: it cannot be used.
    """
    if modality not in MODALITIES:
        raise InputError(f"The modality '{modality}' is not known; it is CT or MR.")
    if labels is None and prompts:
        raise InputError(
            f"There is no label map that could cover {', '.join(prompts)}; give one, or add the"
            " scan without prompts."
        )
    if labels is not None and not prompts:
        raise InputError(
            "The correction is empty: no prompt is marked as reviewed; say which prompts the label"
            " map covers."
        )
    reviewed = chosen(prompts, tasks, modality)
    image = check_image(image, name)
    if labels is not None:
        values = check_label_map(labels, image, tasks, "The label map")
        check_reviewed(values, reviewed, tasks)
        labels = whole_numbers(labels)
    elif (looks := guess_modality(image)) != modality:
        has = "has" if looks == "CT" else "lacks"
        raise InputError(
            f"{name} is said to be {modality} and looks like {looks}: it {has} values of fat and"
            " air in Hounsfield units (-50 and below); give its true modality, and CT in"
            " Hounsfield units."
        )
    if predicted is not None:
        check_label_map(predicted, image, tasks, "The predicted label map")
        predicted = whole_numbers(predicted)
    digest, grid = identify(image)
    return Draft(image, name, modality, labels, predicted, reviewed, parent, source, digest, grid)


def add(folder: Path, draft: Draft, records: Sequence[Record]) -> Case:
    """Write a draft into the library as a new case, or as a new version of one that is there.

    Args:
        folder: the library, whose lock the caller holds.
        draft: what to add.
        records: all that the library has.

    Raises:
        InputError: nothing in it is new, or the library means something else by its labels.
        OutputError: it cannot be written; the library is as it was.
    """
    check_agreement([task for record in records for task in record.tasks], draft.reviewed)
    before = _find(records, draft)
    with Transaction(folder) as transaction:
        if before is None:
            record = _new_case(transaction, draft)
        else:
            record = _new_version(transaction, draft, before)
        others = [other for other in records if other.id != record.id]
        everyone = sorted([*others, record], key=lambda record: record.id)
        # Last of those that are not mere repetitions: it makes the others count.
        transaction.stage_text(folder / CASES / record.id / RECORD, record.to_text())
        stage_repetitions(transaction, everyone)
    return record.case(folder)


def _find(records: Sequence[Record], draft: Draft) -> Record | None:
    """The record of the same scan, if it is in the library and may be corrected."""
    for record in records:
        if record.digest != draft.digest or not Grid.from_json(record.grid).same_as(draft.grid):
            continue
        where = f"is in the library already, as '{record.name}' (case {record.id})"
        if draft.labels is None:
            raise InputError(
                f"The scan {where}; add it with a label map to correct it, or leave it."
            )
        if record.modality != draft.modality:
            raise InputError(
                f"The scan {where}, and is {record.modality} there, not {draft.modality}; correct"
                " the modality."
            )
        return record
    return None


def _new_case(transaction: Transaction, draft: Draft) -> Record:
    folder = transaction.root
    if draft.labels is not None:
        _check_content(draft, draft.labels, draft.predicted)

    def taken(id: str) -> bool:
        # A file without a record is nobody's case, but it is not ours to write over either.
        places = (CASES, id, RECORD), (IMAGES, f"{id}{SUFFIX}"), (LABELS, f"{id}{SUFFIX}")
        return any(folder.joinpath(*place).exists() for place in places)

    id = make_id(draft.name, taken)
    return Record(
        id=id,
        name=draft.name,
        modality=draft.modality,
        source=draft.source,
        digest=draft.digest,
        grid=draft.grid.to_json(),
        image=_write(transaction, draft.image, f"{IMAGES}/{id}{SUFFIX}"),
        versions=(_version(transaction, id, draft, draft.labels, draft.predicted, None),),
        tasks=draft.reviewed,
    )


def _new_version(transaction: Transaction, draft: Draft, before: Record) -> Record:
    folder = transaction.root
    assert draft.labels is not None
    try:
        labels = on_stored_grid(draft.labels, folder / before.image.path)
        predicted = None
        if draft.predicted is not None:
            predicted = on_stored_grid(draft.predicted, folder / before.image.path)
        earlier = _read(folder, before.newest.label)
        answered = _read(folder, before.predicted) if predicted is None else predicted
    except RuntimeError:
        raise InputError(
            f"The scan is in the library as '{before.name}' (case {before.id}), and files of that"
            " case cannot be read; run 'versemi library verify' and add it again."
        ) from None
    _check_content(draft, labels, answered, earlier)
    if earlier is not None:
        labels = merge(earlier, labels, draft.reviewed)
        covered = set(before.newest.prompts)
        if equal(labels, earlier) and covered.issuperset(task.id for task in draft.reviewed):
            raise InputError(
                f"This correction is in the library already, as version {before.newest.number} of"
                f" '{before.name}' (case {before.id}); there is nothing to add."
            )
    version = _version(transaction, before.id, draft, labels, predicted, before)
    known = {task.id: task for task in (*before.tasks, *draft.reviewed)}
    return replace(
        before,
        versions=(*before.versions, version),
        tasks=tuple(known[id] for id in version.prompts),
    )


def _version(
    transaction: Transaction,
    id: str,
    draft: Draft,
    labels: sitk.Image | None,
    predicted: sitk.Image | None,
    before: Record | None,
) -> Version:
    """Stage the label maps of a case's next version."""
    number = (before.newest.number if before else 0) + (labels is not None)
    covered = {task.id: task for task in (*(before.tasks if before else ()), *draft.reviewed)}

    def write(image: sitk.Image | None, what: str) -> StoredFile | None:
        path = f"{CASES}/{id}/{what}_v{number}{SUFFIX}"
        return _write(transaction, image, path) if image is not None else None

    return Version(
        number=number,
        time=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        prompts=tuple(t.id for t in sorted(covered.values(), key=lambda task: task.label)),
        reviewed=tuple(task.id for task in draft.reviewed),
        parent=draft.parent,
        label=write(labels, "label"),
        predicted=write(predicted, "predicted"),
    )


def _write(transaction: Transaction, image: sitk.Image, path: str) -> StoredFile:
    """Stage an image under its path in the library."""
    temporary = transaction.stage(transaction.root / path)
    try:
        sitk.WriteImage(image, str(temporary), True, _COMPRESSION_LEVEL)
        # The NIfTI writer does not notice a full disk, but the end of the file is missing then.
        check_header(temporary)
    except (RuntimeError, InputError) as error:
        raise OSError(errno.ENOSPC, str(error)) from error
    return StoredFile(path, sha256_of(temporary))


def _read(folder: Path, file: StoredFile | None) -> sitk.Image | None:
    return sitk.ReadImage(str(folder / file.path)) if file else None


def _check_content(draft: Draft, *maps: sitk.Image | None) -> None:
    """Refuse a correction that has painted nothing, where there was nothing to erase either."""
    if any(holds(image, draft.reviewed) for image in maps if image is not None):
        return
    names = " or ".join(task.id for task in draft.reviewed)
    raise InputError(
        f"The correction is empty: it labels no voxel as {names}, and there was none before;"
        " paint the structure, or keep the scan without a label."
    )
