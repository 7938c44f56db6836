"""From a run's list of data sets to prepared scans."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from versemi.errors import InputError
from versemi.learning.anatomy import excluded
from versemi.learning.augmentation import GeometryRange
from versemi.learning.cache import CachedCase, cached_case
from versemi.learning.folders import DataFolder
from versemi.preprocessing import DEFAULT_GROUPS, GroupSettings
from versemi.tasks import TASKS, get_task, prompts_of


@dataclass(frozen=True)
class Source:
    """Scans of one data set at one spacing, with what their labels cover.

    Attributes:
        name: for logs.
        modality: ``"CT"`` or ``"MR"``.
        group: prompt group of the scans.
        prompts: identifiers that every label of the source covers; all others are unknown there.
            Empty for scans that only teach what cannot be on them.
        excluded: identifiers of structures that cannot be on its scans.
        cases: prepared scans with labels.
        unlabelled: prepared scans to learn from without labels. One that has labels here is
            unlabelled for the prompts that they do not cover, and others of the run may be of
            another data set.
        spacing: mm, ``(z, y, x)``.
        crop: voxels, ``(z, y, x)``.
        batch: crops in a micro-batch.
        weight: how often the source is drawn, relative to the others.
        overhang: how far a crop may hang over the scan's border, as a share of the crop.
        centred: share of labelled crops that are centred near a voxel of a random covered prompt.
        negatives: share of labelled crops that are also asked one excluded prompt.
        geometry: augmentation of this source.
    """

    name: str
    modality: str
    group: str
    prompts: tuple[str, ...]
    cases: tuple[CachedCase, ...]
    unlabelled: tuple[CachedCase, ...]
    spacing: tuple[float, float, float]
    crop: tuple[int, int, int]
    batch: int = 1
    weight: float = 1.0
    excluded: tuple[str, ...] = ()
    negatives: float = 0.0
    centred: float = 0.7
    overhang: float = 0.125
    geometry: GeometryRange = field(default_factory=GeometryRange)

    def uncovered(self, case: CachedCase, prompts: Sequence[str]) -> list[str]:
        """Those of some prompts that no label of one of the unlabelled cases covers."""
        return [p for p in prompts if not case.labelled or p not in self.prompts]


@dataclass(frozen=True)
class CaseLists:
    """Which cases of a data set are for what, by name.

    Attributes:
        labelled: trained on with their labels.
        unlabelled: trained on without.
        measured: never trained on.
    """

    labelled: tuple[str, ...]
    unlabelled: tuple[str, ...]
    measured: tuple[str, ...]


def case_lists(entry: Mapping[str, Any], data: Path) -> CaseLists:
    """Read a data set's rules, as ``base.yaml`` explains them.

    Args:
        entry: of the run's ``sources``.
        data: folder that holds the data sets' folders.

    Raises:
        InputError: the folder, or a protocol that the entry names, cannot be used, or a case to
            measure on is missing.
    """
    return _lists(entry, DataFolder.open(data / entry["folder"]), data)


def _lists(entry: Mapping[str, Any], folder: DataFolder, data: Path) -> CaseLists:
    measured = _measured(entry.get("measure", []), folder, data)
    for name in measured:
        # Not hours later, when the run has ended and is to be measured.
        folder.image(name)
        folder.label(name)
    if "labelled" in entry:
        labelled = tuple(str(name) for name in entry["labelled"])
        unlabelled = tuple(str(name) for name in entry.get("unlabelled", ()))
    else:
        rest = [name for name in folder.order if name not in set(measured)]
        labelled = tuple(name for name in rest if name in folder.labels)
        # Every case is unlabelled for the prompts that its labels do not cover.
        unlabelled = tuple(rest)
    return CaseLists(labelled, unlabelled, measured)


def build_sources(
    entries: Sequence[Mapping[str, Any]],
    data: Path,
    cache: Path,
    *,
    unlabelled: bool,
    groups: Mapping[str, GroupSettings] = DEFAULT_GROUPS,
) -> list[Source]:
    """Prepare every scan of a run.

    Args:
        entries: the run's ``sources``; one without ``labels`` teaches only what cannot be there,
            by its ``strange_groups``. The scans of those that an entry has in ``unlabelled_from``
            are unlabelled for its prompts, and are prepared as its own.
        data: folder that holds the data sets' folders.
        cache: folder for prepared scans.
        unlabelled: whether the run looks at unlabelled scans.
        groups: how scans are prepared.

    Raises:
        InputError: a scan, a label or a table of labels cannot be used, or nothing is left to
            train on.
        OutputError: the cache cannot be written.
    """
    prompts = [str(p) for entry in entries for p in entry["labels"].values()]
    sources = []
    borrowed = [_borrowed(entry, entries) for entry in entries]
    for entry, unlabelled_too in zip(entries, borrowed, strict=True):
        if entry["labels"]:
            own, weight = groups[entry["group"]], float(entry["weight"])
            fine = _source(entry, own, data, cache, 1.0, weight, unlabelled)
            if unlabelled:
                others = _prepared_without_labels(unlabelled_too, own, data, cache)
                fine = replace(fine, unlabelled=(*fine.unlabelled, *others))
            found = [fine]
            if entry.get("coarse_weight"):
                weight = float(entry["coarse_weight"])
                found.append(_source(entry, own, data, cache, own.coarse, weight, unlabelled))
            sources += [_with_uncovered(source, prompts) for source in found]
        for name, share in entry.get("strange_groups", {}).items():
            sources.append(_strange_source(entry, str(name), groups[name], share, data, cache))
    return sources


def _source(
    entry: Mapping[str, Any],
    group: GroupSettings,
    data: Path,
    cache: Path,
    scale: float,
    weight: float,
    unlabelled: bool,
) -> Source:
    folder = DataFolder.open(data / entry["folder"])
    lists = _lists(entry, folder, data)
    if not lists.labelled:
        raise InputError(
            f"{folder.path} has no labelled case to train on ({len(folder.images)} scans, "
            f"{len(folder.labels)} label maps, {len(lists.measured)} kept for measuring); add "
            "label maps to labelsTr."
        )
    prompts = tuple(str(p) for p in entry["labels"].values())
    # What the data set labels but this run does not ask for is background to it.
    values = dict.fromkeys(folder.table, 0)
    values |= {int(v): get_task(p).label for v, p in entry["labels"].items()}

    def prepared(name: str, label: Path | None) -> CachedCase:
        return cached_case(name, folder.image(name), label, values, group, scale, cache)

    cases = {name: prepared(name, folder.label(name)) for name in lists.labelled}
    others = tuple(
        cases[name] if name in cases else prepared(name, None)
        for name in (lists.unlabelled if unlabelled else ())
    )
    z, y, x = (float(s) * scale for s in reversed(group.spacing))
    flips = entry.get("flips", (0.0, 0.0, 0.0))
    negatives = float(entry.get("negatives", 0.0))
    return Source(
        name=entry["name"] if scale == 1.0 else f"{entry['name']}_coarse",
        modality=get_task(prompts[0]).modality,
        group=str(entry["group"]),
        prompts=prompts,
        cases=tuple(cases.values()),
        unlabelled=others,
        spacing=(z, y, x),
        crop=tuple(entry["crop"]),
        batch=int(entry.get("batch", 1)),
        weight=weight,
        excluded=excluded(str(entry["folder"]), tuple(TASKS)) if negatives else (),
        negatives=negatives,
        centred=float(entry.get("centred", 0.7)),
        overhang=float(entry.get("overhang", 0.125)),
        geometry=GeometryRange(
            flips=tuple(float(f) for f in flips),  # type: ignore[arg-type]
            **{key: float(value) for key, value in entry.get("geometry", {}).items()},
        ),
    )


def _with_uncovered(source: Source, prompts: Sequence[str]) -> Source:
    """The source without the unlabelled cases whose labels cover every prompt of its group."""
    asked = prompts_of(source.group, prompts)
    uncovered = tuple(case for case in source.unlabelled if source.uncovered(case, asked))
    return replace(source, unlabelled=uncovered)


def _borrowed(
    entry: Mapping[str, Any], entries: Sequence[Mapping[str, Any]]
) -> list[Mapping[str, Any]]:
    """The other data sets of the run whose scans are unlabelled for an entry's prompts."""
    named = {str(other["name"]): other for other in entries}
    names = entry.get("unlabelled_from", ())
    for name in names:
        if name not in named or name == entry["name"]:
            others = ", ".join(n for n in named if n != entry["name"]) or "none"
            raise InputError(
                f"The source {entry['name']} is to learn from the unlabelled scans of '{name}', "
                f"which is no other source of this run; the others are {others}."
            )
    return [named[name] for name in names]


