"""The model store where things go wrong: some pack always answers, and nothing is lost."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from packs import damage, everything, make_pack, refs
from versemi.errors import InputError, OutputError, PackError
from versemi.modelstore import (
    ModelStore,
    active,
    active_pack,
    active_pack_path,
    chosen_pack,
)
from versemi.modelstore import store as store_module

pytestmark = pytest.mark.usefixtures("shipped")


def test_a_damaged_version_is_shown_and_refused_and_the_active_one_stays(store, tmp_path):
    store.add(make_pack(tmp_path / "1"), "active")
    broken = store.add(make_pack(tmp_path / "2", version="2"))
    damage(broken.path)
    shown = store.find("atria@2")
    assert shown.state == "damaged" and "are damaged (checksum" in shown.reason
    with pytest.raises(PackError, match="weights of the model pack .* are damaged"):
        store.activate("atria", "2")
    with pytest.raises(PackError, match="are damaged"):
        store.add(broken.path)
    with pytest.raises(PackError, match="are damaged"):
        store.export_zip("atria@2", tmp_path / "x.zip")
    assert store.active().ref == "atria@1" and not (tmp_path / "x.zip").exists()


def test_a_folder_that_holds_another_pack_than_its_name_says_is_damaged(store, tmp_path):
    entry = store.add(make_pack(tmp_path / "p"))
    shutil.copytree(entry.path, store.folder / "atria" / "2")
    assert "holds the model pack atria 1" in store.find("atria@2").reason
    with pytest.raises(PackError, match="move it to a folder of that name"):
        store.activate("atria", "2")


@pytest.mark.parametrize("text", ["", "{}", "[" * 100_000, '{"format": 2, "state": "candidate"}'])
def test_a_version_whose_record_is_unreadable_counts_as_set_aside(store, tmp_path, text):
    entry = store.add(make_pack(tmp_path / "p"))
    (entry.path / "record.json").write_text(text)
    assert store.find("atria@1").state == "aside"
    with pytest.raises(InputError, match="record.json cannot be read"):
        store.activate("atria", "1")


def test_an_active_pack_that_was_deleted_is_replaced_by_the_shipped_one_with_a_sentence(
    store, tmp_path, shipped
):
    entry = store.add(make_pack(tmp_path / "p"), "active")
    shutil.rmtree(entry.path)
    with pytest.raises(PackError, match="no atria@1 in the model store .* any more"):
        store.active()
    with pytest.raises(PackError, match="no atria@1 in the model store .* any more"):
        chosen_pack()
    pack, warning = active_pack()
    assert pack.path == shipped and active_pack_path() == shipped
    assert warning.startswith(
        "The active model atria@1 cannot be used, and base 1.0, which ships, answers instead: "
    )
    assert "\n" not in warning and warning.endswith(".")
    assert refs(store) == ["base@1.0"] and not store.entries()[0].active


def test_an_active_pack_that_is_damaged_is_replaced_by_the_shipped_one_too(store, tmp_path):
    damage(store.add(make_pack(tmp_path / "p"), "active").path)
    pack, warning = active_pack()
    assert pack.name == "base" and "are damaged (checksum" in warning
    with pytest.raises(PackError, match="are damaged"):
        chosen_pack()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is damaged; remove it"),
        ("[" * 100_000, "is damaged"),
        ('{"kind": "versemi-model-store", "format": 1, "active": "../x"}', "is damaged"),
        ('{"kind": "versemi-model-store", "format": 1, "active": 3}', "is damaged"),
        ('{"kind": "versemi-model-store", "format": 2}', "format 2.*update VerSemi"),
    ],
)
def test_a_choice_that_cannot_be_read_is_said_and_the_shipped_pack_answers(store, text, words):
    store.folder.mkdir()
    (store.folder / "active.json").write_text(text)
    with pytest.raises(PackError, match=words):
        store.entries()
    with pytest.raises(PackError, match=words):
        store.activate_shipped()
    pack, warning = active_pack()
    assert pack.name == "base" and "which ships, answers instead" in warning
    assert (store.folder / "active.json").read_text() == text


def test_without_a_shipped_pack_only_the_active_one_can_answer(store, tmp_path, monkeypatch):
    def none() -> Path:
        raise PackError("None ships.")

    for module in (store_module, active):
        monkeypatch.setattr(module, "default_pack_path", none)
    assert store.entries() == []
    with pytest.raises(PackError, match="None ships"):
        active_pack()
    entry = store.add(make_pack(tmp_path / "p"), "active")
    assert active_pack_path() == entry.path
    shutil.rmtree(entry.path)
    with pytest.raises(PackError, match="The active model atria@1 cannot be used: There is no"):
        active_pack()


def test_a_damaged_shipped_pack_is_shown_as_such(store, shipped):
    damage(shipped)
    (entry,) = store.entries()
    assert entry.state == "damaged" and entry.shipped and entry.dice is None
    with pytest.raises(PackError, match="are damaged"):
        active_pack()


def test_the_environment_variable_for_the_pack_wins_over_the_active_one(
    store, tmp_path, monkeypatch
):
    store.add(make_pack(tmp_path / "p"), "active")
    named = make_pack(tmp_path / "q", "named")
    monkeypatch.setenv("VERSEMI_PACK", str(named))
    monkeypatch.setattr(active, "default_pack_path", lambda: named)
    assert active_pack_path() == chosen_pack().path == named


@pytest.mark.parametrize("change", ["add", "import_zip", "activate", "set_aside"])
def test_a_full_disk_is_one_sentence_and_nothing_has_changed(store, tmp_path, monkeypatch, change):
    store.add(make_pack(tmp_path / "1"), "active")
    two = store.add(make_pack(tmp_path / "2", version="2"))
    zipped = store.export_zip("atria@1", tmp_path / "1.zip")
    shutil.move(store.folder / "atria" / "1", tmp_path / "away")
    make_pack(tmp_path / "3", version="3")
    before = everything(store.folder)
    actions = {
        "add": lambda: store.add(tmp_path / "3"),
        "import_zip": lambda: store.import_zip(zipped),
        "activate": lambda: store.activate("atria", "2"),
        "set_aside": lambda: store.set_aside(two, "bad"),
    }

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(OutputError, match="No space left|disk or quota is full") as told:
            actions[change]()
    assert "\n" not in str(told.value)
    assert everything(store.folder) == before
    actions[change]()
    assert everything(store.folder) != before


def test_a_store_that_may_not_be_written_is_one_sentence(store, tmp_path, monkeypatch):
    source = make_pack(tmp_path / "p")
    store.add(source)

    def refuse(*arguments: object, **keywords: object) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(store_module.tempfile, "mkdtemp", refuse)
    with pytest.raises(OutputError, match=r"could not be written \(Permission denied\); make room"):
        store.add(make_pack(tmp_path / "q", version="2"))


def test_a_store_in_the_place_of_a_file_is_one_sentence(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file; give a folder"):
        ModelStore(tmp_path / "file")
    with pytest.raises(OutputError, match="could not be written"):
        ModelStore(tmp_path / "file" / "below").add(make_pack(tmp_path / "p"))
    monkeypatch.setenv("VERSEMI_MODELS", str(tmp_path / "file"))
    pack, warning = active_pack()
    assert pack.name == "base" and "is a file" in warning


@pytest.mark.parametrize("moment", ["shutil.copyfile", "versemi.modelstore.store.move_aside"])
def test_a_writer_that_is_killed_leaves_no_half_version(store, tmp_path, environment, moment):
    source = make_pack(tmp_path / "p")
    code = f"""
import os, sys
from unittest import mock
from versemi.modelstore import ModelStore
with mock.patch({moment!r}, lambda *a, **k: os._exit(9)):
    ModelStore(sys.argv[1]).add(sys.argv[2])
"""
    run = [sys.executable, "-c", code, str(store.folder), str(source)]
    assert subprocess.run(run, env=environment).returncode == 9
    assert refs(store) == ["base@1.0"]
    (left,) = store.folder.iterdir()
    # Another writer might be at it still; after a day it is not.
    store.add(make_pack(tmp_path / "q", version="2"))
    assert left.exists()
    day = time.time() - 25 * 3600
    os.utime(left, (day, day))
    store.add(source)
    assert not left.exists() and refs(store) == ["base@1.0", "atria@1", "atria@2"]
