"""One run of the simulation: corrections, learning, measuring; what is done is not done again."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from versemi.errors import InputError
from versemi.evaluation import LabelledCase, mean_of_known
from versemi.export import write_text
from versemi.learning.run import hardware
from versemi.learning.simulation.arrival import arrive, correct, correction_order
from versemi.learning.simulation.learners import Learner, Learnt
from versemi.learning.simulation.plan import ARRIVAL, BASE, Run
from versemi.learning.simulation.settings import Settings
from versemi.learning.simulation.shift import shifted_cases
from versemi.learning.simulation.stories import Story
from versemi.modelpack import ModelPack
from versemi.tasks import get_task

RESULT = "result.json"
#: What the runs of a folder were begun with.
SETTINGS = "settings.json"
#: What is kept of each held-out case.
_OF_CASE = ("case", "dice", "hd95_mm", "assd_mm", "outcome")

Result = dict[str, Any]


def check_folder_of(settings: Settings, out: Path) -> None:
    """See that a folder holds runs of these settings and no others, and say so in it.

    Raises:
        InputError: it was begun with other settings.
        OutputError: it cannot be written.
    """
    path = out / SETTINGS
    if path.is_file():
        try:
            same = json.loads(path.read_text(encoding="utf-8")) == settings.described
        except (OSError, ValueError):
            same = False
        if not same:
            raise InputError(
                f"{out} was begun with other settings of the simulation than this version's; give"
                " another --out, or take it away."
            )
        return
    write_text(json.dumps(settings.described, indent=1) + "\n", path)


def finished(run: Run, out: Path) -> Result | None:
    """The result of a run that was finished in a folder; None if it was not.

    Raises:
        InputError: it cannot be read.
    """
    path = out / run.name / RESULT
    if not path.is_file():
        return None
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path} cannot be used ({error}); take it away, and its run is measured again."
        ) from None


def execute(
    run: Run,
    story: Story,
    settings: Settings,
    out: Path,
    learner: Learner,
    *,
    base: str | None = None,
    tell: Callable[[str], None] = lambda sentence: None,
) -> Result:
    """Do one run, or go on where it was stopped.

    Args:
        run: what to do.
        story: that it belongs to.
        settings: of the simulation.
        out: folder of all runs.
        learner: does what takes long.
        base: digest of the base pack that published results of the story began with, if there
            are any; this run has to begin with the same.
        tell: told what is being done.

    Returns:
        The result, which lies in ``result.json`` of the run's folder.

    Raises:
        InputError: something in the data or in `out` cannot be used, or the base pack is another.
        OutputError: something cannot be written.
    """
    known = finished(run, out)
    if known is not None:
        return known
    folder = out / run.name
    begun: ModelPack | None = None
    trained: Learnt | None = None
    if run.way != "from-scratch":
        trained = _base(story, out, learner, base, tell)
        begun = trained.pack
        if run.like:
            place = out / f"{story.name}-like-{run.like}"
            begun = learner.start(story, trained.pack, run.like, place)
    stream, held_out = _scans(story, settings, out)
    corrected: list[str] = []
    if run.way == BASE:
        assert trained is not None and begun is not None
        learnt = Learnt(begun, trained.seconds, trained.steps)
    else:
        learnt, corrected = _learnt(run, story, stream, begun, folder, learner, tell)
    tell(f"{run.name}: measuring")
    fresh = run.way == "from-scratch"
    own = {story.telling.prompt if fresh else story.prompt: story.value}
    result = {
        **run.described(),
        "base": trained.pack.digest if trained else None,
        "corrected": corrected,
        "state": learnt.state,
        "reason": learnt.reason,
        "seconds": learnt.seconds,
        "steps": learnt.steps,
        "hardware": hardware(),
        "cases": _rows(learner.measured(learnt.pack, held_out, own)),
    }
    if run.way == BASE and story.telling.shift:
        result["unshifted"] = _rows(learner.measured(learnt.pack, story.held_out, own))
    if run.way != "from-scratch":
        result["others"] = _others(story, learnt.pack, learner)
    write_text(json.dumps(result, indent=1, allow_nan=False) + "\n", folder / RESULT)
    return result


def _base(
    story: Story, out: Path, learner: Learner, digest: str | None, tell: Callable[[str], None]
) -> Learnt:
    """The story's base pack, which is trained if there is none, and is not of another machine."""
    folder = out / f"{story.name}-{BASE}"
    pack = folder / "pack"
    if digest is not None and not pack.is_dir():
        raise InputError(
            f"The results that stand for '{story.name}' began with the base pack {digest[:12]},"
            f" which is not in {folder}; copy that folder there from where it was trained."
        )
    if not pack.is_dir():
        tell(f"Training the base pack of '{story.name}', {story.base.steps} steps")
    learnt = learner.base(story, folder)
    if digest is not None and learnt.pack.digest != digest:
        raise InputError(
            f"The base pack in {pack} is {learnt.pack.digest[:12]}, and the results that stand for"
            f" '{story.name}' began with {digest[:12]}; copy that one there, or write the page"
            " elsewhere with --docs."
        )
    return learnt


def _scans(
    story: Story, settings: Settings, out: Path
) -> tuple[Sequence[LabelledCase], Sequence[LabelledCase]]:
    """Stream and held-out cases as the story has them, shifted if it is about that."""
    shift = story.telling.shift
    if shift is None:
        return story.stream, story.held_out
    folder = out / f"{story.name}-scans"
    return (
        shifted_cases(shift, story.stream, folder, settings.seed),
        shifted_cases(shift, story.held_out, folder, settings.seed),
    )


def _learnt(
    run: Run,
    story: Story,
    stream: Sequence[LabelledCase],
    parent: ModelPack | None,
    folder: Path,
    learner: Learner,
    tell: Callable[[str], None],
) -> tuple[Learnt, list[str]]:
    """Let the cases arrive, correct some of them, and learn; what came out, and which these are."""
    tell(f"{run.name}: {len(stream)} scans arrive, {run.corrections} are corrected")
    prompt = story.prompt
    library = arrive(folder / "library", stream, get_task(prompt).modality)

    def ranked() -> list[str]:
        assert parent is not None
        return learner.ranked(library, parent, prompt)

    def answer(image: Any) -> Any:
        assert parent is not None
        return learner.answer(parent, image, prompt)

    order = [case.name for case in stream]
    if run.order != ARRIVAL:
        order = correction_order(folder, stream, run.seed, ranked)
    names = order[: run.corrections]
    if len(names) < run.corrections:
        raise InputError(
            f"The run {run.name} corrects {run.corrections} cases, and {len(names)} arrive; give"
            " the story a longer stream."
        )
    by_name = {case.name: case for case in stream}
    correct(library, [by_name[name] for name in names], story.value, prompt, parent, answer)
    tell(f"{run.name}: learning")
    if parent is None:
        return learner.scratch(story, library, folder), names
    return learner.tuned(story, library.folder, parent, run.way, folder), names


def _rows(measured: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{key: row[key] for key in _OF_CASE} for row in measured]


def _others(story: Story, pack: ModelPack, learner: Learner) -> dict[str, dict[str, Any]]:
    """Mean Dice of all other prompts, by prompt."""
    found: dict[str, dict[str, Any]] = {}
    for part in story.others:
        rows = learner.measured(pack, part.cases, part.labels)
        for prompt in part.labels:
            dice = [row["dice"] for row in rows if row["task"] == prompt]
            found[prompt] = {"dice": mean_of_known(dice), "cases": len(dice)}
    return found
