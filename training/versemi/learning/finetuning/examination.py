"""Measures a run's parent and its stages, each scan once, and asks the gate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from versemi.caselibrary import Case
from versemi.evaluation import mean_of_known
from versemi.inference import Segmenter
from versemi.learning.finetuning.gate import Agreed, HeldOut, Verdict, judge
from versemi.learning.finetuning.material import Material, new_prompts
from versemi.learning.finetuning.measuring import (
    agreement,
    keep_labels,
    kept_labels,
    measure,
    other_prompts,
)
from versemi.learning.finetuning.plan import Plan, too_short
from versemi.learning.finetuning.split import Split, Stage
from versemi.learning.finetuning.state import Work
from versemi.learning.finetuning.watch import Watch
from versemi.modelpack import ModelPack


class Examination:
    """What is measured in a run; each number is in the run's state as soon as it is known.

    Args:
        work: of the run.
        watch: its clock.
        material: what it learns from.
        split: of the corrected cases.
        parent: the run's copy of the parent.
        pack: gives the pack of a stage at a share of the way from the parent.
        device: as for `Segmenter`.
    """

    def __init__(
        self,
        work: Work,
        watch: Watch,
        material: Material,
        split: Split,
        parent: ModelPack,
        pack: Callable[[Stage, float], ModelPack],
        device: str,
    ) -> None:
        self._work = work
        self._watch = watch
        self._material = material
        self._split = split
        self._parent = parent
        self._pack = pack
        self._device = device
        self._measured: dict[str, Any] = work.data["measured"]

    @property
    def held_out(self) -> list[str]:
        """The held-out cases of all stages."""
        return [c.case.id for stage in self._split.stages for c in stage.held_out]

    def parent_on(self, ids: Sequence[str], limit: float | None = None) -> list[str]:
        """Measure the parent on scans.

        Args:
            ids: of the scans.
            limit: after so many seconds of the run no further scan is begun, but for the first.

        Returns:
            Those that were measured.

        Raises:
            InputError: the time of the run is over; the message says what would do.
        """
        segmenter = Segmenter(self._parent, self._device)
        done: list[str] = []
        for id in ids:
            if done and limit is not None and self._watch.used > limit:
                break
            if self._watch.left < 0:
                spent = self.costs([i for i in ids if f"parent {i}" in self._measured])
                raise too_short(self._watch, len(ids) * max(spent.values(), default=0.0))
            done.append(id)
            key = f"parent {id}"
            if key in self._measured:
                continue
            self._watch.say(f"Measuring the parent on {id}")
            case = self._case(id)
            learnt = next((c for c in self._material.corrected if c.case.id == id), None)
            others = other_prompts(self._material, self._parent, case)
            found = measure(segmenter, case, learnt, others, self._watch)
            if found.labels is not None:
                keep_labels(found.labels, self._work.answer(id))
            self._measured[key] = found.to_json()
            self._work.keep(self._watch.used)
        self._show_parents_dice()
        return done

    def costs(self, ids: Sequence[str]) -> dict[str, float]:
        """Seconds that the parent took on scans on which it was measured."""
        return {id: float(self._measured[f"parent {id}"]["seconds"]) for id in ids}

    def known(self, share: float, plan: Plan) -> bool:
        """Whether everything was measured already, before the run was stopped."""
        final = self._split.stages[-1]
        keys = [_key(s, share, c.case.id) for s in self._split.stages for c in s.held_out]
        keys += [_key(final, share, id) for id in plan.compared]
        return all(key in self._measured for key in keys)

    def verdict(self, share: float, plan: Plan) -> Verdict:
        """Measure all stages at a share of the way from the parent, and judge.

        A held-out case says nothing of a prompt that its stage had no corrected case of.
        """
        held_out: list[HeldOut] = []
        agreed: list[Agreed] = []
        final = self._split.stages[-1]
        for stage in self._split.stages:
            held = {c.case.id: c for c in stage.held_out}
            compared = plan.compared if stage is final else []
            taught = {p for c in stage.learnt for p in c.prompts}
            for id in dict.fromkeys([*held, *compared]):
                row = self._tuned_on(stage, share, id, id in held, id in compared)
                agreed += [Agreed(id, p, d) for p, d in row["agreement"].items()]
                before = self._measured[f"parent {id}"]["dice"]
                held_out += [
                    HeldOut(id, p, there, before[p][1], dice)
                    for p, (there, dice) in row["dice"].items()
                    if p in taught
                ]
        verdict = judge(self._material.prompts, new_prompts(self._parent), held_out, agreed)
        self._watch.dice |= {
            p: row["tuned"] for p, row in verdict.dice.items() if row["tuned"] is not None
        }
        return verdict

    def _tuned_on(
        self, stage: Stage, share: float, id: str, held: bool, compared: bool
    ) -> dict[str, Any]:
        key = _key(stage, share, id)
        if key not in self._measured:
            self._watch.say(f"Measuring what was learnt on {id}")
            case = self._case(id)
            learnt = next((c for c in stage.held_out if held and c.case.id == id), None)
            others = other_prompts(self._material, self._parent, case) if compared else ()
            segmenter = Segmenter(self._pack(stage, share), self._device)
            found = measure(segmenter, case, learnt, others, self._watch)
            rows: list[Agreed] = []
            if found.labels is not None:
                rows = agreement(case, others, kept_labels(self._work.answer(id)), found.labels)
            agreed = {row.prompt: row.dice for row in rows}
            self._measured[key] = {**found.to_json(), "agreement": agreed}
            self._work.keep(self._watch.used)
        return dict(self._measured[key])

    def _case(self, id: str) -> Case:
        return next(case for case in self._material.cases if case.id == id)

    def _show_parents_dice(self) -> None:
        for prompt in self._material.prompts:
            rows = [v["dice"] for k, v in self._measured.items() if k.startswith("parent ")]
            mean = mean_of_known([row[prompt][1] for row in rows if prompt in row])
            if mean is not None:
                self._watch.dice[prompt] = mean


def _key(stage: Stage, share: float, id: str) -> str:
    return f"{stage.name} {share:g} {id}"
