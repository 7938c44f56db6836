"""The tutorial: its command walks the loop, its pictures are there, its messages are said."""

from __future__ import annotations

import ast
import contextlib
import io
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from matplotlib.image import imread

import tutorial
from terminal import Said, draw_terminal, lines_of, run_versemi
from tiles import EARLIER, SAGITTAL, Row, Scan, Tile, draw_tiles

REPOSITORY = Path(__file__).resolve().parents[2]
PAGES = ("README.md", "docs/tutorial.md")
PROMPTS = ("hippocampus_anterior", "hippocampus_posterior")
_PICTURE = re.compile(r'!\[[^\]]*\]\(([^)]+\.png)\)|<img [^>]*src="([^"]+\.png)"')
_STEPS = 3


def _in_process(*arguments: str) -> Said:
    """A command of the command line in this process, where time is what the test says."""
    from versemi.cli import main

    written = io.StringIO()
    code = 0
    with contextlib.redirect_stdout(written), contextlib.redirect_stderr(written):
        try:
            main(list(arguments))
        except SystemExit as ended:
            code = int(ended.code or 0)
    return Said(("versemi", *arguments), written.getvalue(), code)


@pytest.fixture
def clock_of_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """A minute of learning holds a few steps, however fast the machine is."""
    sys.path.insert(0, str(REPOSITORY / "Testing" / "learning"))
    from finetuning import clock_in_steps

    clock_in_steps(monkeypatch, _STEPS)


@pytest.fixture
def material(tmp_path: Path) -> tutorial.Material:
    """Three small scans of a bright ball in noise."""
    files = []
    for number in range(3):
        rng = np.random.default_rng(number)
        k, j, i = np.indices((24, 26, 24))
        ball = (k - 12) ** 2 + (j - 13) ** 2 + (i - 11 - number) ** 2 < 36
        values = rng.normal(200, 20, ball.shape) + 300 * ball
        image = sitk.GetImageFromArray(values.astype(np.float32))
        image.SetSpacing((2.0, 2.0, 2.0))
        files.append(tmp_path / f"ball_{number}.nii.gz")
        sitk.WriteImage(image, str(files[-1]))
    return tutorial.Material("A ball", files[0], files[1:], PROMPTS, "MR")


def test_the_loop_is_walked_from_a_scan_to_an_export_with_a_picture_of_each_step(
    tiny_pack: Path, material, clock_of_steps, tmp_path: Path, monkeypatch
):
    from versemi.caselibrary import CaseLibrary
    from versemi.modelstore import ModelStore

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VERSEMI_MODELS", str(tmp_path / "models"))
    monkeypatch.delenv("VERSEMI_PACK", raising=False)
    told: list[str] = []
    made = tutorial.walk(material, tmp_path / "pictures", _in_process, 1.0, tiny_pack, told.append)

    assert len(made) == len(set(made)) == 12
    for path in made:
        assert imread(path)[..., :3].std() > 0.02, path.name
    cases = {case.id: case for case in CaseLibrary.open(tmp_path / "library").cases()}
    assert set(cases) == {"ball_0", "ball_1", "ball_2"}
    assert set(cases["ball_0"].prompts) == set(PROMPTS)
    assert not cases["ball_1"].prompts and not cases["ball_2"].prompts
    # What was kept is the corrected answer, not the model's.
    corrected, predicted = (
        sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "library/cases/ball_0" / name)))
        for name in ("label_v1.nii.gz", "predicted_v1.nii.gz")
    )
    assert (corrected != predicted).any()
    active = ModelStore(tmp_path / "models").active()
    assert active.ref == "tiny@0.0.1+ft1"
    assert active.record.standing == "provisional"
    assert {p.suffix for p in (tmp_path / "exported").iterdir()} == {".gz", ".csv"}
    # Every picture of a page but the demo's and the panel's own is one of these.
    shown = {path.name for page in PAGES for path in _pictures(page)}
    assert shown - {"mni152.png", "panel.png"} == {path.name for path in made}


def _pictures(page: str) -> list[Path]:
    text = (REPOSITORY / page).read_text(encoding="utf-8")
    folder = (REPOSITORY / page).parent
    return [folder / (one or other) for one, other in _PICTURE.findall(text)]


@pytest.mark.parametrize("page", PAGES)
def test_every_picture_that_a_page_shows_is_there_and_small(page: str):
    found = _pictures(page)
    assert len(found) > 1
    for path in found:
        assert path.is_file(), path
        assert path.stat().st_size < 600_000, path
    assert sum(p.stat().st_size for p in found if p.name.startswith(("loop", "panel-"))) < 1.5e6


@pytest.mark.parametrize("page", PAGES)
def test_every_page_that_a_page_links_is_there(page: str):
    text = (REPOSITORY / page).read_text(encoding="utf-8")
    links = re.findall(r"\]\((?!https?:)([^)#]+\.md)", text)
    assert len(links) > 3
    missing = [link for link in links if not ((REPOSITORY / page).parent / link).is_file()]
    assert missing == []


# -- the table of messages ---------------------------------------------------------------------


def _messages() -> list[str]:
    text = (REPOSITORY / "docs" / "tutorial.md").read_text(encoding="utf-8")
    return re.findall(r'^\| "(.+?)" \|', text, flags=re.MULTILINE)


