"""``versemi models``, and what all commands do with the versions that it keeps."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from packs import damage, make_pack

from versemi.cli import main
from versemi.cli import models as models_command
from versemi.modelpack import ModelPack, write_pack
from versemi.modelstore import ModelStore, active
from versemi.modelstore import store as store_module
from versemi.tasks import TASKS

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    pack = make_pack(tmp_path / "ships", "base", "1.0", dice=0.8)
    for module in (store_module, active):
        monkeypatch.setattr(module, "default_pack_path", lambda: pack)
    monkeypatch.delenv("VERSEMI_PACK", raising=False)
    monkeypatch.setenv("VERSEMI_MODELS", str(tmp_path / "models é"))
    return pack


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "models é")


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command; gives exit code, stdout and stderr."""

    def run(*arguments: Any) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return run


def one_sentence(result: tuple[int, str, str]) -> str:
    code, out, err = result
    assert code == 2 and out == ""
    assert len(err.splitlines()) == 1 and err.endswith(".\n")
    return err


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


def test_a_pack_that_is_deleted_before_its_weights_are_read_is_one_sentence(
    run, tiny_pack, tmp_path, monkeypatch
):
    pack = shutil.copytree(tiny_pack, tmp_path / "pack")
    scan = save(tmp_path / "scan.nii.gz", np.random.default_rng(0).normal(0, 200, (9, 9, 9)))
    whole = ModelPack.build_network

    def late(self: ModelPack) -> Any:
        shutil.rmtree(self.path)
        return whole(self)

    monkeypatch.setattr(ModelPack, "build_network", late)
    to = ("-o", tmp_path / "out", "--device", "cpu")
    code, out, err = run("segment", scan, "-t", "spleen", "--pack", pack, *to)
    assert (code, out) == (2, "")
    assert "cannot be read any more" in err.splitlines()[-1] and "Traceback" not in err


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


# Comparing --------------------------------------------------------------------------------------


