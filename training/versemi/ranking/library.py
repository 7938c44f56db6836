"""Ranking the unlabelled cases of a library."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from versemi.batch import pack_facts
from versemi.errors import InputError
from versemi.modelpack import ModelPack
from versemi.ranking.keeping import Kept
from versemi.ranking.order import RULE, Place, in_order
from versemi.ranking.signs import Signs, together
from versemi.tasks import get_task

if TYPE_CHECKING:
    from versemi.caselibrary import CaseLibrary
    from versemi.caselibrary.case import Record
    from versemi.inference import Segmenter

Progress = Callable[[float, str], None]

#: Ranks and novelty from here on are worth a word, and below the lower one.
_HIGH, _LOW = 2 / 3, 1 / 3


@dataclass(frozen=True)
class Ranked:
    """An unlabelled case and what it would teach.

    Attributes:
        rank: 1 is the case to correct next.
        case: its identifier in the library.
        name: as people call it.
        modality: ``"CT"`` or ``"MR"``.
        score: 0..1, by which it stands here; see :data:`versemi.ranking.RULE`.
        gap, doubt: as measured, 0..1, means over the prompts; None where nothing was found.
        gap_rank, doubt_rank: among the unlabelled cases, 0..1.
        novelty: 0..1.
        nearest: the most similar case that has a label or stands above; None if there is none.
        ml: what was found under all prompts, in millilitres.
        prompts: ``gap``, ``doubt`` and ``ml`` by prompt.
        why: in words.
    """

    rank: int
    case: str
    name: str
    modality: str
    score: float
    gap: float | None
    doubt: float | None
    gap_rank: float
    doubt_rank: float
    novelty: float
    nearest: str | None
    ml: float
    prompts: dict[str, dict[str, float | None]]
    why: str


@dataclass(frozen=True)
class Ranking:
    """The unlabelled cases of a library in the order in which to correct them.

    Attributes:
        cases: the first to correct first.
        pack: the model, as `versemi.batch.pack_facts` gives it.
        measured: how many scans were looked at now; the others' measurements were kept.
        left_out: a sentence for each case, or kind of case, that is not ranked and might be
            expected.
        not_kept: why the measurements could not be kept, in one sentence; empty if they were.
    """

    cases: tuple[Ranked, ...]
    pack: dict[str, str]
    measured: int
    left_out: tuple[str, ...]
    not_kept: str

    def to_json(self) -> dict[str, Any]:
        """Plain data, with the rule."""
        return {**asdict(self), "rule": RULE}


def rank(
    library: CaseLibrary,
    model: Segmenter | ModelPack,
    prompts: Sequence[str] = (),
    *,
    device: str = "auto",
    progress: Progress | None = None,
) -> Ranking:
    """Rank a library's unlabelled cases by what correcting them would teach.

    A case is unlabelled if its label covers none of the prompts that are asked of it: those of its
    own modality. Every scan is looked at once for each model version, and each as soon as it is
    measured is kept; a ranking that is interrupted goes on where it was.

    Args:
        library: whose cases; those with a label are compared with, too.
        model: a pack is loaded only if a scan has to be looked at.
        prompts: all of the pack where empty.
        device: for a pack, as for :class:`versemi.inference.Segmenter`.
        progress: told a fraction in [0, 1] and a sentence.

    Raises:
        InputError: there is no unlabelled case, none can be read, or a prompt is not known.
        PackError: the weights do not fit.
    """
    pack = model if isinstance(model, ModelPack) else model.pack
    asked = _by_modality(pack, prompts)
    records, damaged = library.scan()
    left_out = [f"The case {id} is damaged: {problem}" for id, problem in damaged.items()]
    unlabelled, labelled = _sorted_out(library, records, asked, left_out)
    bench = _Bench(library, model, pack, device)
    signs: dict[str, dict[str, Signs]] = {}
    every = [*unlabelled, *labelled]
    for number, record in enumerate(every):
        try:
            share = _share(progress, number, len(every), record.id)
            signs[record.id] = bench.signs(record, asked[record.modality], share)
        except InputError as error:
            left_out.append(f"The case {record.id} cannot be looked at: {error}")
    unlabelled = [record for record in unlabelled if record.id in signs]
    labelled = [record for record in labelled if record.id in signs]
    if not unlabelled:
        raise InputError(
            f"None of the unlabelled cases of {library.folder} can be looked at; the first says:"
            f" {left_out[0]}"
        )
    means = {id: together(of_prompts.values()) for id, of_prompts in signs.items()}
    places = in_order(
        [(record.modality, means[record.id]) for record in unlabelled],
        [(record.modality, means[record.id]) for record in labelled],
    )
    ids = [record.id for record in [*labelled, *unlabelled]]
    cases = tuple(
        _ranked(number, place, unlabelled[place.index], means, signs, ids)
        for number, place in enumerate(places, start=1)
    )
    return Ranking(cases, pack_facts(pack), bench.measured, tuple(left_out), bench.kept.problem)


class _Bench:
    """Gives the signs of a scan, from what is kept or by looking at it."""

    def __init__(
        self, library: CaseLibrary, model: Segmenter | ModelPack, pack: ModelPack, device: str
    ) -> None:
        self.kept = Kept(library.folder, pack)
        self.measured = 0
        self._folder = library.folder
        self._pack = pack
        self._device = device
        self._segmenter = None if isinstance(model, ModelPack) else model

    def signs(self, record: Record, prompts: Sequence[str], progress: Progress) -> dict[str, Signs]:
        known = self.kept.read(record.id, record.image.sha256)
        missing = [prompt for prompt in prompts if prompt not in known]
        if missing:
            known |= self._look(record, missing, progress)
            self.kept.write(record.id, record.image.sha256, known)
            self.measured += 1
        return {prompt: known[prompt] for prompt in prompts}

    def _look(self, record: Record, prompts: Sequence[str], progress: Progress) -> dict[str, Signs]:
        from versemi.images import read_image
        from versemi.inference import Segmenter
        from versemi.ranking.signs import signs_of

        if self._segmenter is None:
            progress(0.0, f"Loading {self._pack.name} {self._pack.version}")
            self._segmenter = Segmenter(self._pack, self._device)
        image = read_image(record.case(self._folder).image_path).image
        result = self._segmenter.segment(
            image, prompts, modality=record.modality, progress=progress
        )
        return signs_of(result.evidence(), self._pack)


def _by_modality(pack: ModelPack, prompts: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The asked prompts, in the pack's order, by the modality that they are asked of."""
    chosen = {pack.settings(get_task(prompt).id).task.id for prompt in prompts}
    tasks = [task for task in pack.tasks if task.id in chosen or not chosen]
    return {
        modality: tuple(task.id for task in tasks if task.modality == modality)
        for modality in dict.fromkeys(task.modality for task in tasks)
    }