@cache
def _sentences() -> tuple[tuple[str | None, ...], ...]:
    """Every text in the code, by character; None is whatever is put in when it is said."""
    found: set[tuple[str | None, ...]] = set()
    for folder in ("training/versemi", "VerSemiSlicer/VerSemiSlicerLib"):
        for path in (REPOSITORY / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.JoinedStr):
                    parts: list[str | None] = []
                    for value in node.values:
                        constant = isinstance(value, ast.Constant)
                        parts += list(str(value.value)) if constant else [None]  # type: ignore[attr-defined]
                    found.add(tuple(parts))
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    found.add(tuple(node.value))
    return tuple(found)


def _windows(text: str) -> set[str]:
    return {text[n : n + 8] for n in range(len(text) - 7)}


def _is_said(message: str) -> bool:
    """Whether some text of the code reads like the message, where ``...`` stands for anything.

    What the code puts in may be anything, too; at least four letters in five are the code's own.
    """
    wanted = [None if c == "\0" else c for c in message.replace("...", "\0")]
    letters = sum(c is not None for c in wanted)
    windows = set().union(*(_windows(piece) for piece in message.split("...")))
    return any(
        _most_in_common(wanted, text) >= 0.8 * letters
        for text in _sentences()
        if windows & _windows("".join(c or "\0" for c in text))
    )


def _most_in_common(wanted: list[str | None], text: tuple[str | None, ...]) -> int:
    """The most letters that both have in a reading that makes them one; -1 where there is none."""
    row = [0 if all(c is None for c in text[:n]) else -1 for n in range(len(text) + 1)]
    for c in wanted:
        above, row = row, [row[0] if c is None else -1]
        for n, d in enumerate(text, start=1):
            best = -1
            if c is not None and c == d and above[n - 1] >= 0:
                best = above[n - 1] + 1
            if c is None or d is None:
                best = max(best, above[n - 1])
            if c is None:
                best = max(best, row[n - 1], above[n])
            if d is None:
                best = max(best, above[n], row[n - 1])
            row.append(best)
        if max(row) < 0:
            return -1
    return row[-1]


def test_every_message_of_the_table_is_one_that_the_code_says():
    messages = _messages()
    assert len(messages) > 10
    assert [message for message in messages if not _is_said(message)] == []


@pytest.mark.parametrize(
    "message",
    [
        "The correction is full: ...",
        "The volume ... lies under the transform ..., which is linear, ...",
        "... spans ... mm, which no scan of a planet does; ...",
        "...",
    ],
)
def test_a_message_that_the_code_does_not_say_is_found_out(message: str):
    assert not _is_said(message)


# -- the parts ---------------------------------------------------------------------------------


def test_a_terminal_shows_what_a_command_says_on_both_of_its_streams():
    said = run_versemi("models", "use", "nothing@0")
    assert said.code == 2
    assert said.text.startswith("There is no nothing@0")
    said = run_versemi("tasks")
    assert said.code == 0
    assert "hippocampus_anterior" in said.text
    assert "\x1b" not in said.text


def test_long_lines_are_broken_and_columns_stay_where_they_are(tmp_path: Path):
    said = Said(("versemi", "library", "next", "x" * 30), "a   b\n" + "word " * 60, 0)
    lines = lines_of([said, said])
    assert lines[0] == (f"$ versemi library next {'x' * 30}", True)
    assert lines[1] == ("a   b", False)
    assert max(len(text) for text, _ in lines) <= 104
    assert lines.count(("", False)) == 1
    draw_terminal([said], tmp_path / "made" / "terminal.png")
    assert imread(tmp_path / "made" / "terminal.png")[..., :3].std() > 0.02


def test_a_tile_shows_before_after_and_overlay(tmp_path: Path):
    scan = Scan(np.random.default_rng(0).normal(100, 20, (12, 14, 10)), np.diag([-1.0, -1, 1, 1]))
    after = np.zeros(scan.image.shape, np.uint8)
    after[3:8, 3:9, 3:7] = 1
    before = np.roll(after, 2, axis=1)
    plain = Tile("", scan, SAGITTAL, -4.0, np.zeros_like(after), {})
    shown = []
    for name, tile in (
        ("plain", plain),
        ("labels", Tile("", scan, SAGITTAL, -4.0, after, {1: (1.0, 0.0, 0.0)})),
        ("compared", Tile("", scan, SAGITTAL, -4.0, after, {1: (1.0, 0.0, 0.0)}, before)),
        ("overlay", Tile("", scan, SAGITTAL, -4.0, after * 0, {}, overlay=after.astype(float))),
    ):
        draw_tiles(Row([tile], {"Before": EARLIER}, "A note"), tmp_path / f"{name}.png")
        shown.append(imread(tmp_path / f"{name}.png")[..., :3])
    plain_one, labels, compared, overlay = shown
    redder = (labels[..., 0] - labels[..., 2]) - (plain_one[..., 0] - plain_one[..., 2])
    assert (redder > 0.2).mean() > 0.01
    assert np.abs(compared - labels).max() > 0.3
    assert np.abs(overlay - plain_one).max() > 0.3


def test_a_pack_that_is_not_there_is_one_sentence(tmp_path: Path):
    command = [sys.executable, str(REPOSITORY / "examples" / "tutorial.py")]
    options = ["--pictures", str(tmp_path / "pictures"), "--pack", str(tmp_path / "none")]
    ran = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    assert ran.returncode == 2
    assert "Traceback" not in ran.stderr
    assert "There is no model pack" in ran.stdout
    assert not (tmp_path / "pictures").exists()
