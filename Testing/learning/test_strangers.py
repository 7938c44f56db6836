"""What prompts find where their structure cannot be."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK as sitk

from versemi.learning.anatomy import SHOWN, excluded, table
from versemi.learning.configuration import load_settings
from versemi.learning.release import add_measurements, measure
from versemi.learning.strangers import (
    EMPTY,
    EMPTY_SCANS,
    MIDDLE_MM,
    Stranger,
    card_lines,
    empty_scan,
    measure_strangers,
    strangers,
    summary,
)
from versemi.manifest import PromptSettings
from versemi.modelpack import ModelPack, write_pack
from versemi.tasks import FOREGROUND, TASKS

DOCS = Path(__file__).resolve().parents[2] / "docs" / "false-positives.md"
PROMPTS = tuple(task for task in TASKS if task != FOREGROUND)


@pytest.fixture(scope="module")
def data(small_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small data sets under names that the table of anatomy knows."""
    folder = tmp_path_factory.mktemp("known")
    shutil.copytree(small_data / "ct", folder / "abdomen")
    shutil.copytree(small_data / "mr", folder / "hippocampus")
    return folder


@pytest.fixture(scope="module")
def settings(small_config: Path):
    loaded = load_settings(small_config)
    ct, mr = loaded.sources
    hippocampus = {
        **mr,
        "name": "hippocampus",
        "folder": "hippocampus",
        "group": "t1_mr",
        "labels": {1: "hippocampus_anterior"},
    }
    return replace(loaded, sources=({**ct, "name": "abdomen", "folder": "abdomen"}, hippocampus))


def image(size: int, spacing: float) -> sitk.Image:
    made = sitk.Image(size, size, size, sitk.sitkFloat32)
    made.SetSpacing([spacing] * 3)
    made.SetOrigin((100.0, -50.0, 7.0))
    return made


class Answering:
    """Finds as much as it is told, and remembers where it was asked."""

    def __init__(self, *searched: str, **ml: float) -> None:
        self.asked: list[tuple[list[str], object, str]] = []
        self._ml = ml
        self.pack = SimpleNamespace(
            settings=lambda prompt: PromptSettings(TASKS[prompt], search=prompt in searched)
        )

    def segment(self, image, prompts, *, roi, modality):
        self.asked.append((list(prompts), roi, modality))
        return SimpleNamespace(volumes_ml={p: self._ml.get(p, 0.0) for p in prompts})


# The table -------------------------------------------------------------------------------------


def test_the_page_has_the_table_of_the_code():
    assert table() in DOCS.read_text("utf-8")


def test_every_prompt_of_the_table_exists_and_stands_once():
    for shown in SHOWN.values():
        assert set(shown.excluded) <= set(PROMPTS)
        assert len(set(shown.excluded)) == len(shown.excluded)


def test_what_a_data_set_of_the_shipped_run_labels_is_never_excluded_on_it():
    run = load_settings()
    assert {source["folder"] for source in run.sources} == set(SHOWN)
    for source in run.sources:
        assert not excluded(source["folder"], tuple(source["labels"].values()))


def test_what_a_scan_may_show_is_not_counted_and_what_it_cannot_is():
    assert "aorta" not in excluded("left_atrium", PROMPTS)
    assert "spleen" in excluded("left_atrium", PROMPTS)
    assert "liver" not in excluded("lung_tumour", PROMPTS)
    assert "lung_tumour" not in excluded("abdomen", PROMPTS)
    assert set(excluded("hippocampus", PROMPTS)) == {
        p for p in PROMPTS if not p.startswith("hippocampus")
    }
    assert excluded("somebody's own", PROMPTS) == ()


# The scans -------------------------------------------------------------------------------------


def test_only_held_out_scans_are_looked_at_and_every_prompt_on_empty_ones(settings, data):
    found = strangers(settings, data, ("liver", "hippocampus_anterior"))
    assert [(s.dataset, s.name, s.prompts) for s in found[:2]] == [
        ("abdomen", "ct_2", ("hippocampus_anterior",)),
        ("hippocampus", "mr_2", ("liver",)),
    ]
    assert [s.name for s in found[2:]] == list(EMPTY_SCANS)
    assert all(s.prompts == ("liver", "hippocampus_anterior") for s in found[2:])
    assert all(s.dataset == EMPTY for s in found[2:])
    assert found[1].read().GetSize() == (48, 48, 40)


def test_a_scan_of_two_tasks_is_looked_at_once(settings, data):
    abdomen = settings.sources[0]
    twice = replace(settings, sources=(abdomen, {**abdomen, "name": "again"}))
    found = strangers(twice, data, ("hippocampus_anterior",))
    assert [s.name for s in found if s.dataset != EMPTY] == ["ct_2"]


def test_a_data_set_without_held_out_scans_gives_none(settings, data):
    trained = {**settings.sources[0], "measure": []}
    found = strangers(replace(settings, sources=(trained,)), data, ("hippocampus_anterior",))
    assert {s.dataset for s in found} == {EMPTY}


