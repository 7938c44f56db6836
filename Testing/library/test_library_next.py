"""``versemi library next``: which case to correct next, and why."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import phantoms
import pytest
import SimpleITK as sitk

from commands import one_sentence
from versemi.caselibrary import CaseLibrary
from versemi.errors import InputError
from versemi.geometry import Grid
from versemi.inference import Segmenter
from versemi.inference.evidence import Evidence
from versemi.modelpack import ModelPack
from versemi.ranking import rank
from versemi.ranking.order import in_order, ranks
from versemi.ranking.signs import Signs, signs_of, together

SHAPE = (12, 16, 16)


def scan(number: int, kind: str = "CT", like: int | None = None) -> sitk.Image:
    """A smooth scan of its own contrast; with `like`, that scan and a little noise."""
    rng = np.random.default_rng(number if like is None else like)
    small = sitk.GetImageFromArray(rng.normal(0, 1 + number % 3, (3, 4, 4)).astype(np.float32))
    values = sitk.GetArrayFromImage(sitk.Expand(small, [4, 4, 4], sitk.sitkLinear))
    values = values * 80 + 20 if kind == "CT" else values * 100 + 700
    if like is not None:
        values += np.random.default_rng(number).normal(0, 0.5, values.shape)
    if kind == "CT":
        values[0] = -1000
    image = sitk.GetImageFromArray(np.maximum(values, -1000 if kind == "CT" else 0))
    image.SetSpacing((4.0, 4.0, 4.0))
    return sitk.Cast(image, sitk.sitkFloat32)


@pytest.fixture(scope="module")
def pack(tiny_pack: Path) -> ModelPack:
    return ModelPack.load(tiny_pack)


@pytest.fixture(scope="module")
def segmenter(pack: ModelPack) -> Segmenter:
    return Segmenter(pack, "cpu")


class Counting:
    """A segmenter that counts what it is asked."""

    def __init__(self, segmenter: Segmenter) -> None:
        self._segmenter = segmenter
        self.pack = segmenter.pack
        self.asked: list[tuple[str, ...]] = []

    def segment(self, image, prompts, **more):
        self.asked.append(tuple(prompts))
        return self._segmenter.segment(image, prompts, **more)


@pytest.fixture
def counting(segmenter: Segmenter) -> Counting:
    return Counting(segmenter)


@pytest.fixture
def filled(library: CaseLibrary) -> CaseLibrary:
    """One CT with a label, three without."""
    first = scan(0)
    library.add(
        first, name="done", modality="CT", labels=phantoms.labels(first, spleen=[3]),
        prompts=["spleen"],
    )  # fmt: skip
    for number in (1, 2, 3):
        library.add(scan(number), name=f"ct {number}", modality="CT")
    return library


def signs(gap: float | None, doubt: float | None, *bottleneck: float) -> Signs:
    length = np.linalg.norm(bottleneck)
    return Signs(gap, doubt, 1.0, tuple(float(b / length) for b in bottleneck))


def ids(ranking) -> list[str]:
    return [row.case for row in ranking.cases]


# The numbers -----------------------------------------------------------------------------------


def evidence(probabilities: list[list[float]], foreground: list[float] | None) -> Evidence:
    rows = np.array(probabilities, np.float32)[:, None, None]
    return Evidence(
        grid=Grid((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), (rows.shape[-1], 1, 1)),
        asked=("spleen", "liver"),
        prompts=("spleen", "liver", "aorta"),
        probabilities=rows,
        foreground=None if foreground is None else np.array(foreground, np.float32)[None, None],
        bottleneck=np.array([1.0, 2.0, 6.0], np.float32),
    )


ROWS = [[0.9, 0.5, 0.0, 0.0, 0.2], [0.1, 0.1, 1.0, 0.05, 0.3], [0.0, 0.0, 0.0, 0.01, 0.8]]


def quiet(min_ml: float = 0.0) -> SimpleNamespace:
    return SimpleNamespace(settings=lambda prompt: SimpleNamespace(min_ml=min_ml))


def test_gap_and_doubt_are_measured_where_a_prompt_is_in_question():
    found = signs_of([evidence(ROWS, [0.7, 0.9, 1.0, 0.05, 0.1])], quiet())
    # Spleen leads the first two voxels; |0.9 - 0.7| + |0.5 - 0.9| of max 0.9 + 0.9.
    assert found["spleen"].gap == pytest.approx(0.6 / 1.8, abs=1e-5)
    assert found["spleen"].doubt == pytest.approx((0.468996 + 1.0) / 2, abs=1e-4)
    # The liver leads the third alone: the fourth is too improbable, the fifth is the aorta's.
    assert found["liver"].gap == pytest.approx(0.0, abs=1e-5)
    assert found["liver"].doubt == pytest.approx(0.0, abs=1e-4)
    assert found["liver"].ml == pytest.approx(0.001)
    assert "aorta" not in found
    assert np.linalg.norm(found["liver"].bottleneck) == pytest.approx(1.0, abs=1e-5)
    assert sum(found["liver"].bottleneck) == pytest.approx(0.0, abs=1e-5)


def test_what_foreground_alone_sees_is_a_gap():
    found = signs_of([evidence([[0.01], [0.02], [0.0]], [0.9])], quiet())
    assert found["liver"].gap == pytest.approx(0.88 / 0.9, abs=1e-4)
    assert found["spleen"].gap is None and found["spleen"].doubt is None


def test_without_foreground_there_is_doubt_and_no_gap():
    found = signs_of([evidence(ROWS, None)], quiet())
    assert found["spleen"].gap is None and found["spleen"].doubt is not None


def test_less_than_the_smallest_component_is_nothing():
    found = signs_of([evidence(ROWS, [0.7, 0.9, 1.0, 0.05, 0.1])], quiet(min_ml=0.0015))
    assert found["spleen"].gap is not None and found["liver"].gap is None


def test_a_small_organ_counts_as_much_as_a_large_one():
    mean = together([signs(0.2, 0.1, 1, 0), signs(0.8, None, 0, 1), signs(None, 0.5, 1, 0)])
    assert mean.gap == pytest.approx(0.5) and mean.doubt == pytest.approx(0.3)
    assert mean.ml == 3.0


def test_ranks_are_shares_and_ties_meet_in_the_middle():
    assert ranks([5.0, 1.0, 1.0, None]).tolist() == [1.0, 0.25, 0.25, 0.5]
    assert ranks([3.0]).tolist() == [0.5]


def test_of_equally_novel_cases_doubt_and_gap_decide():
    cases = [("CT", signs(0.1, 0.1, 1, 0)), ("CT", signs(0.9, 0.8, 1, 0))]
    assert [place.index for place in in_order(cases, [])] == [1, 0]


def test_a_case_that_is_like_the_first_comes_after_one_that_is_not():
    twins = [("CT", signs(0.9, 0.9, 1, 0)), ("CT", signs(0.8, 0.8, 1, 0.001))]
    other = [("CT", signs(0.5, 0.85, 0, 1))]
    far = [("CT", signs(0, 0, -1, -1))]
    places = in_order([*twins, *other], far)
    assert [place.index for place in places] == [0, 2, 1]
    # The twin's nearest is the first case of the order, which follows one labelled case.
    assert places[2].nearest == 1 and places[2].novelty < 0.2
    # Gap and doubt alone speak as much for one as for the other.
    assert places[1].gap + places[1].doubt == places[2].gap + places[2].doubt


def test_a_case_like_one_with_a_label_is_less_novel():
    near, far = ("CT", signs(0.5, 0.5, 1, 0.1)), ("CT", signs(0.5, 0.5, 0, 1))
    places = in_order([near, far], [("CT", signs(None, None, 1, 0))])
    assert [place.index for place in places] == [1, 0]
    assert places[0].nearest == 0 and places[0].novelty > places[1].novelty


def test_cases_of_another_modality_are_not_compared():
    places = in_order([("MR", signs(0.5, 0.5, 1, 0, 0))], [("CT", signs(0, 0, 1, 0))])
    assert places[0].novelty == 1.0 and places[0].nearest is None


# The library -----------------------------------------------------------------------------------


def test_each_scan_is_looked_at_once_for_a_model_version(filled, counting):
    first = rank(filled, counting)
    assert sorted(ids(first)) == ["ct_1", "ct_2", "ct_3"] and first.measured == 4
    assert [row.rank for row in first.cases] == [1, 2, 3]
    scores = [row.score for row in first.cases]
    assert max(scores) == scores[0]
    again = rank(filled, counting)
    assert again.measured == 0 and len(counting.asked) == 4
    assert again.cases == first.cases
    filled.add(scan(4), name="ct 4", modality="CT")
    more = rank(filled, counting)
    assert more.measured == 1 and len(more.cases) == 4


def test_other_prompts_of_a_scan_are_measured_beside_those_that_are_kept(filled, counting):
    rank(filled, counting, ["spleen"])
    assert set(counting.asked) == {("spleen",)}
    found = rank(filled, counting, ["liver", "spleen"])
    assert counting.asked[4:] == [("liver",)] * 4
    assert set(found.cases[0].prompts) == {"spleen", "liver"}


def test_a_prompt_that_a_label_does_not_cover_leaves_its_case_unlabelled(filled, counting):
    assert sorted(ids(rank(filled, counting, ["liver"]))) == ["ct_1", "ct_2", "ct_3", "done"]
    assert "done" not in ids(rank(filled, counting, ["spleen"]))


@pytest.mark.parametrize("damage", ["cut", "changed", "emptied", "of another scan"])
def test_a_damaged_file_is_made_again(filled, counting, damage):
    whole = rank(filled, counting, ["spleen"])
    (path,) = (filled.folder / "ranking").glob("*/ct_2.json")
    text = path.read_text("utf-8")
    changed = {
        "cut": text[: len(text) // 2],
        "changed": text.replace('"doubt": 0.', '"doubt": 0.9'),
        "emptied": "[]",
        "of another scan": path.with_name("ct_1.json").read_text("utf-8"),
    }[damage]
    assert changed != text
    path.write_text(changed, "utf-8")
    again = rank(filled, counting, ["spleen"])
    assert again.measured == 1 and again.cases == whole.cases
    assert path.read_text("utf-8") == text


def test_another_model_version_measures_anew_beside_the_first(filled, counting, tiny_pack):
    import torch

    from versemi.modelpack import write_pack

    rank(filled, counting, ["spleen"])
    other = ModelPack.load(tiny_pack)
    network = other.build_network()
    with torch.no_grad():
        network.rows += 0.1
    changed = write_pack(filled.folder.parent / "other", network, other.manifest)
    found = rank(filled, changed, ["spleen"], device="cpu")
    assert found.measured == 4 and found.pack["weights_sha256"] != other.digest
    assert len(list((filled.folder / "ranking").iterdir())) == 2


def test_what_was_measured_before_an_interruption_is_kept(filled, segmenter):
    class Interrupted(Counting):
        def segment(self, image, prompts, **more):
            if len(self.asked) == 2:
                raise KeyboardInterrupt
            return super().segment(image, prompts, **more)

    with pytest.raises(KeyboardInterrupt):
        rank(filled, Interrupted(segmenter), ["spleen"])
    assert rank(filled, segmenter, ["spleen"]).measured == 2


def test_a_scan_that_cannot_be_read_does_not_keep_the_others_from_being_ranked(filled, segmenter):
    filled.case("ct_2").image_path.write_bytes(b"no image")
    found = rank(filled, segmenter, ["spleen"])
    assert sorted(ids(found)) == ["ct_1", "ct_3"]
    assert len(found.left_out) == 1 and "ct_2 cannot be looked at" in found.left_out[0]
    for name in ("ct_1", "ct_3"):
        filled.case(name).image_path.write_bytes(b"no image")
    for path in (filled.folder / "ranking").glob("*/*.json"):
        path.unlink()
    with pytest.raises(InputError, match="None of the unlabelled cases"):
        rank(filled, segmenter, ["spleen"])


def test_what_is_kept_is_no_damage_to_the_library(filled, segmenter):
    rank(filled, segmenter, ["spleen"])
    assert filled.verify() == []


def test_progress_rises_to_the_end(filled, segmenter):
    told: list[float] = []
    rank(filled, segmenter, ["spleen"], progress=lambda fraction, sentence: told.append(fraction))
    assert told == sorted(told) and told[-1] == pytest.approx(1.0)


# The command -----------------------------------------------------------------------------------


def test_the_command_ranks_and_says_why(run, filled, tiny_pack, tmp_path):
    filled.add(scan(9, "MR"), name="mr", modality="MR")
    report = tmp_path / "next.json"
    arguments = ("library", "next", filled.folder, "--pack", tiny_pack, "--device", "cpu")
    code, out, err = run(*arguments, "-t", "spleen", "--count", 2, "--json", report)
    assert code == 0 and err == "Not ranked: 1 cases are not CT, and nothing is asked of them.\n"
    lines = out.splitlines()
    assert lines[0].split() == ["Rank", "Case", "Doubt", "Gap", "Novelty", "Why"]
    assert [line.split()[0] for line in lines[1:3]] == ["1", "2"]
    assert lines[-1] == "1 more unlabelled cases come after these; --count shows more."
    data = json.loads(report.read_text("utf-8"))
    assert [row["case"] for row in data["cases"]][:2] == [line.split()[1] for line in lines[1:3]]
    assert len(data["cases"]) == 3 and "k-centre" in data["rule"]
    for row in data["cases"]:
        mean = (row["gap_rank"] + row["doubt_rank"] + row["novelty"]) / 3
        assert row["score"] == pytest.approx(mean, abs=1e-3) and row["why"]


def test_a_library_that_may_not_be_written_is_ranked_and_the_sentence_says_so(
    run, filled, tiny_pack
):
    # A file where the folder would be refuses everybody, root included.
    (filled.folder / "ranking").write_text("")
    arguments = ("library", "next", filled.folder, "--pack", tiny_pack, "--device", "cpu")
    code, out, err = run(*arguments, "-t", "spleen")
    assert code == 0 and len(out.splitlines()) == 4
    assert (
        err.startswith("Warning: what was measured cannot be kept") and len(err.splitlines()) == 1
    )


def test_no_unlabelled_case_is_one_sentence(run, library, tiny_pack):
    arguments = ("library", "next", library.folder, "--pack", tiny_pack)
    assert "has no cases yet" in one_sentence(run(*arguments))
    image = scan(1)
    label = phantoms.labels(image, spleen=[2])
    library.add(image, name="a", modality="CT", labels=label, prompts=["spleen"])
    assert "has no unlabelled case: the labels of all 1" in one_sentence(run(*arguments))
    assert "has no MR scan" in one_sentence(run(*arguments, "-t", "left_atrium"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-t", "brain"], "no task prompt 'brain'"),
        (["-t", "foreground"], "never enters a label map"),
        (["--count", "0"], "--count"),
    ],
)
def test_what_cannot_be_asked_is_one_sentence(run, filled, tiny_pack, arguments, words):
    result = run("library", "next", filled.folder, "--pack", tiny_pack, *arguments)
    assert words in one_sentence(result)


def test_a_report_that_cannot_be_written_is_told_before_a_scan_is_looked_at(
    run, filled, tiny_pack, tmp_path
):
    (tmp_path / "file").write_text("")
    arguments = ("library", "next", filled.folder, "--pack", tiny_pack)
    result = run(*arguments, "--json", tmp_path / "file" / "next.json")
    assert "is a file and no folder" in one_sentence(result)
    assert not (filled.folder / "ranking").exists()


def test_a_missing_library_is_one_sentence_and_is_not_made(run, tmp_path, tiny_pack):
    result = run("library", "next", tmp_path / "none", "--pack", tiny_pack)
    assert "There is no case library at" in one_sentence(result)
    assert not (tmp_path / "none").exists()
