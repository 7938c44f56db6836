"""A target and what became of it, as the pages of the benchmark and the simulation tell it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_MET = {True: "met", False: "**not met**", None: "not run"}


@dataclass(frozen=True)
class Judged:
    """A target, and what became of it.

    Attributes:
        target: in words.
        met: None where what it needs has not been run.
        found: in words.
    """

    target: str
    met: bool | None
    found: str


def target_table(judged: Sequence[Judged], title: str = "target") -> list[str]:
    """A table in Markdown, under `title`."""
    rows = [f"| {t.target} | {_MET[t.met]} | {t.found} |" for t in judged]
    return [f"| {title} | met | found |", "|---|---|---|", *rows]
