"""Whole runs on scans made here: what is learnt, what is kept, and what a kill leaves."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from dataclasses import replace

import pytest
import torch
from finetuning import clock_in_steps, fill, make_parent, tiny_networks

from versemi.errors import Cancelled, InputError, OutputError, PackError, VersemiError
from versemi.learning.finetuning import course, examination, run
from versemi.learning.finetuning.delivery import next_version
from versemi.learning.finetuning.gate import Agreed
from versemi.learning.finetuning.measuring import Measured
from versemi.learning.finetuning.run import finetune
from versemi.learning.finetuning.watch import Control, Watch
from versemi.modelpack import ModelPack


@pytest.fixture(scope="module", autouse=True)
def quick():
    with tiny_networks():
        yield


@pytest.fixture(scope="module")
def parent(tmp_path_factory):
    return make_parent(tmp_path_factory.mktemp("run") / "parent")


@pytest.fixture
def pack(parent, tmp_path):
    """A copy that a test may take away."""
    return ModelPack.load(shutil.copytree(parent.path, tmp_path / "parent"))


@pytest.fixture
def in_steps(monkeypatch):
    return lambda steps: clock_in_steps(monkeypatch, steps)


def learn(library, pack, out, **options):
    return finetune(library, pack, out, minutes=1.0, workers=0, device="cpu", **options)


def rows(pack):
    return pack.build_network("ct").rows.detach()


def test_a_corrected_prompt_becomes_better_another_is_kept_and_the_store_is_told(
    pack, tmp_path, in_steps, store, monkeypatch
):
    fill(tmp_path / "library", 8, 1)
    in_steps(140)
    # So few steps of so small a network get nowhere at the rate of a real one.
    monkeypatch.setattr(course, "_RATE", 3e-3)
    before = {p: p.read_bytes() for p in (tmp_path / "library").rglob("*") if p.is_file()}
    told = []
    outcome = learn(tmp_path / "library", pack, tmp_path / "out", store=store, tell=told.append)
    liver = outcome.report["dice"]["liver"]
    assert liver["cases"] == 2 and liver["tuned"] > max(0.5, liver["parent"] + 0.2)
    assert outcome.report["agreement"]["prompts"].keys() == {"right_kidney"}
    assert outcome.report["agreement"]["mean"] >= 0.95
    assert outcome.state == "available", outcome.reason
    # Another kind of scan has the network that it had, to the bit.
    assert outcome.pack.manifest.network["own"] == {"ct": "ct"}
    kept = outcome.pack.build_network("lge_mr").state_dict()
    learnt = outcome.pack.build_network("ct").state_dict()
    before_it = pack.build_network().state_dict()
    assert all(torch.equal(kept[key], value) for key, value in before_it.items())
    assert any(not torch.equal(learnt[key], value) for key, value in before_it.items())
    assert outcome.report["unchanged"] == ["left_atrium"]
    assert outcome.report["not_measured"] == []

    manifest = outcome.pack.manifest
    assert (manifest.version, manifest.parent) == ("1.0+ft1", "small 1.0")
    dice = {p.task.id: p.dice for p in manifest.prompts}
    assert dice["liver"] == round(liver["tuned"], 4) and dice["right_kidney"] is None
    entry = store.find("small@1.0+ft1")
    assert entry.state == "candidate" and not entry.active and entry.parent == "small 1.0"
    written = json.loads((tmp_path / "out" / "finetuning.json").read_text())
    assert written["state"] == "available" and written["split"]["kind"] == "hold-out"
    card = (tmp_path / "out" / "README.md").read_text()
    assert "**Available.**" in card and str(tmp_path) not in card
    assert (tmp_path / "out" / "LICENSE").is_file()
    assert not (tmp_path / "out.work").exists()
    assert {p: p.read_bytes() for p in before} == before
    assert [n.fraction for n in told] == sorted(n.fraction for n in told)
    assert told[-2].dice["liver"] == pytest.approx(liver["tuned"])


def test_one_corrected_case_makes_a_provisional_pack(pack, tmp_path, in_steps, store):
    fill(tmp_path / "library", 1)
    in_steps(4)
    outcome = learn(tmp_path / "library", pack, tmp_path / "out", store=store)
    assert outcome.state == "provisional" and "too few: liver" in outcome.reason
    assert store.find("small@1.0+ft1").state == "provisional"


def test_a_pack_that_fails_is_kept_aside_after_smaller_shares_were_tried(
    pack, tmp_path, in_steps, store, monkeypatch
):
    fill(tmp_path / "library", 1)
    in_steps(4)

    def forgetting(*arguments, **options):
        network = pack.build_network()
        torch.nn.init.constant_(network.rows, -1.0)
        return network, 4

    monkeypatch.setattr(run, "train", forgetting)
    outcome = learn(tmp_path / "library", pack, tmp_path / "out", store=store)
    assert outcome.state == "kept aside" and "agree with the parent" in outcome.reason
    assert list(outcome.report["shares_tried"])[:2] == ["1", "0.5"]
    assert outcome.report["share_of_fine_tuned_weights"] == 1.0
    entry = store.find("small@1.0+ft1")
    assert entry.state == "aside" and entry.reason == outcome.reason
    with pytest.raises(InputError, match="kept aside"):
        store.activate("small", "1.0+ft1")


def test_the_largest_share_that_passes_is_delivered(pack, tmp_path, in_steps, monkeypatch):
    fill(tmp_path / "library", 1)
    in_steps(4)
    judge = examination.judge

    def strict(*arguments):
        verdict = judge(*arguments)
        strict.asked += 1
        return verdict if strict.asked > 1 else judge(*arguments[:3], [Agreed("a", "b", 0.1)])

    strict.asked = 0
    monkeypatch.setattr(examination, "judge", strict)
    monkeypatch.setattr(run, "train", lambda *a, **k: (_moved(pack), 4))
    outcome = learn(tmp_path / "library", pack, tmp_path / "out")
    assert outcome.report["share_of_fine_tuned_weights"] == 0.5
    assert outcome.state == "provisional"
    halfway = (rows(pack) + _moved(pack).rows) / 2
    assert torch.allclose(rows(outcome.pack), halfway, atol=1e-3)


def _moved(pack):
    network = pack.build_network()
    with torch.no_grad():
        network.rows += 0.01
    return network


class Killed(Exception):
    pass


@pytest.mark.parametrize(
    "moment", ["while learning", "while measuring", "before the pack", "before the store"]
)
def test_a_run_that_was_killed_goes_on_and_does_nothing_twice(
    pack, tmp_path, in_steps, store, monkeypatch, moment
):
    fill(tmp_path / "library", 2)
    in_steps(12)
    monkeypatch.setattr(course, "_EPOCH", 2)
    seen: Counter[str] = Counter()
    started = []
    kill = {"on": True}

    def tell(news):
        if news.sentence.startswith("Measuring"):
            seen[news.sentence] += 1
        if kill["on"] and moment == "while learning" and news.sentence.endswith("step 3"):
            raise Killed
        if (
            kill["on"]
            and moment == "while measuring"
            and seen["Measuring what was learnt on case_1"]
        ):
            raise Killed

    run_train, add = run.train, type(store).add

    def counted(*arguments, **options):
        started.append(arguments[3].name)
        return run_train(*arguments, **options)

    def refused(self, *arguments, **options):
        if kill["on"] and moment == "before the store":
            raise Killed
        return add(self, *arguments, **options)

    deliver = run.deliver

    def undelivered(*arguments):
        if kill["on"] and moment == "before the pack":
            raise Killed
        return deliver(*arguments)

    monkeypatch.setattr(run, "train", counted)
    monkeypatch.setattr(run, "deliver", undelivered)
    monkeypatch.setattr(type(store), "add", refused)
    with pytest.raises(Killed):
        learn(tmp_path / "library", pack, tmp_path / "out", store=store, tell=tell)
    assert (tmp_path / "out.work").is_dir()
    used = json.loads((tmp_path / "out.work" / "state.json").read_text())["used"]
    assert used > 0
    kill["on"] = False
    outcome = learn(tmp_path / "library", pack, tmp_path / "out", store=store, tell=tell)
    assert Counter(started) == Counter(
        ["fold-1", "fold-2", "final", *(["fold-1"] if moment == "while learning" else [])]
    )
    interrupted = {"Measuring what was learnt on case_1"} if moment == "while measuring" else set()
    assert all(count == 1 for what, count in seen.items() if what not in interrupted | SHARED)
    assert outcome.report["seconds"] >= used
    assert store.find("small@1.0+ft1").pack.digest == outcome.pack.digest
    assert not (tmp_path / "out.work").exists()


#: A scan is measured once with its fold and once more for agreement, under one sentence.
SHARED = {"Measuring what was learnt on case_0", "Measuring what was learnt on case_1"}


def test_labels_only_uses_no_scan_without_its_label(pack, tmp_path, in_steps, monkeypatch):
    fill(tmp_path / "library", 1, 1)
    in_steps(4)
    seen = []
    losses = course.Objective.losses

    def noted(self, networks, parent, sample, done):
        seen.append((sample.unlabelled, sample.labelled.names))
        return losses(self, networks, parent, sample, done)

    monkeypatch.setattr(course.Objective, "losses", noted)
    outcome = learn(tmp_path / "library", pack, tmp_path / "out", method="labels-only")
    assert outcome.report["method"] == "labels-only"
    assert len(seen) >= 4 and all(unlabelled is None for unlabelled, _ in seen)
    assert {part for _, names in seen for part in names[0].split(" with ")} == {"case_0"}


def test_the_pack_may_be_deleted_while_the_run_goes_on(pack, tmp_path, in_steps):
    fill(tmp_path / "library", 1)
    in_steps(4)

    def tell(news):
        if "step" in news.sentence:
            shutil.rmtree(pack.path, ignore_errors=True)

    outcome = learn(tmp_path / "library", pack, tmp_path / "out", tell=tell)
    assert not pack.path.exists() and outcome.pack.manifest.parent == "small 1.0"


def test_cancelling_leaves_nothing_behind(pack, tmp_path, in_steps, store):
    fill(tmp_path / "library", 1)
    in_steps(8)
    control = Control()

    def tell(news):
        if news.sentence.endswith("step 2"):
            control.cancel()

    with pytest.raises(Cancelled, match="was cancelled"):
        learn(tmp_path / "library", pack, tmp_path / "out", store=store, tell=tell, control=control)
    assert not (tmp_path / "out").exists() and not (tmp_path / "out.work").exists()
    assert [entry.ref for entry in store.entries() if not entry.shipped] == []


def test_an_output_that_holds_something_is_refused(pack, tmp_path):
    fill(tmp_path / "library", 1)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="is not an empty folder"):
        learn(tmp_path / "library", pack, tmp_path / "out")
    assert (tmp_path / "out" / "thesis.txt").read_text() == "mine"


def test_the_work_of_another_run_is_refused(pack, tmp_path):
    fill(tmp_path / "library", 1)
    with pytest.raises(Killed):
        learn(tmp_path / "library", pack, tmp_path / "out", tell=_kill_at("Measuring"))
    with pytest.raises(InputError, match="begun with minutes 1.0 .now 2.0.; give another --out"):
        finetune(tmp_path / "library", pack, tmp_path / "out", minutes=2.0)
    (tmp_path / "out.work" / "state.json").write_text("{")
    with pytest.raises(InputError, match="damaged or of another version; remove that folder"):
        learn(tmp_path / "library", pack, tmp_path / "out")


def _kill_at(start):
    def tell(news):
        if news.sentence.startswith(start):
            raise Killed

    return tell


def test_a_folder_that_cannot_be_written_is_one_sentence(pack, tmp_path):
    fill(tmp_path / "library", 1)
    (tmp_path / "file").write_text("")
    with pytest.raises(VersemiError, match=r"could not be made|may be written"):
        learn(tmp_path / "library", pack, tmp_path / "file" / "out")


def test_a_full_disk_ends_the_run_with_a_sentence_and_it_goes_on_once_there_is_room(
    pack, tmp_path, in_steps, monkeypatch
):
    fill(tmp_path / "library", 1)
    in_steps(6)
    monkeypatch.setattr(course, "_EPOCH", 2)
    save = torch.save
    full = {"now": True}

    def refusing(*arguments, **options):
        if full["now"]:
            raise OSError(28, "No space left on device")
        return save(*arguments, **options)

    monkeypatch.setattr(torch, "save", refusing)
    with pytest.raises(OutputError, match="make room"):
        learn(tmp_path / "library", pack, tmp_path / "out")
    full["now"] = False
    assert learn(tmp_path / "library", pack, tmp_path / "out").state == "provisional"


def test_what_the_store_cannot_take_is_told_before_anything_is_computed(pack, tmp_path, store):
    fill(tmp_path / "library", 1)
    store.folder.mkdir()
    choice = {"kind": "versemi-model-store", "format": 99, "active": None}
    (store.folder / "active.json").write_text(json.dumps(choice))
    with pytest.raises(PackError, match="has format 99"):
        learn(tmp_path / "library", pack, tmp_path / "out", store=store)
    assert not (tmp_path / "out.work").exists()


def test_versions_are_counted_on_and_never_nested(pack, store):
    assert next_version(pack, store) == "1.0+ft1"
    again = replace(pack, manifest=replace(pack.manifest, version="1.0+ft1"))
    assert next_version(again, None) == "1.0+ft2"
    added = replace(pack, manifest=replace(pack.manifest, version="1.0+thymus"))
    assert next_version(added, None) == "1.0+thymus+ft1"


def test_a_time_that_measuring_the_parent_uses_up_is_refused_and_leaves_nothing(
    pack, tmp_path, monkeypatch
):
    fill(tmp_path / "library", 3)
    seconds = {"used": 0.0}
    monkeypatch.setattr(Watch, "used", property(lambda self: seconds["used"]))
    measured = []

    def slow(*arguments):
        seconds["used"] += 50.0
        measured.append(arguments[1].id)
        return Measured({}, None, 50.0)

    monkeypatch.setattr(examination, "measure", slow)
    with pytest.raises(InputError, match=r"1 minutes are too short: .* give --minutes \d+ or more"):
        learn(tmp_path / "library", pack, tmp_path / "out")
    assert len(measured) == 2
    assert not (tmp_path / "out.work").exists()


def test_a_method_or_a_time_that_is_none_is_refused(pack, tmp_path):
    with pytest.raises(
        InputError, match="no method 'magic'; choose one of distillation, versemi, labels-only"
    ):
        learn(tmp_path / "library", pack, tmp_path / "out", method="magic")
    with pytest.raises(InputError, match="0 minutes cannot learn"):
        finetune(tmp_path / "library", pack, tmp_path / "out", minutes=0)
