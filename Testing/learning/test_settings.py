"""The settings of a run, as YAML has them."""

from __future__ import annotations

import pytest
import yaml

from versemi.errors import InputError
from versemi.learning.configuration import load_settings, named_settings
from versemi.learning.release import release
from versemi.learning.sources import build_sources
from versemi.network import build_network
from versemi.preprocessing import DEFAULT_GROUPS


@pytest.fixture
def changed(small_config, tmp_path):
    """Writes the small run's settings with more values; their path."""

    def write(**values):
        path = tmp_path / "changed.yaml"
        path.write_text(yaml.safe_dump({**yaml.safe_load(small_config.read_text()), **values}))
        return path

    return write


def test_the_shipped_run_reads_and_knows_every_prompt():
    settings = load_settings()
    assert len(settings.prompts) == 18
    assert settings.prompts[-1] == "foreground"
    assert named_settings("base") == settings


def test_the_run_of_the_atriums_own_network_fits_the_pack_that_it_is_joined_to():
    base, atrium = load_settings(), named_settings("atrium")
    assert atrium.prompts == ("left_atrium", "foreground")
    assert (atrium.network.backbone, atrium.network.features) == (
        base.network.backbone,
        base.network.features,
    )


def test_an_unknown_prompt_or_a_missing_value_is_refused(tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text("seed: 1\nsources: [{labels: {1: spline}}]\n")
    with pytest.raises(InputError, match="spline"):
        load_settings(path)
    path.write_text("seed: 1\n")
    with pytest.raises(InputError, match="sources"):
        load_settings(path)


@pytest.mark.parametrize(
    ("key", "value"), [("stable", 70), ("begin", -0.1), ("renew", "half"), ("synthetic", True)]
)
def test_a_share_that_is_none_is_refused(key, value, changed):
    with pytest.raises(InputError, match=f"method.{key}; give a number from 0 to 1") as error:
        load_settings(changed(method={"name": "versemi", key: value}))
    assert repr(value) in str(error.value)


def test_a_group_may_be_prepared_otherwise_and_the_pack_says_how(changed, small_data, tmp_path):
    coarse = {"spacing": [4.0, 4.0, 5.0], "window": [16, 32, 32]}
    settings = load_settings(changed(groups={"lge_mr": coarse}))
    usual, other = (
        build_sources(settings.sources[1:], small_data, tmp_path / "cache", unlabelled=False, **g)
        for g in ({}, {"groups": settings.groups})
    )
    assert other[0].spacing == (5.0, 4.0, 4.0)
    assert other[0].cases[0].image.shape < usual[0].cases[0].image.shape
    again = tmp_path / "again.yaml"
    again.write_text(yaml.safe_dump(settings.described()))
    assert load_settings(again) == settings
    pack = release(settings, build_network(settings.network), small_data, tmp_path / "pack")
    assert pack.manifest.groups["lge_mr"].spacing == (4.0, 4.0, 5.0)
    assert pack.manifest.groups["ct"] == DEFAULT_GROUPS["ct"]


@pytest.mark.parametrize(
    ("groups", "sentence"),
    [
        ({"pet": {}}, "unknown group pet; there are ct, "),
        ({"ct": {"spaces": [1, 1, 1]}}, r"unknown value groups\.ct\.spaces; there are coarse, "),
        ({"ct": {"spacing": [1.0, 1.0, -1.0]}}, "makes no sense: .*-1.0"),
    ],
)
def test_a_preparation_that_makes_no_sense_is_refused(changed, groups, sentence):
    with pytest.raises(InputError, match=sentence):
        load_settings(changed(groups=groups))
