"""The whole of a fine-tuning: learn, measure, judge, deliver, all within its time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from versemi.errors import Cancelled, InputError, VersemiError
from versemi.learning.finetuning.course import interpolate, train
from versemi.learning.finetuning.delivery import STATES, Facts, deliver, next_version
from versemi.learning.finetuning.examination import Examination
from versemi.learning.finetuning.gate import Verdict
from versemi.learning.finetuning.material import Material, material_of, new_prompts
from versemi.learning.finetuning.measuring import AGREEMENT_SCANS, agreement_cases, other_prompts
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
    method: str = METHODS[0],
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
        method: one of :data:`versemi.learning.finetuning.objective.METHODS`.
        store: gets the pack with its state, which is never made active; None for no store.
        device: as for :class:`Segmenter`.
        workers: processes that prepare crops.
        tell: takes the news of the run.
        control: pauses or ends it.

    Raises:
        InputError: the library teaches nothing to this pack, `out` is taken, the store cannot
            take the pack, or the time is too short.
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
    next_version(pack, store)  # what the store cannot take is told before anything is computed
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
            with suppress(VersemiError):
                work.keep(watch.used)


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
        self.objective = Objective.of(
            material.prompts,
            method,
            new=not new_prompts(parent).isdisjoint(material.prompts),
            alone=not any(other_prompts(material, parent, case) for case in material.cases),
        )
        self.examination = Examination(
            work, watch, material, self.split, parent, self._pack, device
        )
        self._networks = parent.build_networks()
        self._network = self._networks.of(material.groups[0])

    def to_the_end(self, out: Path, store: ModelStore | None, minutes: float) -> Outcome:
        """All stages that are not finished yet."""
        if "delivered" not in self.work.data or not _holds_something(out):
            self._deliver(out, store, minutes)
        return self._handed_over(out, store)

    def _deliver(self, out: Path, store: ModelStore | None, minutes: float) -> None:
        plan = self._planned()
        for stage in self.split.stages:
            self._trained(stage, plan)
        share, verdict, tried = self._judged(plan)
        self.watch.say("Writing the pack")
        final = self.split.stages[-1]
        facts = Facts(
            parent=self.parent,
            material=self.material,
            split=self.split,
            verdict=verdict,
            share=share,
            tried=tried,
            method=self.method,
            unlabelled=len(self.material.unlabelled) if self.objective.unlabelled else 0,
            minutes=minutes,
            seconds=self.watch.used,
            steps=int(self.work.data["stages"][final.name]["steps"]),
            measured=self.work.data["measured"],
        )
        version = next_version(self.parent, store)
        judged = self._pack(final, share)
        # Before the pack is there: a kill right after must not make it somebody else's.
        self.work.data["delivered"] = {
            "digest": judged.digest,
            "standing": verdict.standing,
            "reason": verdict.reason,
            "report": facts.report(version),
        }
        self._keep()
        deliver(judged, facts, out, version)

    # Time -------------------------------------------------------------------------------------

    def _planned(self) -> Plan:
        """Measure the parent, and with that what measuring costs; then divide the time."""
        data = self.work.data
        if "plan" not in data:
            try:
                data["plan"] = self._plan().to_json()
            except InputError:
                # With more minutes it is another run.
                self.work.remove()
                raise
            self._keep()
        return Plan(**data["plan"])

    def _plan(self) -> Plan:
        held = self.examination.held_out
        self.examination.parent_on(held)
        candidates = agreement_cases(self.material, self.split, self.parent, AGREEMENT_SCANS)
        # One scan is compared whatever it costs; a large library must not eat the time.
        compared = self.examination.parent_on(
            [case.id for case in candidates], limit=self.watch.seconds / 4
        )
        costs = self.examination.costs([*held, *compared])
        return make_plan(self.watch, costs, held, compared)

    # Learning ---------------------------------------------------------------------------------

    def _trained(self, stage: Stage, plan: Plan) -> None:
        """Train a stage, or go on with it; its pack is there afterwards."""
        stages = self.work.data.setdefault("stages", {})
        if stages.get(stage.name, {}).get("finished"):
            return
        count = len(stage.learnt)
        sentence = f"Learning from {count} corrected case{'s' * (count > 1)}"
        if stage.held_out and len(self.split.stages) > 1:
            sentence = f"{sentence}, to be measured on the others"
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
            device=self.device,
            workers=self.workers,
        )
        self._write(stage, 1.0, network)
        entry["finished"] = True
        self._keep()

    def _pack(self, stage: Stage, share: float) -> ModelPack:
        """The pack of a stage; one between it and the parent is made when it is first wanted."""
        folder = self._folder(stage, share)
        if not folder.is_dir():
            tuned = ModelPack.load(self._folder(stage, 1.0)).build_network(self.material.groups[0])
            return self._write(stage, share, interpolate(self._network, tuned, share))
        return ModelPack.load(folder)

    def _write(self, stage: Stage, share: float, network: PromptedNetwork) -> ModelPack:
        manifest = self.parent.manifest
        networks = self._networks.after(self.material.groups, network, manifest.groups)
        return write_pack(self._folder(stage, share), networks, manifest)

    def _folder(self, stage: Stage, share: float) -> Path:
        return self.work.folder / f"{stage.name}-{round(share * 100)}"

    # Measuring --------------------------------------------------------------------------------

    def _judged(self, plan: Plan) -> tuple[float, Verdict, dict[str, str]]:
        """The largest share that passes; that of all weights if none does."""
        found: list[tuple[float, Verdict]] = []
        for share in SHARES:
            if (
                found
                and not self.examination.known(share, plan)
                and self.watch.left < plan.measuring
            ):
                break
            verdict = self.examination.verdict(share, plan)
            found.append((share, verdict))
            if verdict.passed:
                break
        share, verdict = found[-1] if found[-1][1].passed else found[0]
        return share, verdict, {f"{s:g}": v.reason for s, v in found}

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

    def _keep(self) -> None:
        self.work.keep(self.watch.used)


def _holds_something(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())


def _is_in(store: ModelStore, pack: ModelPack) -> bool:
    """Whether the pack was added before the run was stopped."""
    return any(
        entry.pack is not None and entry.pack.digest == pack.digest
        for entry in store.entries()
        if (entry.name, entry.version) == (pack.name, pack.version)
    )
