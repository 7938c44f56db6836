"""Walks the loop of docs/tutorial.md on the MNI152 brain, and makes its pictures.

Segment, look at the doubt, correct, keep, learn, activate, export: on the module's own panel with a
real worker and a real case library, and with ``versemi`` on the command line, in a temporary folder
with a model store of its own. It needs what ``make test`` sets up, and takes about three minutes on
two CPU cores::

    .venv/bin/python examples/tutorial.py --pictures docs/pictures

The correction is made up (see ``strokes.py``), and learning is far too short to gain from: the
pictures show the way, not how well it works.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from rich.console import Console

from scans import REPOSITORY, mni_brain
from terminal import Said, draw_terminal, run_versemi
from tiles import AXIAL, CORONAL, EARLIER, SAGITTAL, Picture, Row, Scan, Tile, draw_tiles
from walk import Answer, Doubt, Stroke, UserError, Walk, surface_picture

sys.path.insert(0, str(REPOSITORY / "training"))

from versemi.errors import VersemiError  # noqa: E402
from versemi.modelstore import ModelStore, default_folder  # noqa: E402

Run = Callable[..., Said]

_BESIDE_MM = 2.0
_NEAR_MM = 14.0
_APART_MM = 12.0
_MOST_PLACES = 12


@dataclass(frozen=True)
class Material:
    """What the loop is walked on.

    Attributes:
        title: for the pictures.
        scan: is segmented and corrected.
        unlabelled: are kept without a label; the first is segmented by both models.
        prompts: task identifiers.
        modality: ``"CT"`` or ``"MR"``.
    """

    title: str
    scan: Path
    unlabelled: Sequence[Path]
    prompts: Sequence[str]
    modality: str


def main() -> int:
    """Make the pictures; 2 where something that was given cannot be used."""
    arguments = _arguments()
    pictures = arguments.pictures.resolve()
    pack = arguments.pack.resolve() if arguments.pack is not None else None
    console = Console()
    here = Path.cwd()
    with tempfile.TemporaryDirectory(prefix="versemi-tutorial-") as folder:
        # The commands and the panel show short paths.
        os.chdir(folder)
        os.environ["VERSEMI_MODELS"] = "models"
        os.environ.pop("VERSEMI_PACK", None)
        try:
            material = halves_of_the_brain()
            made = walk(material, pictures, run_versemi, arguments.minutes, pack, console.print)
        except (UserError, VersemiError, OSError) as error:
            console.print(f"[red]{error}[/]")
            return 2
        finally:
            os.chdir(here)
    for path in made:
        console.print(f"  {path}  {path.stat().st_size / 1000:.0f} kB", highlight=False)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--pictures", type=Path, required=True, help="where the pictures go")
    parser.add_argument("--pack", type=Path, help="model pack; the one that ships by default")
    parser.add_argument(
        "--minutes", type=float, default=1.5, help="of learning, measuring included; 1.5"
    )
    return parser.parse_args()


def halves_of_the_brain() -> Material:
    """Boxes around the left and the right hippocampus, cut out of the MNI152 brain, in ``.``.

    A scan is learnt from as a whole, so one that shows a single hippocampus is what a label of that
    one is true of. The right one is there twice: with voxels of 1 mm, and of 2 mm.
    """
    brain = mni_brain(Path.cwd())
    assert brain.roi is not None
    left = brain.roi + np.array([[-_BESIDE_MM], [_BESIDE_MM]])
    right = left * [-1, 1, 1]
    fine = sitk.ReadImage(str(brain.image))
    coarse = sitk.Resample(
        fine, [n // 2 for n in fine.GetSize()], sitk.Transform(), sitk.sitkLinear,
        fine.GetOrigin(), (2.0, 2.0, 2.0), fine.GetDirection(),
    )  # fmt: skip
    files = []
    for name, image, box in (
        ("mni152_left", fine, left),
        ("mni152_right", fine, right),
        ("mni152_right_coarse", coarse, right),
    ):
        # LPS, as SimpleITK has it.
        corners = np.array([image.TransformPhysicalPointToIndex((-r, -a, s)) for r, a, s in box])
        low, high = corners.min(axis=0), corners.max(axis=0) + 1
        i, j, k = (slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
        files.append(Path(f"{name}.nii.gz").resolve())
        sitk.WriteImage(image[i, j, k], str(files[-1]))
    return Material("MNI152 brain, T1 MR", files[0], files[1:], brain.prompts, brain.modality)


def walk(
    material: Material,
    pictures: Path,
    run: Run,
    minutes: float,
    pack: Path | None = None,
    tell: Callable[[str], Any] = print,
) -> list[Path]:
    """Walk the loop in the current folder, and make a picture of each step.

    Args:
        material: what it is walked on.
        pictures: folder that they go to.
        run: runs a command of ``versemi`` and returns what it has said.
        minutes: bound of learning.
        pack: taken into the model store as the active one; None for the one that ships.
        tell: hears one sentence a step.

    Returns:
        The pictures that were made.

    Raises:
        UserError: a step could not be taken; the sentence says why.
    """
    store = ModelStore(default_folder())
    if pack is not None:
        store.add(pack, "active")
    made = _Pictures(pictures, material)
    user = Walk(material.prompts)
    try:
        tell(f"Segmenting with {user.model}")
        earlier = user.segment(material.unlabelled[0])
        answer = user.segment(material.scan, uncertainty=True)
        made.segment(answer, user)
        doubts = _look(user)
        made.doubt(answer, doubts, user)

        tell("Correcting and keeping")
        strokes = user.correct(_places(answer, doubts))
        made.correct(answer, strokes, user)
        user.grab("correctionSection", made.path("panel-correct"))
        library = Path("library")
        tell(user.keep(library))
        user.grab("librarySection", made.path("panel-library"))
        files = [path.name for path in material.unlabelled]
        asked = [part for prompt in material.prompts for part in ("-t", prompt)]
        kept = [
            run("library", "add", "library", *files, "--modality", material.modality),
            run("library", "next", "library", *asked),
        ]
        _check(kept)
        draw_terminal(kept, made.path("loop-next"))

        tell(f"Learning, {minutes:g} minutes at most")
        options = ("--library", "library", "--out", "learnt", "--minutes", f"{minutes:g}")
        learnt = [run("finetune", *options)]
        _check(learnt)
        draw_terminal(learnt, made.path("loop-learn"))

        tell("Taking into use what was learnt")
        newest = [entry for entry in store.entries() if not entry.shipped][-1]
        # One that was kept aside is refused: then the picture shows how.
        taken = [run("models", "use", newest.ref), run("models", "list")]
        draw_terminal(taken, made.path("loop-activate"))
        user.look_for_model()
        user.grab("inputsButton", made.path("panel-model"))
        later = user.segment(material.unlabelled[0])
        made.learnt(earlier, later, user)

        tell("Exporting")
        user.export(Path("exported"))
        user.grab("exportSection", made.path("panel-export"))
        made.loop(answer, doubts, strokes, earlier, later, user)
    finally:
        user.close()
    return made.all


def _check(said: Sequence[Said]) -> None:
    for one in said:
        if one.code != 0:
            raise UserError(f"{' '.join(one.command)} said: {one.text.strip()}")


def _look(user: Walk) -> list[Doubt]:
    """The worst doubtful places, from one to the next, until one lies apart from the first."""
    doubts: list[Doubt] = []
    while len(doubts) < _MOST_PLACES:
        doubt = user.next_doubt()
        if doubt is None:
            break
        doubts.append(doubt)
        if user.edges_apart(doubts[0].ras, doubt.ras) >= _APART_MM:
            break
    return doubts


def _places(answer: Answer, doubts: Sequence[Doubt]) -> list[tuple[float, float, float]]:
    """Two places to correct: the first and the last of the doubt, else the middle of the answer."""
    if doubts:
        return [doubts[0].ras, doubts[-1].ras]
    labels = answer.labels if answer.labels.any() else np.ones_like(answer.labels)
    middle = np.argwhere(labels)[:, ::-1].mean(axis=0)
    matrix = answer.scan.ijk_to_ras
    r, a, s = (matrix[:3, :3] @ middle + matrix[:3, 3]).tolist()
    return [(r, a, s), (r, a, s)]


class _Pictures:
    """Makes them, and remembers which there are."""

    def __init__(self, folder: Path, material: Material) -> None:
        self.all: list[Path] = []
        self._folder = folder
        self._title = material.title

    def path(self, name: str) -> Path:
        self.all.append(self._folder / f"{name}.png")
        return self.all[-1]

    def _note(self, model: str) -> str:
        return f"{self._title}. {model}. Made by examples/tutorial.py. Not a medical device."

    def segment(self, answer: Answer, user: Walk) -> None:
        tiles = [
            Tile(view.name, answer.scan, view, answer.scan.best(answer.labels, view),
                 answer.labels, user.colors)
            for view in (AXIAL, CORONAL, SAGITTAL)
        ]  # fmt: skip
        names = [f"{name}, {volume:.1f} ml" for name, volume in answer.volumes_ml.items()]
        legend = dict(zip(names, user.colors.values(), strict=True))
        draw_tiles(Row(tiles, legend, self._note(answer.model)), self.path("loop-segment"))

    def doubt(self, answer: Answer, doubts: Sequence[Doubt], user: Walk) -> None:
        sentence = doubts[0].sentence if doubts else "There is no doubtful place."
        tiles = [_doubt_tile(view.name, answer, doubts, view, user) for view in
                 (AXIAL, CORONAL, SAGITTAL)]  # fmt: skip
        row = Row(tiles, _names(answer, user), f"{sentence} {self._note(answer.model)}")
        draw_tiles(row, self.path("loop-doubt"))

    def correct(self, answer: Answer, strokes: Sequence[Stroke], user: Walk) -> None:
        tiles = []
        for number, stroke in enumerate(strokes, start=1):
            for when, labels, before in (
                ("before", stroke.before, None),
                (stroke.what, stroke.after, stroke.before),
            ):
                tiles.append(
                    Tile(f"Stroke {number}: {when}", answer.scan, SAGITTAL, stroke.ras[0], labels,
                         user.colors, before, middle=stroke.ras, near=_NEAR_MM)
                )  # fmt: skip
        legend = {**_names(answer, user), "Before the stroke": EARLIER}
        note = f"Made-up strokes of a ball-shaped brush. {self._note(answer.model)}"
        draw_tiles(Row(tiles, legend, note), self.path("loop-correct"))

    def learnt(self, earlier: Answer, later: Answer, user: Walk) -> None:
        tiles = [_learnt_tile(view.name, earlier, later, view, user) for view in
                 (AXIAL, CORONAL, SAGITTAL)]  # fmt: skip
        legend = {**_names(later, user), f"Before, by {earlier.model}": EARLIER}
        draw_tiles(Row(tiles, legend, self._note(later.model)), self.path("loop-learnt"))

    def loop(
        self,
        answer: Answer,
        doubts: Sequence[Doubt],
        strokes: Sequence[Stroke],
        earlier: Answer,
        later: Answer,
        user: Walk,
    ) -> None:
        scan = answer.scan
        stroke = strokes[-1]
        tiles: list[Tile | Picture] = [
            Tile("1 Segment", scan, SAGITTAL, scan.best(answer.labels, SAGITTAL), answer.labels,
                 user.colors),
            _doubt_tile("2 Find the doubt", answer, doubts, SAGITTAL, user),
            Tile("3 Correct, keep", scan, SAGITTAL, stroke.ras[0], stroke.after, user.colors,
                 stroke.before, middle=stroke.ras, near=_NEAR_MM),
            _learnt_tile("4 Learn, activate", earlier, later, SAGITTAL, user),
            Picture("5 Export", surface_picture(user)),
        ]  # fmt: skip
        legend = {**_names(answer, user), "Before": EARLIER}
        draw_tiles(Row(tiles, legend, self._note(answer.model)), self.path("loop"))


def _names(answer: Answer, user: Walk) -> dict[str, tuple[float, float, float] | str]:
    return dict(zip(answer.volumes_ml, user.colors.values(), strict=True))


def _doubt_tile(title: str, answer: Answer, doubts: Sequence[Doubt], view: Any, user: Walk) -> Tile:
    scan: Scan = answer.scan
    if not doubts:
        position = scan.best(answer.labels, view)
        return Tile(title, scan, view, position, answer.labels, user.colors)
    worst = doubts[0]
    return Tile(
        title, scan, view, worst.ras[view.normal], answer.labels, user.colors,
        overlay=worst.overlay, opacity=worst.opacity, mark=worst.ras,
    )  # fmt: skip


def _learnt_tile(title: str, earlier: Answer, later: Answer, view: Any, user: Walk) -> Tile:
    position = later.scan.best(later.labels, view)
    return Tile(title, later.scan, view, position, later.labels, user.colors, earlier.labels)


if __name__ == "__main__":
    raise SystemExit(main())