def _prepared_without_labels(
    entries: Sequence[Mapping[str, Any]], group: GroupSettings, data: Path, cache: Path
) -> list[CachedCase]:
    """All scans of some data sets but those kept for measuring, prepared for a group."""
    cases = []
    for entry in entries:
        folder = DataFolder.open(data / entry["folder"])
        lists = _lists(entry, folder, data)
        cases += [
            cached_case(case, folder.image(case), None, {}, group, 1.0, cache)
            for case in dict.fromkeys((*lists.labelled, *lists.unlabelled))
        ]
    return cases


def _strange_source(
    entry: Mapping[str, Any],
    group: str,
    settings: GroupSettings,
    share: Mapping[str, Any],
    data: Path,
    cache: Path,
) -> Source:
    """The scans of a data set as a group prepares its own, though its structures are not on them.

    A CT prompt may be asked on an MR scan, which is then prepared as a CT. No label is needed to
    know that the answer is nothing.
    """
    folder = DataFolder.open(data / entry["folder"])
    absent = excluded(str(entry["folder"]), tuple(prompts_of(group, TASKS)))
    if not absent:
        raise InputError(
            f"{folder.path} cannot be a stranger to the group {group}: no prompt of that group "
            "is known to be absent from its scans; take it out of strange_groups."
        )
    z, y, x = (float(s) for s in reversed(settings.spacing))
    return Source(
        name=f"{entry['name']}_as_{group}",
        modality=TASKS[absent[0]].modality,
        group=group,
        prompts=(),
        cases=tuple(
            cached_case(name, folder.image(name), None, {}, settings, 1.0, cache)
            for name in _lists(entry, folder, data).labelled
        ),
        unlabelled=(),
        spacing=(z, y, x),
        crop=tuple(share["crop"]),
        batch=int(share.get("batch", 1)),
        weight=float(share["weight"]),
        excluded=absent,
        negatives=1.0,
    )


def _measured(rule: Any, folder: DataFolder, data: Path) -> tuple[str, ...]:
    if isinstance(rule, (list, tuple)):
        return tuple(str(name) for name in rule)
    if "last" in rule:
        return folder.order[max(len(folder.order) - int(rule["last"]), 0) :]
    path = data / rule["protocol"]
    try:
        protocol = json.loads(path.read_text(encoding="utf-8"))
        return tuple(str(name) for name in protocol["tasks"][rule["task"]]["devtest"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"The protocol {path} cannot be used: {error!r}.") from None
