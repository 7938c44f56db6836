"""What a command of the command line has answered."""

from __future__ import annotations

from collections.abc import Callable

Run = Callable[..., tuple[int, str, str]]


def one_sentence(result: tuple[int, str, str]) -> str:
    """What a command has said that was refused: one sentence, which is all that it has done."""
    code, out, err = result
    assert code == 2 and out == ""
    assert len(err.splitlines()) == 1 and err.endswith(".\n")
    return err
