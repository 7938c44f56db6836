"""Model packs: whole, ours, and not too new, or refused in one sentence."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest

from versemi.errors import InputError, OutputError, PackError
from versemi.manifest import MANIFEST, WEIGHTS
from versemi.modelpack import ModelPack, write_pack


@pytest.fixture
def pack(tiny_pack, tmp_path):
    return shutil.copytree(tiny_pack, tmp_path / "pack")


def edit(pack, **changes):
    data = json.loads((pack / MANIFEST).read_text())
    data.update(changes)
    (pack / MANIFEST).write_text(json.dumps(data))


def test_a_pack_comes_back_with_its_prompts_and_weights(pack):
    loaded = ModelPack.load(pack)
    assert loaded.name == "tiny"
    assert "spleen" in loaded.task_ids
    assert "foreground" not in loaded.task_ids
    network = loaded.build_network()
    assert network.prompts[-1] == "foreground"
    again = write_pack(pack.parent / "again", network, loaded.manifest)
    assert again.digest == loaded.digest


def test_a_pack_with_one_changed_byte_in_its_weights_is_refused(pack):
    content = bytearray((pack / WEIGHTS).read_bytes())
    content[len(content) // 2] ^= 1
    (pack / WEIGHTS).write_bytes(content)
    with pytest.raises(PackError, match="weights of the model pack .* are damaged"):
        ModelPack.load(pack)


def test_a_pack_with_one_changed_letter_in_its_manifest_is_refused(pack):
    text = (pack / MANIFEST).read_text().replace('"Spleen"', '"Splean"')
    (pack / MANIFEST).write_text(text)
    with pytest.raises(PackError, match="was changed after the pack was made"):
        ModelPack.load(pack)


def test_a_truncated_manifest_is_refused(pack):
    text = (pack / MANIFEST).read_text()
    (pack / MANIFEST).write_text(text[: len(text) // 2])
    with pytest.raises(PackError, match="is damaged"):
        ModelPack.load(pack)


def test_a_pack_of_a_newer_format_is_refused_before_its_checksum_is_read(pack):
    edit(pack, format=99)
    with pytest.raises(PackError, match="format 99.*update VerSemi"):
        ModelPack.load(pack)


def test_a_foreign_folder_is_refused(pack):
    edit(pack, kind="nnunet")
    with pytest.raises(PackError, match="not a VerSemi model pack"):
        ModelPack.load(pack)


def test_a_folder_without_a_manifest_or_without_weights_is_refused(pack, tmp_path):
    with pytest.raises(PackError, match="no model pack at"):
        ModelPack.load(tmp_path / "nothing")
    (pack / WEIGHTS).unlink()
    with pytest.raises(PackError, match="cannot be read"):
        ModelPack.load(pack)
    (pack / MANIFEST).unlink()
    with pytest.raises(PackError, match="has no manifest.json"):
        ModelPack.load(pack)


def test_a_prompt_that_the_pack_does_not_know_is_named_with_those_it_knows(pack):
    loaded = ModelPack.load(pack)
    with pytest.raises(InputError, match="never enters a label map"):
        loaded.settings("foreground")
    few = ModelPack(
        loaded.path,
        type(loaded.manifest)(
            "few", "1", loaded.manifest.network, loaded.manifest.prompts[:2], loaded.manifest.groups
        ),
        loaded.digest,
    )
    with pytest.raises(InputError, match="does not know the prompt 'liver'; it knows left_atrium"):
        few.settings("liver")


def test_weights_of_another_network_are_refused_with_what_differs(pack):
    from dataclasses import replace

    loaded = ModelPack.load(pack)
    network = {**loaded.manifest.network, "features": 16}
    other = write_pack(
        pack.parent / "other", loaded.build_network(), replace(loaded.manifest, network=network)
    )
    with pytest.raises(PackError, match="do not fit the network .*size mismatch") as caught:
        other.build_network()
    assert len(str(caught.value).splitlines()) == 1


def test_no_file_of_a_pack_is_a_pickle(pack):
    for path in pack.iterdir():
        assert not path.read_bytes().startswith((b"\x80", b"PK")), path


def test_a_pack_that_cannot_be_written_leaves_the_old_one_alone(pack, monkeypatch):
    loaded = ModelPack.load(pack)
    network = loaded.build_network()
    monkeypatch.setattr("os.fsync", lambda fd: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(OutputError, match="No space left"):
        write_pack(pack, network, loaded.manifest)
    monkeypatch.undo()
    assert ModelPack.load(pack).digest == loaded.digest
    assert [p.name for p in pack.parent.iterdir()] == ["pack"]


def test_reading_a_manifest_imports_no_torch(pack):
    code = (
        "import sys; from versemi.modelpack import ModelPack; "
        f"ModelPack.load({str(pack)!r}); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_pack_keeps_the_group_that_a_prompt_had_when_it_was_taught(pack, tmp_path):
    loaded = ModelPack.load(pack)
    spleen = loaded.settings("spleen")
    earlier = replace(spleen, task=replace(spleen.task, group="lge_mr"))
    prompts = tuple(earlier if p == spleen else p for p in loaded.manifest.prompts)
    manifest = replace(loaded.manifest, prompts=prompts)
    again = write_pack(tmp_path / "earlier", loaded.build_network(), manifest)
    assert ModelPack.load(again.path).settings("spleen").task.group == "lge_mr"
