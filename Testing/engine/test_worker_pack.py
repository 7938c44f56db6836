"""Which pack the worker takes: the one that is named, else the active one."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from standin import StandIn

from packs import damage, make_pack
from versemi import inference
from versemi.errors import InputError
from versemi.worker import Worker, server


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Any, list[str]]]:
    """The worker's start up to its loop; gives the pack, and what the parent is warned of."""

    def start(*arguments: str) -> tuple[Any, list[str]]:
        began: list[tuple[Any, list[str]]] = []

        def serve(make_segmenter: Callable[[], Any], warnings: Sequence[str]) -> int:
            began.append((make_segmenter().pack, list(warnings)))
            return 0

        monkeypatch.setattr(server, "serve", serve)
        monkeypatch.setattr(
            inference, "Segmenter", lambda pack, device: SimpleNamespace(pack=pack, device=device)
        )
        assert server.main(arguments) == 0
        return began[0]

    return start


def test_the_active_pack_answers_where_none_is_named(start, store, tmp_path):
    assert start()[0].name == "base"
    store.add(make_pack(tmp_path / "p"), "active")
    pack, warnings = start()
    assert (pack.name, pack.version, warnings) == ("atria", "1", [])


def test_a_pack_that_is_named_wins_over_the_active_one(start, store, tmp_path):
    store.add(make_pack(tmp_path / "p"), "active")
    store.add(make_pack(tmp_path / "q", version="2"))
    other = make_pack(tmp_path / "r", "other")
    assert start("--pack", str(other))[0].path == other
    assert start("--pack", "atria@2")[0].version == "2"
    assert start("--pack", "shipped")[0].name == "base"
    with pytest.raises(InputError, match="There is no atria@3 in the model store"):
        start("--pack", "atria@3")


def test_a_damaged_active_pack_is_told_with_the_word_that_the_worker_is_ready(
    start, store, tmp_path
):
    damage(store.add(make_pack(tmp_path / "p"), "active").path)
    pack, warnings = start()
    assert pack.name == "base"
    (warning,) = warnings
    assert warning.startswith("The active model atria@1 cannot be used, and base 1.0")

    answers = io.BytesIO()
    assert Worker(io.BytesIO(), answers, StandIn, warnings=warnings).run() == 0
    ready = json.loads(answers.getvalue().splitlines()[0])
    assert ready["event"] == "ready" and ready["warnings"] == [warning]
