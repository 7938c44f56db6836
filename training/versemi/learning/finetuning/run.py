"""The whole of a fine-tuning: learn, measure, judge, deliver, all within its time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from versemi.errors import Cancelled, InputError, VersemiError
from versemi.inference import Segmenter
from versemi.learning.finetuning.course import interpolate, train
from versemi.learning.finetuning.delivery import STATES, Facts, deliver, next_version
from versemi.learning.finetuning.gate import Agreed, HeldOut, Verdict, judge
from versemi.learning.finetuning.material import Material, material_of, new_prompts
from versemi.learning.finetuning.measuring import (
    AGREEMENT_SCANS,
    agreement,
    agreement_cases,
    keep_labels,
    kept_labels,
    measure,
    other_prompts,
)
from versemi.learning.finetuning.objective import METHODS, Objective
from versemi.learning.finetuning.plan import Plan, make_plan
from versemi.learning.finetuning.sources import sources_of
from versemi.learning.finetuning.split import Split, Stage, split
from versemi.learning.finetuning.state import Work
from versemi.learning.finetuning.watch import Control, News, Watch
from versemi.modelpack import ModelPack, write_pack
from versemi.modelstore import ModelStore
from versemi.network import PromptedNetwork

#: Shares of the way from the parent's to the fine-tuned weights, the first that passes is kept.
SHARES = (1.0, 0.5, 0.25)


@dataclass(frozen=True)
class Outcome:
    """What came out.

    Attributes:
        pack: the new pack, whether it passed or not.
        state: ``"available"``, ``"provisional"`` or ``"kept aside"``.
        reason: why.
        report: every number, as ``finetuning.json`` has it.
    """

    pack: ModelPack
    state: str
    reason: str
    report: dict[str, Any]


def finetune(
    library: Path,
    pack: ModelPack,
    out: Path,
    *,
    minutes: float = 15.0,
    prompts: Sequence[str] = (),
    method: str = "versemi",
    store: ModelStore | None = None,
    device: str = "auto",
    workers: int = 1,
    tell: Callable[[News], None] | None = None,
    control: Control | None = None,
) -> Outcome:
    """Let a pack learn from a library, or go on with a run that was stopped.

    Args:
        library: folder of a case library; nothing in it is changed.
        pack: the parent; it stays as it is.
        out: folder of the new pack; ``OUT.work`` beside it holds the run until it is finished.
        minutes: bound of the whole, preparing and measuring included, pauses not.
        prompts: what to learn; all that some corrected case covers where empty.
        method: ``"versemi"``, or ``"labels-only"`` without any scan looked at without its label.
        store: gets the pack with its state, which is never made active; None for no store.
        device: as for :class:`Segmenter`.
        workers: processes that prepare crops.
        tell: takes the news of the run.
        control: pauses or ends it.

    Raises:
        InputError: the library teaches nothing to this pack, `out` is taken, or the time is too
            short.
        PackError: the pack is damaged or gone.
        OutputError: something cannot be written; the same call goes on once there is room.
        Cancelled: `control` said so.
    """
    if method not in METHODS:
        raise InputError(f"There is no method '{method}'; choose one of {', '.join(METHODS)}.")
    if not minutes > 0:
        raise InputError(f"A run of {minutes:g} minutes cannot learn; give more than 0.")
    control = control or Control()
    watch = Watch(minutes * 60, tell, control)
    watch.say("Reading the library")
    material = material_of(library, pack, prompts)
    work = Work.open(
        out,
        {
            "library": str(library.resolve()),
            "pack": pack.digest,
            "minutes": minutes,
            "method": method,
            "material": material.described(),
        },
    )
    watch.went_before(work.data["used"])
    try:
        with _time_kept(work, watch):
            run = _Run(work, watch, material, work.parent(pack), method, device, workers)
            return run.to_the_end(out, store, minutes)
    except Cancelled:
        if control.given_up:
            work.remove()
        raise


@contextmanager
def _time_kept(work: Work, watch: Watch) -> Iterator[None]:
    """Whatever ends the run, the time that it used is not forgotten."""
    try:
        yield
    finally:
        if work.folder.is_dir():
            work.data["used"] = watch.used
            with suppress(VersemiError):
                work.save()


class _Run:
    def __init__(
        self,
        work: Work,
        watch: Watch,
        material: Material,
        parent: ModelPack,
        method: str,
        device: str,
        workers: int,
    ) -> None:
        self.work = work
        self.watch = watch
        self.material = material
        self.parent = parent
        self.method = method
        self.device = device
        self.workers = workers
        self.split: Split = split(material.corrected)
        self.objective = Objective(material.prompts, unlabelled=method == "versemi")
        self._network = parent.build_network()

    def to_the_end(self, out: Path, store: ModelStore | None, minutes: float) -> Outcome:
        """All stages that are not finished yet."""
        if "delivered" not in self.work.data:
            plan = self._planned()
            for stage in self.split.stages:
                self._trained(stage, plan)
            share, verdict, tried = self._judged(plan)
            self.watch.say("Writing the pack")
            facts = Facts(
                parent=self.parent,
                material=self.material,
                split=self.split,
                verdict=verdict,
                share=share,
                tried=tried,
                method=self.method,
                minutes=minutes,
                seconds=self.watch.used,
                steps=int(self.work.data["stages"][self.split.stages[-1].name]["steps"]),
                measured=self.work.data["measured"],
            )
            version = next_version(self.parent, store)
            made = deliver(self._pack(self.split.stages[-1], share), facts, out, version)
            self.work.data["delivered"] = {
                "digest": made.digest,
                "standing": verdict.standing,
                "reason": verdict.reason,
                "report": facts.report(version),
            }
            self._keep()
        return self._handed_over(out, store)

    # Time -------------------------------------------------------------------------------------

    def _planned(self) -> Plan:
        """Measure the parent, and with that what measuring costs; then divide the time."""
        held = [c.case for stage in self.split.stages for c in stage.held_out]
        candidates = agreement_cases(self.material, self.split, self.parent, AGREEMENT_SCANS)
        segmenter = Segmenter(self.parent, self.device)
        for case in held:
            self._parent_on(case.id, segmenter)
        self._show_dice(parent=True)
        data = self.work.data
        if "plan" not in data:
            compared: list[str] = []
            for case in candidates:
                # One scan is compared whatever it costs; a large library must not eat the time.
                if compared and self.watch.used > self.watch.seconds / 4:
                    break
                self._parent_on(case.id, segmenter)
                compared.append(case.id)
            costs = {
                c: data["measured"][f"parent {c}"]["seconds"] for c in self._looked_at(compared)
            }
            try:
                plan = make_plan(self.watch, costs, [case.id for case in held], compared)
            except InputError:
                self.work.remove()
                raise
            data["plan"] = plan.to_json()
            self._keep()
        return Plan(**data["plan"])

    def _looked_at(self, compared: Sequence[str]) -> list[str]:
        held = [c.case.id for stage in self.split.stages for c in stage.held_out]
        return list(dict.fromkeys([*held, *compared]))

    def _parent_on(self, id: str, segmenter: Segmenter) -> None:
        key = f"parent {id}"
        if key in self.work.data["measured"]:
            return
        self.watch.say(f"Measuring the parent on {id}")
        case = next(case for case in self.material.cases if case.id == id)
        learnt = next((c for c in self.material.corrected if c.case.id == id), None)
        found = measure(
            segmenter, case, learnt, other_prompts(self.material, self.parent, case), self.watch
        )
        if found.labels is not None:
            keep_labels(found.labels, self._answer_file(id))
        self.work.data["measured"][key] = found.to_json()
        self._keep()

    # Learning ---------------------------------------------------------------------------------

    def _trained(self, stage: Stage, plan: Plan) -> None:
        """Train a stage, or go on with it; its pack is there afterwards."""
        stages = self.work.data.setdefault("stages", {})
        if stages.get(stage.name, {}).get("finished"):
            return
        sentence = f"Learning from {len(stage.learnt)} corrected cases"
        if stage.held_out and len(self.split.stages) > 1:
            sentence = f"{sentence}, to be measured on {len(stage.held_out)} others"
        self.watch.say("Preparing the scans")
        sources = sources_of(
            self.material,
            stage.learnt,
            self.parent,
            self.work.cache,
            unlabelled=self.objective.unlabelled,
            check=self.watch.go_on,
        )
        if stage.name not in stages:
            seconds = min(stage.share * plan.training, self.watch.left - plan.reserve)
            stages[stage.name] = {
                "begun": self.watch.used,
                "seconds": max(1.0, seconds),
                "finished": False,
            }
            self._keep()
        entry = stages[stage.name]
        folder = self.work.folder / stage.name
        network, entry["steps"] = train(
            self._network,
            self.objective,
            sources,
            folder,
            watch=self.watch,
            begun=entry["begun"],
            seconds=entry["seconds"],
            sentence=sentence,
            keep=self._keep,
            accelerator={"cuda": "gpu"}.get(self.device, self.device),
            workers=self.workers,
        )
        self._write(stage, 1.0, network)
        entry["finished"] = True
        self._keep()

    def _pack(self, stage: Stage, share: float) -> ModelPack:
        """The pack of a stage; one between it and the parent is made when it is first wanted."""
        folder = self._folder(stage, share)
        if not folder.is_dir():
            tuned = ModelPack.load(self._folder(stage, 1.0)).build_network()
            return self._write(stage, share, interpolate(self._network, tuned, share))
        return ModelPack.load(folder)

    def _write(self, stage: Stage, share: float, network: PromptedNetwork) -> ModelPack:
        return write_pack(self._folder(stage, share), network, self.parent.manifest)

    def _folder(self, stage: Stage, share: float) -> Path:
        return self.work.folder / f"{stage.name}-{round(share * 100)}"

    # Measuring --------------------------------------------------------------------------------

    def _judged(self, plan: Plan) -> tuple[float, Verdict, dict[str, str]]:
        """The largest share that passes; that of all weights if none does."""
        found: list[tuple[float, Verdict]] = []
        for share in SHARES:
            if found and not self._known(share, plan) and self.watch.left < plan.measuring:
                break
            verdict = self._verdict(share, plan)
            found.append((share, verdict))
            if verdict.passed:
                break
        share, verdict = found[-1] if found[-1][1].passed else found[0]
        return share, verdict, {f"{s:g}": v.reason for s, v in found}

    def _known(self, share: float, plan: Plan) -> bool:
        """Whether everything was measured already, before the run was stopped."""
        final = self.split.stages[-1]
        keys = [self._key(s, share, c.case.id) for s in self.split.stages for c in s.held_out]
        keys += [self._key(final, share, id) for id in plan.compared]
        return all(key in self.work.data["measured"] for key in keys)

    def _verdict(self, share: float, plan: Plan) -> Verdict:
        held_out: list[HeldOut] = []
        agreed: list[Agreed] = []
        final = self.split.stages[-1]
        for stage in self.split.stages:
            held = {c.case.id: c for c in stage.held_out}
            compared = plan.compared if stage is final else []
            for id in dict.fromkeys([*held, *compared]):
                row = self._tuned_on(stage, share, id, id in held, id in compared)
                agreed += [Agreed(id, p, d) for p, d in row["agreement"].items()]
                before = self.work.data["measured"][f"parent {id}"]["dice"]
                taught = {p for c in stage.learnt for p in c.prompts}
                held_out += [
                    HeldOut(id, p, there, before[p][1], dice)
                    for p, (there, dice) in row["dice"].items()
                    if p in taught
                ]
        verdict = judge(self.material.prompts, new_prompts(self.parent), held_out, agreed)
        self.watch.dice |= {
            p: row["tuned"] for p, row in verdict.dice.items() if row["tuned"] is not None
        }
        return verdict

    def _tuned_on(
        self, stage: Stage, share: float, id: str, held: bool, compared: bool
    ) -> dict[str, Any]:
        key = self._key(stage, share, id)
        if key not in self.work.data["measured"]:
            self.watch.say(f"Measuring what was learnt on {id}")
            case = next(case for case in self.material.cases if case.id == id)
            learnt = next((c for c in stage.held_out if held and c.case.id == id), None)
            others = other_prompts(self.material, self.parent, case) if compared else ()
            segmenter = Segmenter(self._pack(stage, share), self.device)
            found = measure(segmenter, case, learnt, others, self.watch)
            rows: list[Agreed] = []
            if found.labels is not None:
                before = kept_labels(self._answer_file(id))
                rows = agreement(case, others, before, found.labels)
            agreed = {row.prompt: row.dice for row in rows}
            self.work.data["measured"][key] = {**found.to_json(), "agreement": agreed}
            self._keep()
        return dict(self.work.data["measured"][key])

    def _show_dice(self, *, parent: bool) -> None:
        measured = self.work.data["measured"]
        for prompt in self.material.prompts:
            values = [
                row["dice"][prompt][1]
                for key, row in measured.items()
                if key.startswith("parent ") == parent and prompt in row["dice"]
            ]
            known = [value for value in values if value is not None]
            if known:
                self.watch.dice[prompt] = sum(known) / len(known)

    # The end ----------------------------------------------------------------------------------

    def _handed_over(self, out: Path, store: ModelStore | None) -> Outcome:
        """Put the written pack into the store, and take the work folder away."""
        delivered = self.work.data["delivered"]
        made = ModelPack.load(out)
        if made.digest != delivered["digest"]:
            raise InputError(
                f"{out} is not the pack that this run has written any more; remove"
                f" {self.work.folder}, or give another --out."
            )
        if store is not None and not _is_in(store, made):
            store.add(out, delivered["standing"], delivered["reason"])
        self.work.remove()
        self.watch.say("Done")
        state = STATES[delivered["standing"]]
        return Outcome(made, state, delivered["reason"], delivered["report"])

    def _answer_file(self, id: str) -> Path:
        return self.work.folder / "answers" / f"{id}.npz"

    @staticmethod
    def _key(stage: Stage, share: float, id: str) -> str:
        return f"{stage.name} {share:g} {id}"

    def _keep(self) -> None:
        self.work.data["used"] = self.watch.used
        self.work.save()


def _is_in(store: ModelStore, pack: ModelPack) -> bool:
    """Whether the pack was added before the run was stopped."""
    return any(
        entry.pack is not None and entry.pack.digest == pack.digest
        for entry in store.entries()
        if (entry.name, entry.version) == (pack.name, pack.version)
    )