def save(path: Path, values: np.ndarray, spacing: float = 1.0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(values.astype(np.int16))
    image.SetSpacing([spacing, spacing, 2 * spacing])
    # Turned, so that a picture that takes the array as it is would be wrong.
    image.SetDirection([0, 1, 0, 0, 0, -1, -1, 0, 0])
    sitk.WriteImage(image, str(path))
    return path


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """Cases whose structure has the value 7 and the intensity 200; one has none."""
    folder = tmp_path / "data"
    for number, name in enumerate(("a", "b", "empty")):
        image, label = np.zeros((8, 9, 10)), np.zeros((8, 9, 10))
        image[0] = -900
        if name != "empty":
            label[2:6, 2:6, 2:6] = 7
            image[2:6, 2:6, 2 : 5 + number] = 200
        save(folder / "imagesTr" / f"{name}.nii.gz", image)
        save(folder / "labelsTr" / f"{name}.nii.gz", label)
    return folder


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Version 1 finds half of what is bright, others all of it; gives what was asked of whom."""
    calls: list[str] = []

    def make(pack: ModelPack, device: Any) -> Any:
        def segment(image, tasks, *, roi=None, modality=None, progress=None):
            calls.append(f"{pack.version}: {' '.join(tasks)}")
            progress(0.5, "Looking")
            bright = sitk.GetArrayFromImage(image) > 100
            if pack.version == "1":
                bright[4:] = False
            values = bright.astype(np.uint8) * TASKS[tasks[-1]].label
            labels = sitk.GetImageFromArray(values)
            labels.CopyInformation(image)
            return SimpleNamespace(label_map=labels, warnings=["It looks odd."])

        return SimpleNamespace(pack=pack, device="cpu", segment=segment)

    monkeypatch.setattr(models_command, "make_segmenter", make)
    return calls


@pytest.fixture
def both(store: ModelStore, tmp_path: Path) -> tuple[str, str]:
    for version in ("1", "2"):
        store.add(make_pack(tmp_path / version, version=version, prompts=("spleen",)))
    return "atria@1", "atria@2"


SPLEEN = ("-t", "spleen", "--label", 7)


def test_compare_shows_dice_before_and_after_for_each_case(run, engine, both, library, tmp_path):
    file = tmp_path / "r" / "change.json"
    code, out, err = run("models", "compare", *both, "--data", library, *SPLEEN, "--json", file)
    assert code == 0 and err == "".join(
        f"Warning: {c}: It looks odd.\n" for c in ("a", "b", "empty")
    )
    lines = out.splitlines()
    assert lines[:2] == ["before: atria 1", "after: atria 2"]
    assert [line.split()[:5] for line in lines[3:]] == [
        ["spleen", "a", "0.545", "0.857", "+0.312"],
        ["spleen", "b", "0.667", "1.000", "+0.333"],
        ["spleen", "empty", "-", "-", "-"],
        ["spleen", "mean", "0.606", "0.929", "+0.323"],
    ]
    assert "before: nothing there, after: nothing there" in lines[5]
    assert lines[6].rstrip().endswith("2 better, 0 worse, 1 same")
    report = json.loads(file.read_text())
    assert report["before"]["version"] == "1" and report["after"]["version"] == "2"
    assert report["tasks"]["spleen"]["change"] == pytest.approx((0.3117 + 1 / 3) / 2, abs=1e-3)
    assert [row["case"] for row in report["cases"]] == ["a", "b", "empty"]
    assert report["cases"][2]["change"] is None and report["pictures"] == []
    assert engine == ["1: spleen"] * 3 + ["2: spleen"] * 3


def test_what_becomes_worse_is_counted_as_such(run, engine, both, library, tmp_path):
    file = tmp_path / "change.json"
    cases = ("--cases", "b", "--cases", "a", "--json", file)
    code, out, _ = run("models", "compare", *both[::-1], "--data", library, *SPLEEN, *cases)
    assert code == 0 and out.rstrip().endswith("0 better, 2 worse, 0 same")
    report = json.loads(file.read_text())
    assert [row["case"] for row in report["cases"]] == ["b", "a"]
    assert report["tasks"]["spleen"]["change"] < -0.3


def test_a_false_positive_that_went_away_is_better_though_its_dice_is_undefined():
    from versemi.comparison import changed_most

    def row(case: str, before: float | None, after: float | None) -> dict[str, Any]:
        outcomes = ("both_empty" if side is None else "both_present" for side in (before, after))
        return {
            "case": case,
            "before": before,
            "after": after,
            **dict(zip(("before_outcome", "after_outcome"), outcomes, strict=True)),
        }

    listed = [row("a", 0.5, 0.6), row("b", 0.0, None), row("c", None, None), row("a", 0.9, 0.1)]
    listed.append(row("d", 0.7, 0.7))
    assert changed_most(listed, 5) == [listed[1], listed[3]]
    assert changed_most(listed, 1) == [listed[1]]


def test_a_prompt_that_only_one_version_knows_is_measured_with_that_one(
    run, engine, both, store, library, tmp_path
):
    prompts = ("left_atrium", "spleen")
    store.add(make_pack(tmp_path / "3", version="3", prompts=prompts))
    pairs = ("-t", "left_atrium", "--label", 7, *SPLEEN)
    folder = tmp_path / "pictures"
    code, out, _ = run(
        "models", "compare", "atria@1", "atria@3", "--data", library, *pairs, "--cases", "b",
        "--cases", "empty", "--pictures", folder,
    )  # fmt: skip
    assert code == 0 and engine == ["1: spleen"] * 2 + ["3: left_atrium spleen"] * 2
    # Neither the case that has nothing of it, nor what was missed as before, has a picture.
    assert [path.name for path in folder.iterdir()] == ["b_spleen.png"]
    lines = [line.split() for line in out.splitlines()]
    assert ["left_atrium", "b", "-", "0.000", "-"] in [line[:5] for line in lines]
    assert "before: not a prompt of it, after: missed" in out
    assert ["left_atrium", "mean", "-", "0.000", "-"] in [line[:5] for line in lines]
    assert "does not know the prompt 'liver'" in one_sentence(
        run("models", "compare", *both, "--data", library, "-t", "liver", "--label", 7)
    )


def test_the_cases_that_changed_most_are_drawn_where_the_user_says(
    run, engine, both, library, tmp_path
):
    imread = pytest.importorskip("matplotlib.image").imread
    before = set(tmp_path.iterdir())
    folder = tmp_path / "change é"
    pictures = ("--pictures", folder)
    code, out, _ = run("models", "compare", *both, "--data", library, *SPLEEN, *pictures)
    assert code == 0
    assert out.splitlines()[-2:] == [str(folder / f"{case}_spleen.png") for case in ("b", "a")]
    assert sorted(path.name for path in folder.iterdir()) == ["a_spleen.png", "b_spleen.png"]
    assert set(tmp_path.iterdir()) - before == {folder}
    picture = imread(folder / "b_spleen.png")[..., :3]
    for color in ((0.941, 0.894, 0.259), (0.835, 0.369, 0.0), (0.337, 0.706, 0.914)):
        assert (np.abs(picture - color).max(axis=2) < 0.1).sum() > 50, color


def test_where_no_case_changed_there_is_no_picture(run, engine, both, library, tmp_path):
    folder = tmp_path / "change"
    same = (both[0], both[0], "--data", library, *SPLEEN, "--pictures", folder)
    code, _, err = run("models", "compare", *same)
    assert code == 0 and err.splitlines()[-1] == "No case changed, so there is no picture."
    assert not folder.exists()


def test_pictures_without_what_draws_them_are_refused_before_anything_is_computed(
    run, engine, both, library, tmp_path, monkeypatch
):
    from versemi import comparison

    monkeypatch.setattr(comparison, "find_spec", lambda name: None)
    asked = ("models", "compare", *both, "--data", library, *SPLEEN, "--pictures", tmp_path / "p")
    sentence = one_sentence(run(*asked))
    assert "pip install 'versemi[train]'" in sentence and not engine


def test_a_picture_that_cannot_be_written_is_one_sentence(run, engine, both, library):
    pytest.importorskip("matplotlib")
    below = library / "imagesTr" / "a.nii.gz" / "pictures"
    asked = ("models", "compare", *both, "--data", library, *SPLEEN, "--pictures", below)
    code, out, err = run(*asked)
    assert (code, out) == (2, "") and "could not be written" in err.splitlines()[-1]


def test_a_picture_has_the_patients_right_on_its_left_and_the_head_at_the_top(tmp_path):
    imread = pytest.importorskip("matplotlib.image").imread
    from versemi.comparisonpicture import draw

    # Stored with the axes S, P, L reversed and swapped; bright towards the right, front and head.
    z, y, x = np.mgrid[0:40, 0:40, 0:40]
    lps = sitk.GetImageFromArray(((39 - x) + (39 - y) + z).astype(np.float32))
    ball = sitk.GetImageFromArray(((z - 20) ** 2 + (y - 20) ** 2 + (x - 20) ** 2 < 144) * 1)
    small = sitk.GetImageFromArray(((z - 20) ** 2 + (y - 20) ** 2 + (x - 20) ** 2 < 64) * 1)
    image = sitk.DICOMOrient(lps, "SAR")
    masks = [sitk.GetArrayFromImage(sitk.DICOMOrient(m, "SAR")) > 0 for m in (ball, ball, small)]
    named = dict(zip(("reference", "before", "after"), masks, strict=True))
    picture = imread(draw(image, named, tmp_path / "p.png", title="$ball_"))[..., :3]
    gray = np.where(np.ptp(picture, axis=2) < 0.02, picture.mean(axis=2), np.nan)
    height, width = gray.shape
    for plane in range(3):
        panel = gray[height // 4 : height * 3 // 4, plane * width // 3 : (plane + 1) * width // 3]
        panel = panel[:, panel.shape[1] // 8 : -panel.shape[1] // 8]
        panel = np.where(panel > 0.99, np.nan, panel)
        middle = panel.shape[0] // 2
        assert np.nanmean(panel[:middle]) > np.nanmean(panel[middle:]) + 0.1, plane
        middle = panel.shape[1] // 2
        assert np.nanmean(panel[:, :middle]) > np.nanmean(panel[:, middle:]) + 0.1, plane


def test_a_comparison_that_cannot_be_made_is_one_sentence(run, engine, both, library, tmp_path):
    start = ("models", "compare")
    data = ("--data", library)
    assert "'--data'" in one_sentence(run(*start, *both, *SPLEEN))
    assert "There is no atria@9" in one_sentence(run(*start, both[0], "atria@9", *data, *SPLEEN))
    assert "no model pack" in one_sentence(run(*start, tmp_path / "x", both[1], *data, *SPLEEN))
    assert "2 label values" in one_sentence(run(*start, *both, *data, *SPLEEN, "--label", 8))
    assert "given twice" in one_sentence(run(*start, *both, *data, *SPLEEN, *SPLEEN))
    assert "no case z" in one_sentence(run(*start, *both, *data, *SPLEEN, "--cases", "z"))
    other = ("-t", "spleen", "--label", 9)
    assert "label value 9" in one_sentence(run(*start, *both, *data, *other))
    assert "no folder imagesTr" in one_sentence(run(*start, *both, "--data", tmp_path, *SPLEEN))
    assert "region '1,2'" in one_sentence(run(*start, *both, *data, *SPLEEN, "--roi", "1,2"))
    assert not engine


@pytest.mark.parametrize("command", ["list", "use", "compare", "export", "import"])
def test_help_of_each_command_teaches(run, command):
    code, out, _ = run("models", command, "--help")
    assert code == 0 and "--store" in out


def test_the_real_engine_compares_two_versions(run, tiny_pack, store, tmp_path):
    tiny = ModelPack.load(tiny_pack)
    network = tiny.build_network()
    later = replace(tiny.manifest, version="0.0.2", parent="tiny 0.0.1")
    store.add(write_pack(tmp_path / "later", network, later).path, "active")
    rng = np.random.default_rng(0)
    data = tmp_path / "data"
    save(data / "imagesTr" / "a.nii.gz", rng.normal(-50, 200, (10, 20, 20)), 4.0)
    save(data / "labelsTr" / "a.nii.gz", rng.integers(0, 2, (10, 20, 20)), 4.0)
    spleen = ("-t", "spleen", "--label", 1, "--device", "cpu", "--json", tmp_path / "r.json")
    code, out, err = run("models", "compare", tiny_pack, "tiny@0.0.2", "--data", data, *spleen)
    assert code == 0, err
    (row,) = json.loads((tmp_path / "r.json").read_text())["cases"]
    assert row["change"] == 0 and 0 <= row["before"] <= 1
    assert "0 better, 0 worse, 1 same" in out
