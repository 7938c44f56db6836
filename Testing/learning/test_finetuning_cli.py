"""``versemi finetune`` on the command line."""

from __future__ import annotations

import json

import pytest
from finetuning import clock_in_steps, fill, make_parent, tiny_networks

from commands import one_sentence


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    clock_in_steps(monkeypatch, 4)
    with tiny_networks():
        yield


@pytest.fixture
def pack(tmp_path):
    return make_parent(tmp_path / "parent", steps=0)


def test_it_shows_the_numbers_and_says_what_became_of_the_pack(run, store, pack, tmp_path):
    fill(tmp_path / "library", 2)
    out = tmp_path / "out"
    options = ["--library", tmp_path / "library", "--pack", pack.path, "--minutes", 1]
    code, shown, said = run("finetune", *options, "--out", out)
    assert code == 0
    report = json.loads((out / "finetuning.json").read_text())
    assert shown.splitlines()[0].split() == ["Prompt", "Held-out", "cases", "Dice", "Parent's"]
    dice = report["dice"]["liver"]
    row = ["liver", "2", f"{dice['tuned']:.3f}", f"{dice['parent']:.3f}"]
    assert shown.splitlines()[1].split() == row
    assert said.splitlines()[-1] == f"small@1.0+ft1 is {report['state']}. {report['reason']}"
    assert store.find("small@1.0+ft1").pack is not None


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"--library": "nowhere"}, "There is no case library at"),
        ({"--pack": "nowhere"}, "There is no model pack at"),
        ({"-t": "spleen"}, "does not know the prompt 'spleen'"),
        ({"-t": "left_atrium"}, "covers the prompt 'left_atrium'"),
        ({"--minutes": "-3"}, "-3 minutes cannot learn"),
        ({"--out": "library"}, "is not an empty folder"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(
    run, store, pack, tmp_path, monkeypatch, change, sentence
):
    monkeypatch.chdir(tmp_path)
    fill(tmp_path / "library", 1)
    options = {"--library": "library", "--pack": "parent", "--out": "out", **change}
    given = [part for pair in options.items() for part in pair]
    assert sentence in one_sentence(run("finetune", *given))
    assert not (tmp_path / "out").exists() and not (tmp_path / "out.work").exists()
