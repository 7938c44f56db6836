"""From a library's cases to prepared scans, each with what its label covers."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from versemi.caselibrary import Case
from versemi.learning.cache import CachedCase, cached_case
from versemi.learning.finetuning.material import Corrected, Material
from versemi.learning.sources import Source
from versemi.modelpack import ModelPack
from versemi.tasks import TASKS, prompts_of

_LARGEST_LABEL = 255
#: How often a coarse source is drawn, relative to the fine one of the same scans.
_COARSE = 0.25
#: Crops of up to so many voxels go in pairs: the time of a lone one is mostly waiting.
_SMALL = 200_000


def sources_of(
    material: Material,
    corrected: Collection[Corrected],
    pack: ModelPack,
    cache: Path,
    *,
    unlabelled: bool,
    check: Callable[[], None],
) -> list[Source]:
    """Prepare the scans of one run: a source for each group and set of covered prompts.

    What a label does not cover is taken out of it before anything else is done. A scan with a
    label is unlabelled for all other prompts. There are no flips: a label may cover one side only.

    Args:
        material: what there is.
        corrected: the corrected cases of this run.
        pack: says how scans are prepared.
        cache: folder for prepared scans.
        unlabelled: whether scans are looked at without their labels, too.
        check: called before each scan; what it raises ends the work.

    Raises:
        InputError: a scan or a label cannot be read.
        OutputError: the cache cannot be written.
    """
    sources = []
    for group in material.groups:
        settings = pack.manifest.groups[group]
        of_group = prompts_of(group, material.prompts)
        coverages: dict[tuple[str, ...], list[Corrected]] = {}
        for item in sorted(corrected, key=lambda c: c.case.id):
            own = tuple(p for p in item.prompts if p in of_group)
            if own:
                coverages.setdefault(own, []).append(item)
        searched = any(p.search for p in pack.manifest.prompts if p.task.group == group)
        scales = [1.0, settings.coarse] if searched and settings.coarse else [1.0]
        for scale in scales:

            def prepared(
                case: Case,
                values: dict[int, int] | None,
                group: str = group,
                scale: float = scale,
            ) -> CachedCase:
                check()
                label = case.label_path if values is not None else None
                settings = pack.manifest.groups[group]
                return cached_case(
                    case.id, case.image_path, label, values or {}, settings, scale, cache
                )

            others = tuple(
                prepared(case, None)
                for case in (material.unlabelled if unlabelled else ())
                if group in material.groups_of(case)
            )
            for own, items in coverages.items():
                scans = tuple(prepared(item.case, _values(item, own)) for item in items)
                name = f"{group}-{'+'.join(own)}" if len(coverages) > 1 else group
                z, y, x = (float(s) * scale for s in reversed(settings.spacing))
                sources.append(
                    Source(
                        name=name if scale == 1.0 else f"{name}-coarse",
                        modality=TASKS[own[0]].modality,
                        group=group,
                        prompts=own,
                        cases=scans,
                        unlabelled=(*scans, *others) if unlabelled else (),
                        spacing=(z, y, x),
                        crop=settings.window,
                        batch=2 if math.prod(settings.window) <= _SMALL else 1,
                        weight=len(items) * (1.0 if scale == 1.0 else _COARSE),
                    )
                )
    return sources


def _values(item: Corrected, own: Sequence[str]) -> dict[int, int]:
    """Every value of the label file -> the registry's label, 0 for what is not learnt."""
    values = dict.fromkeys(range(1, _LARGEST_LABEL + 1), 0)
    for prompt, value in zip(item.prompts, item.values, strict=True):
        if prompt in own:
            values[value] = TASKS[prompt].label
    return values
