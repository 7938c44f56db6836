"""``versemi models compare``: two versions on the same cases, in numbers and pictures."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from commands import one_sentence
from packs import make_pack
from versemi.cli import models as models_command
from versemi.modelpack import ModelPack, write_pack
from versemi.modelstore import ModelStore
from versemi.tasks import TASKS

pytestmark = pytest.mark.usefixtures("shipped")


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


def test_a_place_that_cannot_be_written_is_told_before_anything_is_computed(
    run, engine, both, library
):
    (library / "file").touch()
    for option in ("--pictures", "--json"):
        out = library / "file" / "below"
        sentence = one_sentence(
            run("models", "compare", *both, "--data", library, *SPLEEN, option, out)
        )
        assert "is a file" in sentence and "choose another folder" in sentence
    assert engine == []


def test_a_comparison_is_shown_though_its_report_cannot_be_written(
    run, engine, both, library, monkeypatch
):
    from versemi import evaluation
    from versemi.errors import OutputError

    def full(report, path):
        raise OutputError("The disk is full.")

    monkeypatch.setattr(evaluation, "write_report", full)
    arguments = ("--data", library, *SPLEEN, "--json", library / "change.json")
    code, out, err = run("models", "compare", *both, *arguments)
    assert code == 2 and "The disk is full." in err
    assert any(line.startswith("spleen") and "+0.323" in line for line in out.splitlines())


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


def test_a_pack_that_is_deleted_before_its_weights_are_read_is_one_sentence(
    run, tiny_pack, tmp_path, monkeypatch
):
    pack = shutil.copytree(tiny_pack, tmp_path / "pack")
    scan = save(tmp_path / "scan.nii.gz", np.random.default_rng(0).normal(0, 200, (9, 9, 9)))
    whole = ModelPack.build_networks

    def late(self: ModelPack) -> Any:
        shutil.rmtree(self.path)
        return whole(self)

    monkeypatch.setattr(ModelPack, "build_networks", late)
    to = ("-o", tmp_path / "out", "--device", "cpu")
    code, out, err = run("segment", scan, "-t", "spleen", "--pack", pack, *to)
    assert (code, out) == (2, "")
    assert "cannot be read any more" in err.splitlines()[-1] and "Traceback" not in err


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