def _sorted_out(
    library: CaseLibrary,
    records: Sequence[Record],
    asked: dict[str, tuple[str, ...]],
    left_out: list[str],
) -> tuple[list[Record], list[Record]]:
    """The cases that are unlabelled for what is asked, and those that have a label for it."""
    if not records:
        raise InputError(
            f"The library {library.folder} has no cases yet; 'versemi library add' adds some."
        )
    fitting = [record for record in records if record.modality in asked]
    kinds = " or ".join(asked)
    if not fitting:
        raise InputError(
            f"The library {library.folder} has no {kinds} scan, and all that is asked is learnt"
            f" on {kinds}; ask for other prompts with -t, or choose another pack."
        )
    others = len(records) - len(fitting)
    if others:
        left_out.append(f"{others} cases are not {kinds}, and nothing is asked of them.")
    unlabelled: list[Record] = []
    labelled: list[Record] = []
    for record in fitting:
        covered = set(record.newest.prompts) & set(asked[record.modality])
        (labelled if covered else unlabelled).append(record)
    if not unlabelled:
        raise InputError(
            f"The library {library.folder} has no unlabelled case: the labels of all"
            f" {len(labelled)} cover something that is asked; add scans with 'versemi library add"
            f" {library.folder} SCAN'."
        )
    return unlabelled, labelled


def _ranked(
    number: int,
    place: Place,
    record: Record,
    means: dict[str, Signs],
    signs: dict[str, dict[str, Signs]],
    ids: Sequence[str],
) -> Ranked:
    mean, of_prompts = means[record.id], signs[record.id]
    nearest = None if place.nearest is None else ids[place.nearest]
    return Ranked(
        rank=number,
        case=record.id,
        name=record.name,
        modality=record.modality,
        score=round(place.score, 4),
        gap=mean.gap,
        doubt=mean.doubt,
        gap_rank=round(place.gap, 4),
        doubt_rank=round(place.doubt, 4),
        novelty=round(place.novelty, 4),
        nearest=nearest,
        ml=round(mean.ml, 3),
        prompts={
            prompt: {"gap": entry.gap, "doubt": entry.doubt, "ml": entry.ml}
            for prompt, entry in of_prompts.items()
        },
        why=_why(place, mean, of_prompts, nearest),
    )


def _why(place: Place, mean: Signs, of_prompts: dict[str, Signs], nearest: str | None) -> str:
    """What speaks for a case, in words; what speaks against it if nothing does."""
    reasons = []
    if mean.doubt is None:
        reasons.append("nothing found")
    if mean.gap is not None and place.gap >= _HIGH:
        gaps = {p: s.gap for p, s in of_prompts.items() if s.gap is not None}
        reasons.append(f"prompts and foreground disagree{_most(gaps, len(of_prompts))}")
    if mean.doubt is not None and place.doubt >= _HIGH:
        doubts = {p: s.doubt for p, s in of_prompts.items() if s.doubt is not None}
        reasons.append(f"uncertain{_most(doubts, len(of_prompts))}")
    if nearest is None:
        reasons.append("no case of its kind has a label")
    elif place.novelty >= _HIGH:
        reasons.append("unlike every case with a label or above")
    elif place.novelty < _LOW:
        reasons.append(f"like {nearest}")
    return "; ".join(reasons) or "middling in everything"


def _most(values: dict[str, float], asked: int) -> str:
    """Where most, if more than one prompt was asked."""
    if asked < 2:
        return ""
    return f", {get_task(max(values, key=lambda p: values[p])).name.lower()} most"


def _share(progress: Progress | None, number: int, total: int, case: str) -> Progress:
    def tell(fraction: float, sentence: str) -> None:
        if progress is not None:
            progress((number + fraction) / total, f"{case}: {sentence}")

    return tell
