"""What a library has to teach: corrected cases, unlabelled ones, and what is left out."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from versemi.caselibrary import Case, CaseLibrary
from versemi.errors import InputError
from versemi.modelpack import ModelPack
from versemi.tasks import FOREGROUND, TASKS, is_own


@dataclass(frozen=True)
class Corrected:
    """A corrected case.

    Attributes:
        case: of the library.
        prompts: those that its label covers and that are learnt now.
        values: for each of them its value in the label map.
    """

    case: Case
    prompts: tuple[str, ...]
    values: tuple[int, ...]


@dataclass(frozen=True)
class Material:
    """What a run learns from.

    Attributes:
        prompts: what is learnt, in the order of the pack.
        corrected: cases with a label of one of them, by identifier.
        unlabelled: other scans of their modalities, by identifier. The label of such a case, if
            it has one, covers nothing that is learnt now.
        notes: sentences on what is left out.
    """

    prompts: tuple[str, ...]
    corrected: tuple[Corrected, ...]
    unlabelled: tuple[Case, ...]
    notes: tuple[str, ...]

    @property
    def groups(self) -> tuple[str, ...]:
        """The prompt groups that are learnt, in a fixed order."""
        return tuple(sorted({TASKS[p].group for p in self.prompts}))

    @property
    def cases(self) -> tuple[Case, ...]:
        """All scans that are looked at, by identifier."""
        found = (*(c.case for c in self.corrected), *self.unlabelled)
        return tuple(sorted(found, key=lambda case: case.id))

    def groups_of(self, case: Case) -> tuple[str, ...]:
        """The learnt groups that a scan may belong to; its modality says no more."""
        groups = {TASKS[p].group for p in self.prompts if TASKS[p].modality == case.modality}
        return tuple(sorted(groups))

    def described(self) -> dict[str, Any]:
        """What makes this material and no other, as plain data."""
        return {
            "prompts": list(self.prompts),
            "corrected": {
                c.case.id: {"version": c.case.version, "prompts": list(c.prompts)}
                for c in self.corrected
            },
            "unlabelled": [case.id for case in self.unlabelled],
        }


def new_prompts(pack: ModelPack) -> frozenset[str]:
    """Prompts that a user has added to the pack, and that nothing was measured of yet."""
    added = pack.manifest.training.get("added", {})
    return frozenset(
        p.task.id
        for p in pack.manifest.prompts
        if p.dice is None and (is_own(p.task) or p.task.id == added.get("prompt"))
    )


def material_of(library: Path, pack: ModelPack, prompts: Sequence[str] = ()) -> Material:
    """Read what a library has to teach to a pack.

    Args:
        library: its folder.
        pack: what is to learn; its own prompts are known from then on.
        prompts: what to learn; all prompts that some label covers where empty.

    Raises:
        InputError: there is no library, a newer version made it, no case is corrected, or a
            prompt is not known to the pack, is covered by no case, or is in another group there,
            or the prompts are of groups that do not share a network.
    """
    opened = CaseLibrary.open(library)
    cases = sorted(opened.cases(), key=lambda case: case.id)
    known = opened.tasks
    labelled = [case for case in cases if case.label_path is not None and case.prompts]
    if not labelled:
        raise InputError(
            f"The library {library} has no corrected case ({len(cases)} without a label); correct"
            " a segmentation and keep it, or add a scan with 'versemi library add --label'."
        )
    covered = {p for case in labelled for p in case.prompts}
    notes = []
    for prompt in dict.fromkeys(prompts):
        _check(prompt, covered, pack, library)
    chosen = set(prompts) or covered & set(pack.task_ids)
    foreign = covered - set(pack.task_ids)
    if not chosen:
        _refuse_unknown(min(foreign), pack)
    if foreign and not prompts:
        notes.append(
            f"Left out, as the pack {pack.name} {pack.version} does not know them:"
            f" {', '.join(sorted(foreign))}; 'versemi tasks add' gives it one more."
        )
    ordered = tuple(p for p in pack.task_ids if p in chosen)
    for prompt in ordered:
        _check_group(prompt, pack)
    ordered, parted = _of_one_network(ordered, labelled, pack)
    if parted and prompts:
        raise InputError(
            f"In the pack {pack.name} {pack.version} {ordered[0]} and {parted[0]} cannot learn"
            " together, for their groups have networks of their own, or are to get one; learn one"
            " after the other."
        )
    if parted:
        notes.append(
            "Left out, as their group has a network of its own in the pack"
            f" {pack.name} {pack.version}, or is to get one: {', '.join(parted)}; learn them in a"
            " run of their own."
        )
    corrected = []
    for case in labelled:
        own = tuple(p for p in ordered if p in case.prompts)
        if own:
            corrected.append(Corrected(case, own, tuple(known[p].label for p in own)))
    modalities = {TASKS[p].modality for p in ordered}
    taken = {c.case.id for c in corrected}
    rest = [case for case in cases if case.id not in taken]
    strange = [case for case in rest if case.modality not in modalities]
    if strange:
        notes.append(
            f"Left out, as they are no {' or '.join(sorted(modalities))} like the corrected cases:"
            f" {', '.join(case.id for case in strange)}."
        )
    unlabelled = tuple(case for case in rest if case.modality in modalities)
    return Material(ordered, tuple(corrected), unlabelled, tuple(notes))


def _check(prompt: str, covered: Collection[str], pack: ModelPack, library: Path) -> None:
    if prompt not in pack.task_ids:
        _refuse_unknown(prompt, pack)
    if prompt not in covered:
        raise InputError(
            f"No corrected case of the library {library} covers the prompt '{prompt}'; covered"
            f" are {', '.join(sorted(covered))}."
        )


def _of_one_network(
    prompts: Sequence[str], labelled: Sequence[Case], pack: ModelPack
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The prompts of the network that most labels speak about, and those of other networks."""
    cases: dict[str, int] = {}
    for prompt in prompts:
        name = _network(prompt, pack)
        cases[name] = cases.get(name, 0) + sum(prompt in case.prompts for case in labelled)
    most = max(cases, key=lambda name: cases[name])
    kept = tuple(p for p in prompts if _network(p, pack) == most)
    return kept, tuple(p for p in prompts if p not in kept)


def _network(prompt: str, pack: ModelPack) -> str:
    """The name of a prompt's network, or of that which a user's own prompt is to get."""
    group = TASKS[prompt].group
    name = pack.network_of(group)
    others = (pack.network_of(other) for other in pack.manifest.groups if other != group)
    return group if is_own(TASKS[prompt]) and name in others else name


def _check_group(prompt: str, pack: ModelPack) -> None:
    theirs, ours = pack.settings(prompt).task.group, TASKS[prompt].group
    if theirs != ours:
        raise InputError(
            f"The pack {pack.name} {pack.version} prepares scans for '{prompt}' as the group"
            f" '{theirs}', and this version learns it as '{ours}'; fine-tune a newer pack, or"
            " choose other prompts with --prompts."
        )


def _refuse_unknown(prompt: str, pack: ModelPack) -> None:
    if prompt == FOREGROUND:
        raise InputError(
            "The prompt 'foreground' is learnt with every other; name the structures themselves."
        )
    raise InputError(
        f"The pack {pack.name} {pack.version} does not know the prompt '{prompt}'; give it that"
        " prompt first with 'versemi tasks add', and fine-tune the pack that it writes."
    )
