"""What the simulation asks of the engine and takes long: training, fine-tuning, segmenting."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import SimpleITK as sitk

from versemi.caselibrary import CaseLibrary
from versemi.evaluation import LabelledCase, evaluate
from versemi.inference import Segmenter
from versemi.learning.configuration import settings_from
from versemi.learning.finetuning.delivery import REPORT
from versemi.learning.finetuning.run import finetune
from versemi.learning.newprompt import add_prompt
from versemi.learning.release import release
from versemi.learning.simulation.settings import NAME, Settings
from versemi.learning.simulation.stories import Story
from versemi.learning.simulation.training import FACTS, train_labels
from versemi.modelpack import ModelPack
from versemi.ranking import rank
from versemi.tasks import get_task


@dataclass(frozen=True)
class Learnt:
    """What came out of a learning.

    Attributes:
        pack: the new pack.
        seconds: that it took, over all starts.
        steps: of the optimiser.
        state: the gate's verdict, such as ``"available"``; empty where there is no gate.
        reason: of the verdict.
    """

    pack: ModelPack
    seconds: float
    steps: int
    state: str = ""
    reason: str = ""


class Learner(Protocol):
    """Does what takes long; what is finished in a folder is not done again."""

    def base(self, story: Story, folder: Path) -> Learnt:
        """Train the pack that a story begins with."""

    def start(self, story: Story, base: ModelPack, like: str, folder: Path) -> ModelPack:
        """Give the base pack the story's new prompt."""

    def tuned(
        self, story: Story, library: Path, parent: ModelPack, method: str, folder: Path
    ) -> Learnt:
        """Fine-tune a pack on a library."""

    def scratch(self, story: Story, library: CaseLibrary, folder: Path) -> Learnt:
        """Train a fresh network on the corrected cases of a library."""

    def answer(self, pack: ModelPack, image: sitk.Image, prompt: str) -> sitk.Image:
        """Segment a scan; its label map."""

    def ranked(self, library: CaseLibrary, pack: ModelPack, prompt: str) -> list[str]:
        """Names of the unlabelled cases, the first to correct first."""

    def measured(
        self, pack: ModelPack, cases: Sequence[LabelledCase], labels: Mapping[str, int]
    ) -> list[dict[str, Any]]:
        """Rows of :func:`versemi.evaluation.evaluate`."""


class Engine:
    """The learner that is meant.

    Args:
        settings: of the simulation.
        cache: folder for prepared scans of base packs and fresh networks.
        device: as for :class:`Segmenter`.
        tell: told what is being done.
    """

    def __init__(
        self, settings: Settings, cache: Path, device: str, tell: Callable[[str], None]
    ) -> None:
        self._settings = settings
        self._cache = cache
        self._device = device
        self._tell = tell
        self._segmenter: Segmenter | None = None

    def base(self, story: Story, folder: Path) -> Learnt:
        """Train the pack that a story begins with; labels of a new prompt stay unknown."""
        place = folder / "pack"
        if not place.is_dir():
            network = train_labels(
                story.base,
                story.data,
                folder,
                cache=self._cache,
                hidden=story.hidden,
                device=self._device,
            )
            release(story.base, network, story.data, place)
        return _trained(place, folder)

    def start(self, story: Story, base: ModelPack, like: str, folder: Path) -> ModelPack:
        """As ``versemi tasks add``."""
        if folder.is_dir():
            return ModelPack.load(folder)
        beside = get_task(story.telling.prompt).group
        return add_prompt(base, story.task, folder, beside=beside, like=like)

    def tuned(
        self, story: Story, library: Path, parent: ModelPack, method: str, folder: Path
    ) -> Learnt:
        """As ``versemi finetune``."""
        out = folder / "pack"
        # A run that was killed after its pack was written has nothing left to do.
        if (out / REPORT).is_file():
            shutil.rmtree(out.with_name(f"{out.name}.work"), ignore_errors=True)
        else:
            finetune(
                library,
                parent,
                out,
                minutes=story.telling.minutes,
                prompts=(story.prompt,),
                method=method,
                device=self._device,
            )
        report = json.loads((out / REPORT).read_text(encoding="utf-8"))
        return Learnt(
            ModelPack.load(out),
            seconds=float(report["seconds"]),
            steps=int(report["steps"]),
            state=str(report["state"]),
            reason=str(report["reason"]),
        )

    def scratch(self, story: Story, library: CaseLibrary, folder: Path) -> Learnt:
        """Train on the library's label maps for the minutes of a fine-tuning."""
        place = folder / "pack"
        if not place.is_dir():
            # For a fresh network there are no other prompts, beside which this one were new.
            task = get_task(story.telling.prompt)
            names = [case.id for case in library.cases() if story.prompt in case.prompts]
            own = next(s for s in story.base.sources if s["name"] == story.telling.source)
            entry = {
                "name": "corrections",
                "folder": str(library.folder.resolve()),
                "group": task.group,
                "labels": {story.task.label: task.id},
                "labelled": names,
                "measure": [],
                "crop": list(story.base.groups[task.group].window),
                "batch": int(own.get("batch", 1)),
                "weight": 1.0,
            }
            pack = {
                **self._settings.base["pack"],
                "name": f"{story.name}-from-scratch",
                "search": {"prompts_of": []},
            }
            described = {
                **self._settings.base,
                **self._settings.scratch,
                "seed": self._settings.seed,
                "sources": [entry],
                "pack": pack,
            }
            settings = settings_from(described, NAME)
            network = train_labels(
                settings,
                library.folder,
                folder,
                cache=self._cache,
                minutes=story.telling.minutes,
                device=self._device,
            )
            release(settings, network, library.folder, place)
        return _trained(place, folder)

    def answer(self, pack: ModelPack, image: sitk.Image, prompt: str) -> sitk.Image:
        """Segment a scan under one prompt, as the panel does."""
        modality = get_task(prompt).modality
        return self._segment(pack).segment(image, [prompt], modality=modality).label_map

    def ranked(self, library: CaseLibrary, pack: ModelPack, prompt: str) -> list[str]:
        """As ``versemi library next``."""
        return [row.name for row in rank(library, self._segment(pack), (prompt,)).cases]

    def measured(
        self, pack: ModelPack, cases: Sequence[LabelledCase], labels: Mapping[str, int]
    ) -> list[dict[str, Any]]:
        """Each file whole and on its own grid."""
        self._tell(f"Measuring {', '.join(labels)} on {len(cases)} cases")
        rows: list[dict[str, Any]] = evaluate(self._segment(pack), cases, labels)["cases"]
        return rows

    def _segment(self, pack: ModelPack) -> Segmenter:
        """The segmenter of a pack; of one pack at a time, which is asked many times."""
        if self._segmenter is None or self._segmenter.pack != pack:
            self._segmenter = Segmenter(pack, self._device)
        return self._segmenter


def _trained(place: Path, folder: Path) -> Learnt:
    facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
    return Learnt(ModelPack.load(place), float(facts["seconds"]), int(facts["steps"]))
