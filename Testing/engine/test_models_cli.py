"""``versemi models``, and what all commands do with the versions that it keeps."""

from __future__ import annotations

import shutil

import pytest

from commands import one_sentence
from packs import damage, make_pack
from versemi.modelstore import ModelStore

pytestmark = pytest.mark.usefixtures("shipped")


def rows(text: str) -> list[list[str]]:
    """The lines of a table, without what is around it."""
    return [line.split() for line in text.split("\n\n")[0].splitlines()]


# Listing and choosing ---------------------------------------------------------------------------


def test_list_shows_every_version_with_its_state_and_why(run, store, tmp_path):
    finished = {"finished": "2026-05-04"}
    one = make_pack(tmp_path / "1", parent="base 1.0", dice=0.9, training=finished)
    store.add(one, "active")
    store.add(make_pack(tmp_path / "2", version="2", training=finished), "provisional", "one case")
    store.add(make_pack(tmp_path / "3", version="3", training=finished), "aside", "Dice [fell]")
    damage(store.add(make_pack(tmp_path / "4", version="4")).path)
    code, out, err = run("models", "list")
    assert (code, err) == (0, "")
    header, *listed = rows(out)
    assert header == ["Name", "Version", "Parent", "Date", "Dice", "Size", "State"]
    assert listed[0][:5] == ["base", "1.0", "-", "-", "0.800"]
    assert " ".join(listed[0][-2:]) == "available, shipped"
    expected = "atria 1 base 1.0 2026-05-04 0.900 0.0 MB active"
    assert " ".join(listed[1]) == expected
    assert " ".join(listed[2]) == "atria 2 - 2026-05-04 - 0.0 MB provisional: one case"
    assert " ".join(listed[3]) == "atria 3 - 2026-05-04 - 0.0 MB kept aside: Dice [fell]"
    assert "damaged: The weights of the model pack" in " ".join(listed[4])
    assert out.splitlines()[-1] == f"Model store {store.folder}"


def test_list_of_a_new_installation_shows_what_ships(run, store):
    code, out, _ = run("models", "list")
    assert code == 0 and " ".join(rows(out)[1]).endswith("active, shipped")
    assert not store.folder.exists()


def test_list_without_any_model_says_where_one_comes_from(run, shipped):
    shutil.rmtree(shipped)
    code, out, _ = run("models", "list")
    assert code == 0 and "damaged, shipped: There is no model pack at" in " ".join(out.split())


def test_a_strangers_pack_cannot_write_on_the_terminal(run, store, tmp_path):
    store.add(make_pack(tmp_path / "p", parent="\x1b[2J[red]x\nbase"))
    _, out, _ = run("models", "list")
    assert "\x1b" not in out and "[2J[red]x base" in out


def test_use_changes_what_all_commands_answer_with(run, store, tmp_path):
    store.add(make_pack(tmp_path / "1"))
    assert run("tasks")[1].count("Pack base 1.0") == 1
    assert run("models", "use", "atria@1") == (0, "atria@1 is active.\n", "")
    assert "Pack atria 1, " in run("tasks")[1]
    assert run("models", "use", "shipped") == (0, "base@1.0 is active.\n", "")
    assert "Pack base 1.0, " in run("tasks")[1]
    assert run("models", "use", "atria@1")[0] == 0
    assert run("models", "use", "base@1.0") == (0, "base@1.0 is active.\n", "")
    assert "Pack base 1.0, " in run("tasks")[1]


def test_using_a_provisional_version_says_that_it_is_one(run, store, tmp_path):
    store.add(make_pack(tmp_path / "1"), "provisional", "one corrected case")
    code, _, err = run("models", "use", "atria@1")
    assert (code, err) == (0, "It is provisional (one corrected case).\n")
    assert "active, provisional: one corrected case" in run("models", "list")[1]


def test_use_refuses_what_cannot_be_used_and_the_active_one_stays(run, store, tmp_path):
    store.add(make_pack(tmp_path / "1"), "active")
    store.add(make_pack(tmp_path / "2", version="2"), "aside", "Dice fell")
    damage(store.add(make_pack(tmp_path / "3", version="3")).path)
    assert "kept aside (Dice fell)" in one_sentence(run("models", "use", "atria@2"))
    assert "are damaged (checksum" in one_sentence(run("models", "use", "atria@3"))
    assert "There is no atria@4" in one_sentence(run("models", "use", "atria@4"))
    assert "write NAME@VERSION" in one_sentence(run("models", "use", "atria"))
    assert "'NAME@VERSION'" in one_sentence(run("models", "use"))
    assert store.active().ref == "atria@1"


def test_a_store_is_named_by_an_option_too(run, tmp_path):
    other = ModelStore(tmp_path / "other")
    other.add(make_pack(tmp_path / "1"))
    own = ("--store", other.folder)
    assert "atria" in run("models", "list", *own)[1] and "atria" not in run("models", "list")[1]
    assert run("models", "use", "atria@1", *own)[0] == 0
    assert run("models", "export", "atria@1", tmp_path / "a.zip", *own)[0] == 0
    assert run("models", "import", tmp_path / "a.zip", "--store", tmp_path / "third")[0] == 0
    (tmp_path / "file").write_text("")
    for command in (("list",), ("use", "a@1"), ("import", "a.zip"), ("export", "a@1", "b.zip")):
        sentence = one_sentence(run("models", *command, "--store", tmp_path / "file"))
        assert "is a file; give a folder" in sentence


