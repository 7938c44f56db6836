"""The model store: what is in it stays as it was, and some pack always answers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path

import pytest
from packs import damage, make_pack

from versemi.errors import InputError, OutputError, PackError, VersemiError
from versemi.modelpack import MANIFEST, WEIGHTS
from versemi.modelstore import (
    ModelStore,
    active,
    active_pack,
    active_pack_path,
    default_folder,
    find_pack,
)
from versemi.modelstore import store as store_module


@pytest.fixture(autouse=True)
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A pack that ships, in an environment that names no other."""
    pack = make_pack(tmp_path / "ships", "base", "1.0", dice=0.8, training={"steps": 3})
    for module in (store_module, active):
        monkeypatch.setattr(module, "default_pack_path", lambda: pack)
    monkeypatch.delenv("VERSEMI_PACK", raising=False)
    monkeypatch.setenv("VERSEMI_MODELS", str(tmp_path / "models é"))
    return pack


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "models é")


def refs(store: ModelStore) -> list[str]:
    return [entry.ref for entry in store.entries()]


def everything(folder: Path) -> dict[str, bytes]:
    """All files below a folder, hidden ones included."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


# Versions ---------------------------------------------------------------------------------------


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


# Damage -----------------------------------------------------------------------------------------


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
    assert active_pack_path() == named


# Writing ----------------------------------------------------------------------------------------


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


# Zip files --------------------------------------------------------------------------------------


def test_a_zip_brings_a_version_to_another_store_byte_for_byte(store, tmp_path):
    entry = store.add(make_pack(tmp_path / "p"), "provisional", "one case")
    file = store.export_zip("atria@1", tmp_path / "out" / "atria.zip")
    other = ModelStore(tmp_path / "other")
    came = other.import_zip(file)
    assert (came.ref, came.state, came.reason) == ("atria@1", "provisional", "one case")
    for name in (MANIFEST, WEIGHTS, "LICENSE"):
        assert (came.path / name).read_bytes() == (entry.path / name).read_bytes()
    assert other.active().shipped
    with pytest.raises(InputError, match="never overwritten"):
        other.import_zip(file)
    assert [path.name for path in other.folder.iterdir()] == ["atria"]


def test_what_was_set_aside_stays_aside_on_its_way_through_a_zip(store, tmp_path):
    store.add(make_pack(tmp_path / "p"), "aside", "Dice fell")
    file = store.export_zip("atria@1", tmp_path / "a.zip")
    came = ModelStore(tmp_path / "other").import_zip(file)
    assert (came.state, came.reason) == ("aside", "Dice fell")


def test_the_shipped_pack_can_be_exported(store, tmp_path):
    with zipfile.ZipFile(store.export_zip("shipped", tmp_path / "base.ZIP")) as archive:
        assert sorted(archive.namelist()) == sorted([MANIFEST, WEIGHTS, "LICENSE"])


def test_an_export_takes_no_files_place_and_is_called_zip(store, tmp_path):
    (tmp_path / "a.zip").write_text("mine")
    with pytest.raises(InputError, match="exists already"):
        store.export_zip("shipped", tmp_path / "a.zip")
    with pytest.raises(InputError, match="ends in .zip"):
        store.export_zip("shipped", tmp_path / "a.tar")
    assert (tmp_path / "a.zip").read_text() == "mine"


@pytest.fixture
def content(tmp_path: Path) -> dict[str, bytes]:
    """The files of a pack by name."""
    return everything(make_pack(tmp_path / "content"))


def write(path: Path, members: list[tuple[str | zipfile.ZipInfo, bytes]]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for member, data in members:
            archive.writestr(member, data)
    return path


def refused(store: ModelStore, file: Path, error: type[VersemiError], words: str) -> None:
    """An import is one sentence, and leaves nothing anywhere."""
    around = sorted(path for path in store.folder.parent.iterdir() if path != store.folder)
    with pytest.raises(error, match=words) as told:
        store.import_zip(file)
    assert "\n" not in str(told.value) and ".part-" not in str(told.value)
    assert not store.folder.exists() or not list(store.folder.iterdir())
    assert around == sorted(path for path in store.folder.parent.iterdir() if path != store.folder)


@pytest.mark.parametrize(
    "name",
    [
        "../evil.json",
        "/tmp/evil.json",
        "..\\evil.json",
        "C:\\evil.json",
        "atria/manifest.json",
        "manifest.json/",
        "./manifest.json",
        "model.pt",
        "MANIFEST.JSON",
    ],
)
def test_a_zip_with_anything_but_a_packs_files_is_refused(store, tmp_path, content, name):
    file = write(tmp_path / "x.zip", [*content.items(), (name, b"evil")])
    refused(store, file, InputError, "which is no part of a pack")


def test_a_zip_with_a_link_in_it_is_refused(store, tmp_path, content):
    link = zipfile.ZipInfo("README.md")
    link.create_system = 3
    link.external_attr = 0o120777 << 16
    file = write(tmp_path / "x.zip", [*content.items(), (link, b"/etc/passwd")])
    refused(store, file, InputError, "README.md in it is a link")


def test_a_zip_that_holds_a_file_twice_or_lacks_one_is_refused(store, tmp_path, content):
    with pytest.warns(UserWarning, match="Duplicate"):
        file = write(tmp_path / "x.zip", [*content.items(), (WEIGHTS, b"other")])
    refused(store, file, InputError, "holds model.safetensors twice")
    for name in (WEIGHTS, MANIFEST):
        few = [(other, data) for other, data in content.items() if other != name]
        refused(store, write(tmp_path / f"{name}.zip", few), InputError, f"it has no {name}")


def test_a_zip_whose_files_are_too_large_is_refused_before_they_are_unpacked(
    store, tmp_path, content
):
    packed = zipfile.ZipInfo("README.md")
    packed.compress_type = zipfile.ZIP_DEFLATED
    file = write(tmp_path / "x.zip", [*content.items(), (packed, bytes(5 * 2**20))])
    assert file.stat().st_size < 2**20
    refused(store, file, InputError, "larger than 4 MiB")
    # One that lies about it is cut at the size that it names, and its checksum is wrong.
    data = bytearray(file.read_bytes())
    at = data.rindex(b"PK\x01\x02")
    data[at + 24 : at + 28] = (100).to_bytes(4, "little")
    file.write_bytes(data)
    refused(store, file, InputError, "is damaged")


def test_an_encrypted_or_strangely_packed_zip_is_refused(store, tmp_path, content):
    odd = zipfile.ZipInfo("README.md")
    odd.compress_type = zipfile.ZIP_BZIP2
    file = write(tmp_path / "x.zip", [*content.items(), (odd, b"text")])
    refused(store, file, InputError, "compressed in an unusual way")
    plain = write(tmp_path / "y.zip", list(content.items()))
    data = bytearray(plain.read_bytes())
    data[data.rindex(b"PK\x01\x02") + 8] |= 1
    plain.write_bytes(data)
    refused(store, plain, InputError, "is encrypted")


def test_what_is_no_zip_or_no_longer_one_is_refused(store, tmp_path, content):
    refused(store, tmp_path / "none.zip", InputError, "There is no file")
    (tmp_path / "text.zip").write_text("no zip")
    refused(store, tmp_path / "text.zip", InputError, "is not a zip file, or is damaged")
    file = write(tmp_path / "x.zip", list(content.items()))
    file.write_bytes(file.read_bytes()[:-40])
    refused(store, file, InputError, "is not a zip file, or is damaged")


def test_a_zip_with_any_byte_changed_never_becomes_another_version(store, tmp_path, content):
    file = write(tmp_path / "x.zip", list(content.items()))
    whole = file.read_bytes()
    taken_in = 0
    step = 29
    for at in range(0, len(whole), step):
        changed = bytearray(whole)
        changed[at] ^= 0x55
        file.write_bytes(changed)
        try:
            entry = store.import_zip(file)
        except VersemiError as error:
            assert "\n" not in str(error) and ".part-" not in str(error)
            continue
        # The byte was one that says nothing, such as a date.
        taken_in += 1
        assert (entry.path / WEIGHTS).read_bytes() == content[WEIGHTS]
        assert (entry.path / MANIFEST).read_bytes() == content[MANIFEST]
        shutil.rmtree(store.folder)
    assert taken_in < len(whole) / step / 4


def test_a_zip_with_damaged_weights_is_refused_in_the_words_of_the_pack(store, tmp_path, content):
    content[WEIGHTS] = content[WEIGHTS][:-1] + b"?"
    file = write(tmp_path / "x.zip", list(content.items()))
    refused(store, file, PackError, r"weights of the model pack .*x\.zip are damaged")


def test_a_zip_whose_manifest_drowns_the_reader_is_refused(store, tmp_path, content):
    content[MANIFEST] = b"[" * 100_000
    file = write(tmp_path / "x.zip", list(content.items()))
    refused(store, file, PackError, "manifest .* is damaged")


def test_a_zip_of_a_pack_with_a_name_that_is_a_path_is_refused(store, tmp_path):
    pack = make_pack(tmp_path / "content", "../../evil")
    file = write(tmp_path / "x.zip", list(everything(pack).items()))
    refused(store, file, InputError, "cannot be kept in a model store")


# Finding ----------------------------------------------------------------------------------------


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
