"""The model store: what was added stays as it was, and any of it can be used again."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from packs import THYMUS, everything, make_pack, refs
from versemi import tasks
from versemi.errors import InputError, PackError, VersemiError
from versemi.manifest import MANIFEST, WEIGHTS
from versemi.modelpack import ModelPack
from versemi.modelstore import (
    active,
    active_pack,
    active_pack_path,
    default_folder,
    find_pack,
)

pytestmark = pytest.mark.usefixtures("shipped")


def test_an_empty_store_has_the_pack_that_ships_and_it_is_active(store, shipped):
    (entry,) = store.entries()
    assert (entry.ref, entry.state, entry.shipped, entry.path) == (
        "base@1.0",
        "active",
        True,
        shipped,
    )
    assert entry.dice == pytest.approx(0.8) and entry.size > 500
    assert not store.folder.exists()


def test_an_added_pack_is_listed_with_what_it_says_and_its_source_stays(store, tmp_path):
    source = make_pack(
        tmp_path / "p", parent="base 1.0", dice=0.9, training={"finished": "2026-05-04"}
    )
    (source / "notes.txt").write_text("mine")
    before = everything(source)
    entry = store.add(source)
    assert everything(source) == before
    assert store.entries()[1] == entry
    assert (entry.name, entry.version, entry.state) == ("atria", "1", "candidate")
    assert (entry.parent, entry.date, entry.reason) == ("base 1.0", "2026-05-04", "")
    assert entry.dice == pytest.approx(0.9)
    assert entry.path == store.folder / "atria" / "1"
    kept = {item.name for item in entry.path.iterdir()}
    assert kept == {MANIFEST, WEIGHTS, "LICENSE", "record.json"}


def test_a_pack_that_does_not_say_when_it_was_made_has_the_day_it_was_added(store, tmp_path):
    entry = store.add(make_pack(tmp_path / "p", training={"finished": 3}))
    assert entry.date == entry.record.added[:10] and entry.date.startswith("20")
    assert entry.dice is None


def test_versions_are_in_the_order_of_their_numbers(store, tmp_path):
    for version in ("1.10", "1.9", "2-beta", "1.9.1"):
        store.add(make_pack(tmp_path / version, version=version))
    assert [entry.version for entry in store.entries()] == ["1.0", "1.9", "1.9.1", "1.10", "2-beta"]


def test_any_version_can_be_taken_into_use_and_the_shipped_one_again(store, tmp_path, shipped):
    store.add(make_pack(tmp_path / "1"), "active")
    assert store.active().ref == "atria@1" and active_pack_path() == store.active().path
    store.add(make_pack(tmp_path / "2", version="2"))
    assert store.active().ref == "atria@1"
    store.activate("atria", "2")
    assert [entry.state for entry in store.entries()] == ["candidate", "candidate", "active"]
    store.activate("atria", "1")
    assert active_pack()[0].version == "1" and active_pack()[1] == ""
    store.activate("base", "1.0")
    assert active_pack_path() == shipped and store.chosen() is None


def test_who_went_back_to_the_shipped_pack_gets_that_of_a_later_installation(
    store, tmp_path, monkeypatch
):
    store.add(make_pack(tmp_path / "1"), "active")
    store.activate_shipped()
    later = make_pack(tmp_path / "later", "base", "2.0")
    monkeypatch.setattr(active, "default_pack_path", lambda: later)
    assert active_pack()[0].version == "2.0"


def test_a_provisional_pack_stays_marked_when_it_is_taken_into_use(store, tmp_path):
    entry = store.add(make_pack(tmp_path / "p"), "provisional", "one corrected case")
    assert (entry.state, entry.reason) == ("provisional", "one corrected case")
    entry = store.activate("atria", "1")
    assert (entry.state, entry.reason) == ("active", "one corrected case")
    store.activate_shipped()
    assert store.find("atria@1").state == "provisional"


def test_packs_whose_own_prompts_have_one_label_lie_side_by_side(store, tmp_path, monkeypatch):
    monkeypatch.setattr(tasks, "TASKS", dict(tasks.TASKS))
    for own in (THYMUS, replace(THYMUS, id="scapula", name="Scapula")):
        store.add(make_pack(tmp_path / own.id, own.id, own=(own,)))
    assert [entry.state for entry in store.entries()] == ["active", "candidate", "candidate"]
    with pytest.raises(PackError, match="several prompts with the label 100"):
        ModelPack.load(
            make_pack(
                tmp_path / "both", own=(THYMUS, replace(THYMUS, id="scapula", name="Scapula"))
            )
        )


def test_a_pack_that_was_set_aside_is_kept_and_not_taken_into_use(store, tmp_path):
    with pytest.raises(InputError, match="Say why"):
        store.add(make_pack(tmp_path / "0"), "aside", " ")
    entry = store.add(make_pack(tmp_path / "p"), "aside", "Dice fell\nby 0.1")
    assert (entry.state, entry.reason) == ("aside", "Dice fell by 0.1")
    with pytest.raises(InputError, match=r"kept aside \(Dice fell by 0.1\).*--pack atria@1"):
        store.activate("atria", "1")
    assert store.active().shipped
    assert find_pack("atria@1").version == "1"


def test_a_version_is_set_aside_unless_it_is_in_use_or_ships(store, tmp_path):
    entry = store.add(make_pack(tmp_path / "p"), "active")
    with pytest.raises(InputError, match="atria@1 is in use"):
        store.set_aside(entry, "bad")
    store.activate_shipped()
    aside = store.set_aside(entry, "bad")
    assert (aside.state, aside.reason, aside.date) == ("aside", "bad", entry.date)
    with pytest.raises(InputError, match="ships"):
        store.set_aside(store.active(), "bad")


def test_a_version_that_is_there_is_never_overwritten(store, tmp_path):
    store.add(make_pack(tmp_path / "p", dice=0.5))
    before = everything(store.folder)
    with pytest.raises(InputError, match="never overwritten"):
        store.add(make_pack(tmp_path / "q", dice=0.6))
    with pytest.raises(InputError, match="base@1.0 ships"):
        store.add(make_pack(tmp_path / "r", "base", "1.0"))
    assert everything(store.folder) == before


def test_of_two_that_add_the_same_version_at_once_one_is_refused(store, tmp_path):
    sources = [make_pack(tmp_path / str(n), dice=n / 10) for n in range(6)]
    barrier = threading.Barrier(len(sources))
    outcomes: list[object] = []

    def add(source: Path) -> None:
        barrier.wait()
        try:
            outcomes.append(store.add(source).dice)
        except VersemiError as error:
            outcomes.append(error)

    threads = [threading.Thread(target=add, args=(source,)) for source in sources]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (won,) = [outcome for outcome in outcomes if isinstance(outcome, float)]
    assert sum(isinstance(o, InputError) and "never" in str(o) for o in outcomes) == 5
    assert store.find("atria@1").dice == won
    assert not list(store.folder.glob(".*"))


@pytest.mark.parametrize(
    "name", ["", "..", "a/b", "a@b", ".hidden", "dot.", "größe", "nul", "a" * 65]
)
def test_a_name_that_can_be_no_folder_everywhere_is_refused(store, tmp_path, name):
    with pytest.raises(InputError, match="cannot be kept in a model store"):
        store.add(make_pack(tmp_path / "p", name))
    with pytest.raises(InputError, match="pack's version"):
        store.add(make_pack(tmp_path / "q", version=name))
    assert refs(store) == ["base@1.0"]


def test_a_reference_that_is_none_or_names_nothing_is_refused(store):
    for text in ("atria", "atria@", "@1", "../x@1", "a@b@c"):
        with pytest.raises(InputError, match="write NAME@VERSION"):
            store.find(text)
    with pytest.raises(InputError, match=r"no atria@7 in the model store .*models list"):
        store.activate("atria", "7")


def test_what_else_lies_in_the_folder_is_no_version(store, tmp_path):
    store.add(make_pack(tmp_path / "p"))
    (store.folder / "notes.txt").write_text("mine")
    (store.folder / "atria" / "notes.txt").write_text("mine")
    (store.folder / "atria" / ".cache").mkdir()
    (store.folder / "my models" / "1").mkdir(parents=True)
    assert refs(store) == ["base@1.0", "atria@1"]


def test_a_pack_that_was_copied_in_by_hand_is_a_version(store):
    make_pack(store.folder / "atria" / "3", version="3")
    assert store.activate("atria", "3").state == "active"


def test_a_pack_is_found_by_folder_by_version_and_as_shipped(store, tmp_path, shipped, monkeypatch):
    entry = store.add(make_pack(tmp_path / "p"))
    assert find_pack(tmp_path / "p").path == tmp_path / "p"
    assert find_pack(Path("atria@1")).path == entry.path
    assert find_pack("shipped").path == shipped
    with pytest.raises(PackError, match="There is no model pack at nothing; give the folder"):
        find_pack("nothing")
    with pytest.raises(InputError, match="no atria@2 in the model store"):
        find_pack("atria@2")
    # A folder of that name was meant before there were versions.
    monkeypatch.chdir(tmp_path)
    make_pack(tmp_path / "atria@1")
    assert find_pack("atria@1").path == Path("atria@1")


def test_the_store_lies_where_the_system_keeps_the_users_data(tmp_path, monkeypatch):
    assert default_folder() == tmp_path / "models é"
    monkeypatch.delenv("VERSEMI_MODELS")
    monkeypatch.setattr(Path, "home", lambda: Path("/home/me"))
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert default_folder() == tmp_path / "versemi" / "models"
    monkeypatch.setenv("XDG_DATA_HOME", "relative")
    assert default_folder() == Path("/home/me/.local/share/versemi/models")
    monkeypatch.setattr(sys, "platform", "darwin")
    assert default_folder() == Path("/home/me/Library/Application Support/VerSemi/models")
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path))
    assert default_folder() == tmp_path / "VerSemi" / "models"
    monkeypatch.delenv("LOCALAPPDATA")
    assert default_folder() == Path("/home/me/AppData/Local/VerSemi/models")


def test_without_a_home_folder_the_shipped_pack_still_answers(monkeypatch):
    def nowhere() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("VERSEMI_MODELS")
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    monkeypatch.delenv("LOCALAPPDATA", raising=False)
    monkeypatch.setattr(Path, "home", nowhere)
    with pytest.raises(InputError, match="VERSEMI_MODELS"):
        default_folder()
    pack, warning = active_pack()
    assert pack.name == "base" and "names no home folder" in warning


def test_using_the_store_imports_no_torch(store, tmp_path, environment):
    store.add(make_pack(tmp_path / "p"), "active")
    of_store = {"VERSEMI_MODELS": str(store.folder), "VERSEMI_PACK": ""}
    code = (
        "import sys; from versemi.modelstore import ModelStore, active_pack\n"
        f"assert active_pack()[0].name == 'atria'; ModelStore({str(store.folder)!r}).entries()\n"
        "assert not {'torch', 'monai'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=environment | of_store)


def test_a_choice_is_one_small_file_that_says_what_it_is(store, tmp_path):
    store.add(make_pack(tmp_path / "p"), "active")
    choice = json.loads((store.folder / "active.json").read_text())
    assert choice == {"kind": "versemi-model-store", "format": 1, "active": "atria@1"}
