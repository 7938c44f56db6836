"""Packs in zip files: whole ones arrive, and a stranger can do no harm with one."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import pytest

from packs import everything, make_pack
from versemi.errors import InputError, PackError, VersemiError
from versemi.manifest import MANIFEST, WEIGHTS
from versemi.modelstore import (
    ModelStore,
)


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