def test_a_store_of_a_newer_version_is_refused(run, store):
    store.folder.mkdir()
    (store.folder / "active.json").write_text('{"kind": "versemi-model-store", "format": 9}')
    for command in (("list",), ("use", "shipped")):
        assert "format 9" in one_sentence(run("models", *command))


def test_the_environment_variable_that_wins_is_mentioned(run, store, shipped, monkeypatch):
    monkeypatch.setenv("VERSEMI_PACK", str(shipped))
    assert "VERSEMI_PACK is set" in run("models", "list")[2]
    assert "VERSEMI_PACK is set" in run("models", "use", "shipped")[2]


# A pack that is gone ----------------------------------------------------------------------------


def test_an_active_pack_that_was_deleted_costs_a_warning_and_not_the_work(run, store, tmp_path):
    entry = store.add(make_pack(tmp_path / "1"), "active")
    shutil.rmtree(entry.path)
    code, out, err = run("tasks")
    assert code == 0 and "Pack base 1.0, " in out
    assert len(err.splitlines()) == 1
    assert err.startswith("Warning: The active model atria@1 cannot be used, and base 1.0")
    code, out, err = run("models", "list")
    assert code == 0 and "atria@1 is no longer in the store" in err
    assert run("models", "use", "shipped")[0] == 0
    assert run("tasks")[2] == "" and run("models", "list")[2] == ""


def test_an_active_pack_that_is_damaged_costs_a_warning_too(run, store, tmp_path):
    damage(store.add(make_pack(tmp_path / "1"), "active").path)
    code, out, err = run("tasks")
    assert code == 0 and "Pack base 1.0, " in out and "are damaged (checksum" in err
    assert "active, damaged: The weights" in " ".join(run("models", "list")[1].split())


def test_any_command_takes_a_version_where_it_takes_a_pack(run, store, tmp_path):
    store.add(make_pack(tmp_path / "1"), "aside", "Dice fell")
    assert "Pack atria 1, " in run("tasks", "--pack", "atria@1")[1]
    assert "Pack base 1.0, " in run("tasks", "--pack", "shipped")[1]
    assert "Pack atria 1, " in run("tasks", "--pack", tmp_path / "1")[1]
    assert "no atria@2 in the model store" in one_sentence(run("tasks", "--pack", "atria@2"))
    assert "no model pack at" in one_sentence(run("tasks", "--pack", tmp_path / "2"))


# Zip files --------------------------------------------------------------------------------------


def test_export_and_import_carry_a_version_to_another_machine(run, store, tmp_path, monkeypatch):
    store.add(make_pack(tmp_path / "1"))
    file = tmp_path / "out" / "atria.zip"
    code, out, err = run("models", "export", "atria@1", file)
    assert (code, out, err) == (0, f"{file}, 0.0 MB\n", "")
    monkeypatch.setenv("VERSEMI_MODELS", str(tmp_path / "other"))
    code, out, err = run("models", "import", file)
    assert (code, err) == (0, "")
    assert out == "atria@1 was taken in; 'versemi models use atria@1' makes it active.\n"
    assert ModelStore(tmp_path / "other").find("atria@1").state == "candidate"


def test_an_import_of_what_was_kept_aside_says_so(run, store, tmp_path):
    store.add(make_pack(tmp_path / "1"), "aside", "Dice fell")
    run("models", "export", "atria@1", tmp_path / "a.zip")
    code, out, _ = run("models", "import", tmp_path / "a.zip", "--store", tmp_path / "other")
    assert (code, out) == (0, "atria@1 was taken in; it is kept aside (Dice fell).\n")


def test_exports_and_imports_that_cannot_be_done_are_one_sentence(run, store, tmp_path):
    store.add(make_pack(tmp_path / "1"))
    file = tmp_path / "a.zip"
    assert "There is no atria@9" in one_sentence(run("models", "export", "atria@9", file))
    assert "ends in .zip" in one_sentence(run("models", "export", "atria@1", tmp_path / "a.tar"))
    assert run("models", "export", "atria@1", file)[0] == 0
    assert "exists already" in one_sentence(run("models", "export", "atria@1", file))
    below = tmp_path / "1" / "LICENSE" / "a.zip"
    assert "could not be written" in one_sentence(run("models", "export", "atria@1", below))
    assert "never overwritten" in one_sentence(run("models", "import", file))
    assert "There is no file" in one_sentence(run("models", "import", tmp_path / "b.zip"))
    (tmp_path / "c.zip").write_text("text")
    assert "not a zip file" in one_sentence(run("models", "import", tmp_path / "c.zip"))


@pytest.mark.parametrize("command", ["list", "use", "compare", "export", "import"])
def test_help_of_each_command_teaches(run, command):
    code, out, _ = run("models", command, "--help")
    assert code == 0 and "--store" in out
