"""Commands as a shell runs them, and pictures of what they have said."""

from __future__ import annotations

import os
import pty
import shlex
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt

_BACKGROUND = "#0d1117"
_TEXT = "#e6edf3"
_PROMPT = "#7ee787"

_COLUMNS = 104
_FONT_SIZE = 10.0
# Of DejaVu Sans Mono, which matplotlib brings: the advance of every letter, and a line, in em.
_ADVANCE, _LINE = 0.602, 1.42
_MARGIN = 0.18


@dataclass(frozen=True)
class Said:
    """A command with all that it has written, in its order, and its exit code."""

    command: Sequence[str]
    text: str
    code: int


def run_versemi(*arguments: str) -> Said:
    """Run a command of the command line to its end, in the current folder, on a terminal."""
    # Plain, so that no bar moves and nothing has a colour.
    environment = {**os.environ, "TERM": "dumb", "COLUMNS": str(_COLUMNS), "LINES": "40"}
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "versemi", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
        env=environment,
    )
    os.close(theirs)
    written = b"".join(iter(lambda: _read(ours), b""))
    os.close(ours)
    text = written.decode("utf-8", "replace").replace("\r\n", "\n")
    return Said(("versemi", *arguments), text, process.wait())


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:
        # How Linux says that nobody writes any more.
        return b""


def lines_of(said: Sequence[Said]) -> list[tuple[str, bool]]:
    """What a terminal of 104 columns shows, line by line; True where it is a command."""
    lines: list[tuple[str, bool]] = []
    for one in said:
        command = textwrap.wrap(f"$ {shlex.join(one.command)}", _COLUMNS - 2) or ["$"]
        rows = [row + " \\" for row in command[:-1]] + command[-1:]
        lines += [(row if not n else f"    {row}", True) for n, row in enumerate(rows)]
        for line in one.text.strip("\n").splitlines():
            # A terminal breaks anywhere; between words is easier to read.
            rows = textwrap.wrap(line, _COLUMNS, drop_whitespace=False) or [""]
            lines += [(row.rstrip(), False) for row in rows]
        lines.append(("", False))
    return lines[:-1]


def draw_terminal(said: Sequence[Said], path: Path) -> None:
    """Draw commands and their output as PNG."""
    lines = lines_of(said)
    line = _LINE * _FONT_SIZE / 72
    width = _COLUMNS * _ADVANCE * _FONT_SIZE / 72 + 2 * _MARGIN
    height = len(lines) * line + 2 * _MARGIN
    figure = plt.figure(figsize=(width, height), facecolor=_BACKGROUND)
    for number, (text, is_command) in enumerate(lines):
        # Not a formula, whatever signs are in it.
        figure.text(
            _MARGIN / width, 1 - (_MARGIN + (number + 0.5) * line) / height, text,
            family="DejaVu Sans Mono", fontsize=_FONT_SIZE, va="center", parse_math=False,
            color=_PROMPT if is_command else _TEXT, weight="bold" if is_command else "normal",
        )  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, facecolor=_BACKGROUND)
    plt.close(figure)
