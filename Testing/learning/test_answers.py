"""What the network says about whole scans without labels, and how it is learnt from."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from versemi.learning.answering import Answering, stable
from versemi.learning.answers import DOUBT, Answers, rounds_of, trial_of
from versemi.learning.cache import CachedCase
from versemi.learning.configuration import load_settings
from versemi.learning.data import SampleDataset
from versemi.learning.mixing import MixedLabels
from versemi.learning.run import train
from versemi.learning.sources import build_sources
from versemi.network import GroupNetworks
from versemi.tasks import FOREGROUND, TASKS

LIVER, KIDNEY = TASKS["liver"].label, TASKS["right_kidney"].label


@pytest.mark.parametrize(
    ("begin", "renew", "rounds"),
    [(0.5, 0.25, [50, 75]), (0.4, 0.3, [40, 70]), (0.0, 0.5, [0, 50]), (0.5, 0.0, [50])],
)
def test_rounds_begin_with_the_unlabelled_part_and_come_again(begin, renew, rounds):
    assert rounds_of(begin, renew, 100) == rounds


@pytest.mark.parametrize(
    ("begin", "steps", "trial"), [(0.4, 100, 20), (0.5, 6, 2), (0.0, 100, None), (0.5, 2, None)]
)
def test_the_trial_is_half_way_to_the_first_round(begin, steps, trial):
    assert trial_of(begin, steps) == trial


@pytest.fixture
def sources(small_data, small_config, tmp_path):
    settings = load_settings(small_config)
    return build_sources(settings.sources, small_data, tmp_path / "cache", unlabelled=True)


@pytest.fixture
def written(sources, tmp_path):
    """Answers about every scan from step 3 on: the liver in a block, doubt beside it."""
    answers = Answers(tmp_path / "answers", [3])
    for source in sources:
        for case in source.unlabelled:
            values = np.zeros(case.image.shape, dtype=np.uint8)
            values[4:12, 4:12, 4:12] = LIVER
            values[4:12, 4:12, 12:14] = DOUBT
            path = answers.path(case, source.group, 3)
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, values)
    return answers


def unlabelled_ct(sources):
    """Its scans as if none of them had a label."""
    source = next(s for s in sources if s.name == "ct")
    bare = []
    for case in source.unlabelled:
        bare.append(CachedCase(case.name, case.folder))
        bare[-1].__dict__["labelled"] = False
    return replace(source, unlabelled=tuple(bare), centred=1.0)


def dataset_of(source, answers, mixed=1.0):
    return SampleDataset(
        [source],
        ("liver", "right_kidney", FOREGROUND),
        steps=6,
        samples=1,
        seed=0,
        synthetic=0.0,
        unlabelled=True,
        answers=answers,
        mixed=mixed,
    )


def test_answers_are_known_and_doubt_and_what_was_not_found_are_not(sources, written):
    source = unlabelled_ct(sources)
    sample = dataset_of(source, written, mixed=0.0)[3]
    for labels in sample.unlabelled.mixed.labels:
        assert isinstance(labels, MixedLabels) and all(labels.unlabelled)
        liver, known = labels.target("liver")
        assert liver.any() and known[liver].all()  # crops are laid where the liver was found
        assert (~known).any()
        _, kidney = labels.target("right_kidney")
        assert not kidney[~liver].any()
        foreground, sure = labels.target(FOREGROUND)
        assert torch.equal(foreground, liver) and torch.equal(sure, known)


def test_before_the_first_round_nothing_is_known(sources, written):
    sample = dataset_of(unlabelled_ct(sources), written, mixed=0.0)[2]
    for labels in sample.unlabelled.mixed.labels:
        assert not labels.prompts


class Frozen:
    """Stands in for Lightning's trainer around a network with given probabilities."""

    world_size, global_rank, is_global_zero = 1, 0, True

    class strategy:
        @staticmethod
        def barrier():
            pass


@pytest.fixture
def answered(small_config, tmp_path, monkeypatch):
    """Lets a network with given probabilities answer about a source at some steps."""
    from versemi.learning import answering as module

    def answer(source, probabilities, rounds, steps=None, trial=None):
        class Volume:
            def __init__(self, array, *_, **__):
                self.shape = array.shape

            def compute(self, *_):
                pass

            def probability(self, region, index):
                return probabilities(self.shape, trainer.global_step).astype(np.float32)

        monkeypatch.setattr(module, "FeatureVolume", Volume)
        network = type("Network", (), {"prompts": ("liver", "right_kidney", FOREGROUND)})
        answers = Answers(tmp_path / "answered", rounds, trial)
        answering = Answering(answers, [source], load_settings(small_config), "cpu")
        trainer = Frozen()
        networks = GroupNetworks(network)
        trainer.lightning_module = type("Module", (), {"averages": lambda self: networks})()
        for step in steps or answers.asked:
            trainer.global_step = step
            answering.answer(trainer)
        return answers

    return answer