def test_empty_scans_are_what_the_rule_says_and_the_same_each_time():
    for name in EMPTY_SCANS:
        first, again = (sitk.GetArrayFromImage(empty_scan(name)) for _ in range(2))
        assert np.array_equal(first, again)
    values = {name: sitk.GetArrayFromImage(empty_scan(name)) for name in EMPTY_SCANS}
    assert values["ct_noise"].mean() == pytest.approx(50, abs=2)
    assert values["ct_noise"].std() == pytest.approx(100, abs=2)
    assert values["ct_air"].max() < -900
    # A Rayleigh distribution has the mean scale * sqrt(pi / 2).
    assert values["mr_noise"].mean() == pytest.approx(100 * np.sqrt(np.pi / 2), rel=0.01)
    assert values["mr_noise"].min() >= 0 and values["mr_air"].std() == pytest.approx(1, abs=0.1)


# The measuring ---------------------------------------------------------------------------------


def test_prompts_are_asked_one_at_a_time_with_their_own_modality():
    stranger = Stranger("hippocampus", "brain", ("liver", "left_atrium"), lambda: image(10, 1.0))
    segmenter = Answering(liver=2.5)
    rows = measure_strangers(segmenter, [stranger])
    assert [(asked, modality) for asked, _, modality in segmenter.asked] == [
        (["liver"], "CT"),
        (["left_atrium"], "MR"),
    ]
    assert [(row["task"], row["ml"]) for row in rows] == [("liver", 2.5), ("left_atrium", 0.0)]


def test_a_prompt_that_learnt_from_crops_is_asked_in_the_middle_of_a_large_scan():
    scan = image(100, 2.0)
    found = [Stranger("abdomen", "large", ("liver", "hippocampus_anterior"), lambda: scan)]
    segmenter = Answering("liver")
    measure_strangers(segmenter, found)
    (_, everywhere, _), (_, middle, _) = segmenter.asked
    assert everywhere is None
    assert middle.size == pytest.approx((MIDDLE_MM,) * 3)
    centre = scan.TransformContinuousIndexToPhysicalPoint([49.5] * 3)
    assert middle.center == pytest.approx((-centre[0], -centre[1], centre[2]))
    small = [Stranger("abdomen", "small", ("hippocampus_anterior",), lambda: image(60, 2.0))]
    measure_strangers(segmenter, small)
    assert segmenter.asked[-1][1] is None


def test_the_mean_is_over_all_scans_and_those_with_a_voxel_are_counted():
    rows = [
        {"dataset": "hippocampus", "case": str(n), "task": "liver", "ml": ml}
        for n, ml in enumerate((0.0, 3.0, 0.0, 0.001))
    ] + [{"dataset": EMPTY, "case": "x", "task": "aorta", "ml": 7.0}]
    found = summary(rows, ("liver", "spleen"))
    assert found["tasks"] == {
        "liver": {"hippocampus": {"scans": 4, "with_any_voxel": 2, "mean_ml": 0.7502}},
        "spleen": {},
    }
    assert [row["case"] for row in found["cases"]] == ["0", "1", "2", "3"]


def test_the_card_has_a_row_a_prompt_and_a_column_a_data_set():
    measured = {"scans": 4, "with_any_voxel": 1, "mean_ml": 0.25}
    none = {"scans": 4, "with_any_voxel": 0, "mean_ml": 0.0}
    reports = {
        "a": {"false_positives": {"tasks": {"liver": {"empty": none, "hippocampus": measured}}}},
        "b": {"false_positives": {"tasks": {"left_atrium": {"empty": measured}}}},
    }
    assert card_lines(reports)[-4:] == [
        "| prompt | hippocampus | empty scans |",
        "|---|---|---|",
        "| Liver | 1 of 4 scans, 0.25 ml | 0 of 4 scans, 0.00 ml |",
        "| Left atrium | - | 1 of 4 scans, 0.25 ml |",
    ]


def test_a_prompt_that_answers_everywhere_is_found_out(settings, data, tiny_pack, tmp_path):
    import torch

    tiny = ModelPack.load(tiny_pack)
    network = tiny.build_network()
    with torch.no_grad():
        network.rows[:, -1] = torch.where(
            torch.tensor([p == "liver" for p in network.prompts]), 20.0, -20.0
        )
    manifest = replace(
        tiny.manifest,
        prompts=tuple(
            p for p in tiny.manifest.prompts
            if p.task.id in ("liver", "right_kidney", "hippocampus_anterior")
        ),
        training={"cases": {"abdomen": 2, "hippocampus": 2}},
    )  # fmt: skip
    pack = write_pack(tmp_path / "pack", network, manifest)
    told: list[float] = []
    reports = measure(
        pack, settings, data, device="cpu", progress=lambda fraction, text: told.append(fraction)
    )
    assert told == sorted(told) and told[-1] > 0.9
    found = reports["abdomen"]["false_positives"]["tasks"]
    # The outermost planes may fall outside the coarser grid.
    whole = 48 * 48 * 40 * 1.25**3 / 1000
    assert found["liver"]["hippocampus"] == {
        "scans": 1, "with_any_voxel": 1, "mean_ml": pytest.approx(whole, rel=0.1),
    }  # fmt: skip
    assert found["liver"][EMPTY]["with_any_voxel"] == 4
    assert found["right_kidney"]["hippocampus"]["with_any_voxel"] == 0
    others = reports["hippocampus"]["false_positives"]["tasks"]
    assert others["hippocampus_anterior"]["abdomen"]["mean_ml"] == 0
    json.dumps(reports, allow_nan=False)
    card = (add_measurements(pack, reports, settings).path / "README.md").read_text("utf-8")
    assert "## Where it cannot be" in card and "| Liver | - | 1 of 1 scans, 1" in card