def test_labels_by_hand_stand_above_answers(sources, answered):
    ct = next(s for s in sources if s.name == "ct")
    source = replace(ct, prompts=("liver",), unlabelled=ct.cases)

    def everywhere(shape, step):
        kidney = np.zeros(shape, dtype=np.float32)
        kidney[:, :, : shape[2] // 2] = 0.9
        return np.stack([0.9 - kidney, kidney, np.full(shape, 0.9, dtype=np.float32)])

    answers = answered(source, everywhere, [3])
    sample = dataset_of(source, answers, mixed=0.0)[4]
    for labels in sample.unlabelled.mixed.labels:
        liver, known = labels.target("liver")
        assert known.all() and liver.float().mean() < 0.3  # a ball, not everything
        kidney, known = labels.target("right_kidney")
        assert known.all() and kidney.float().mean() > 0.2 and not (kidney & liver).any()


def test_the_largest_component_is_kept_and_the_rest_is_doubt(sources, answered):
    def pieces(shape, step):
        liver = np.zeros(shape, dtype=np.float32)
        liver[2:9, 2:9, 2:9] = 0.9
        liver[-3:, -3:, -3:] = 0.9  # a piece elsewhere
        foreground = np.where(liver > 0, 0.9, 0.1)
        foreground[2:4, 2:9, 2:9] = 0.1  # the two do not agree here
        return np.stack([liver, 0 * liver, foreground])

    source = unlabelled_ct(sources)
    source = replace(source, unlabelled=source.unlabelled[:1])
    answers = answered(source, pieces, [2], steps=[1])
    assert answers.of(source.unlabelled[0], "ct", 1) is None and not answers.folder.exists()
    answers = answered(source, pieces, [2])
    values, places = answers.of(source.unlabelled[0], "ct", 5)
    assert (values[4:9, 2:9, 2:9] == LIVER).all()
    assert (values[2:4, 2:9, 2:9] == DOUBT).all() and (values[-3:, -3:, -3:] == DOUBT).all()
    assert set(np.unique(values)) == {0, LIVER, DOUBT} and set(places) == {LIVER}


def test_only_an_outline_that_stood_still_is_learnt_from(sources, answered):
    def moving(shape, step):
        liver, kidney = np.zeros((2, *shape), dtype=np.float32)
        liver[2:9, 2:9, 2:9] = 0.9
        kidney[2:6, 2:6, -4:] = 0.9
        if step == 1:  # the kidney was elsewhere
            kidney = kidney[::-1]
        return np.stack([liver, kidney, np.maximum(liver, kidney)])

    source = unlabelled_ct(sources)
    source = replace(source, unlabelled=source.unlabelled[:1])
    case = source.unlabelled[0]
    answers = answered(source, moving, [2, 4], trial=1, steps=[1])
    assert answers.of(case, "ct", 1) is None
    answers = answered(source, moving, [2, 4], trial=1, steps=[1, 2])
    values, places = answers.of(case, "ct", 2)
    assert set(places) == {LIVER} and (values[2:6, 2:6, -4:] == DOUBT).all()
    # By the next round it stands where it stood in this one, though nothing was learnt from it.
    answers = answered(source, moving, [2, 4], trial=1, steps=[4])
    assert set(answers.of(case, "ct", 4)[1]) == {LIVER, KIDNEY}
    assert [path.name for path in (answers.folder / "said").iterdir()] == ["4"]


def test_how_far_an_outline_may_move():
    here, there = np.zeros((2, 4, 4, 4), dtype=np.uint8)
    here[:, :, :2], there[:, :, :1] = LIVER, LIVER  # Dice 2 / 3
    assert np.array_equal(stable(here, there, 0.66), here)
    assert set(np.unique(stable(here, there, 0.67))) == {0, DOUBT}


def test_a_run_answers_at_its_rounds_and_keeps_the_last(small_data, small_config, tmp_path):
    settings = load_settings(small_config)
    method = replace(settings.method, begin=0.5, renew=0.25)
    ct, mr = settings.sources
    ct = {**ct, "labelled": ["ct_0"], "unlabelled": ["ct_1"]}
    mr = {**mr, "labelled": ["mr_0", "mr_1"]}  # labels for its only prompt
    settings = replace(settings, steps=8, method=method, sources=(ct, mr))
    out = tmp_path / "run"
    train(settings, small_data, out, cache=tmp_path / "cache", workers=1, device="cpu")
    assert sorted(path.name for path in (out / "answers").iterdir()) == ["6", "said"]
    # One scan at two scales; nobody asks about what labels cover, or what is measured on.
    assert len(list((out / "answers" / "6").iterdir())) == 2
    without = replace(settings, method=replace(method, without=("pseudo-labels",)))
    train(without, small_data, tmp_path / "no", cache=tmp_path / "cache", workers=0, device="cpu")
    assert not (tmp_path / "no" / "answers").exists()
