"""Small data sets and settings, made here."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import yaml
from simulated import SETTINGS, write_data

from versemi import tasks as registry
from versemi.learning.simulation import settings as simulation


def write_case(folder: Path, name: str, rng: np.random.Generator, ct: bool) -> None:
    shape = (40, 48, 48)
    labels = np.zeros(shape, dtype=np.uint8)
    z, y, x = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    centre = rng.uniform(16, 24, 3)
    labels[(z - centre[0]) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2 < 64] = 1
    if ct:
        labels[(z - centre[0]) ** 2 + (y - centre[1]) ** 2 + (x - centre[2] - 18) ** 2 < 30] = 2
    image = rng.normal(0, 10, shape) + np.array([-50, 150, 60])[labels] * (1 if ct else 2)
    if not ct:
        image += 300
    for part, array in (("imagesTr", image.astype(np.float32)), ("labelsTr", labels)):
        (folder / part).mkdir(parents=True, exist_ok=True)
        out = sitk.GetImageFromArray(array)
        out.SetSpacing([2.0, 2.0, 3.0] if ct else [1.25, 1.25, 1.25])
        sitk.WriteImage(out, str(folder / part / f"{name}.nii.gz"))


@pytest.fixture
def registry_as_it_was() -> Iterator[None]:
    """Prompts of one's own that a test adds are gone after it."""
    before = dict(registry.TASKS)
    yield
    registry.TASKS.clear()
    registry.TASKS.update(before)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, registry_as_it_was: None) -> dict[str, Any]:
    """Settings of a small simulation, which the commands take for the shipped ones."""
    data = copy.deepcopy(SETTINGS)
    monkeypatch.setattr(simulation, "shipped", lambda name: data)
    return data


@pytest.fixture(scope="session")
def balls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scans of that simulation."""
    return write_data(tmp_path_factory.mktemp("balls"))


@pytest.fixture(scope="session")
def small_data(tmp_path_factory) -> Path:
    rng = np.random.default_rng(0)
    data = tmp_path_factory.mktemp("data")
    for folder, ct in (("ct", True), ("mr", False)):
        names = [f"{folder}_{i}" for i in range(3)]
        bare = f"{folder}_bare"
        for name in [*names, bare]:
            write_case(data / folder, name, rng, ct)
        (data / folder / "labelsTr" / f"{bare}.nii.gz").unlink()
        (data / folder / "dataset.json").write_text(json.dumps({"order": [bare, *names]}))
    return data


@pytest.fixture(scope="session")
def small_config(tmp_path_factory) -> Path:
    config = {
        "seed": 1,
        "steps": 6,
        "rate": 0.001,
        "average": 0.5,
        "samples": 2,
        "method": {"name": "versemi", "without": [], "synthetic": 0.5, "ramp": 0.5},
        "network": {"backbone": "residual-unet", "features": 8},
        "sources": [
            {
                "name": "ct",
                "folder": "ct",
                "group": "ct",
                "labels": {1: "liver", 2: "right_kidney"},
                "measure": {"last": 1},
                "crop": [16, 32, 32],
                "batch": 2,
                "weight": 1.0,
                "coarse_weight": 0.3,
                "flips": [0.0, 0.0, 0.5],
            },
            {
                "name": "mr",
                "folder": "mr",
                "group": "lge_mr",
                "labels": {1: "left_atrium"},
                "measure": ["mr_2"],
                "crop": [16, 32, 32],
                "weight": 1.0,
            },
        ],
        "pack": {
            "name": "small",
            "version": "0.1",
            "search": {"prompts_of": ["ct"]},
            "keep_all": [],
            "min_ml": 0.0,
        },
    }
    path = tmp_path_factory.mktemp("config") / "run.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


#: As ``protocol.yaml``, small.
SCALE = {
    "steps": 6,
    "samples": 2,
    "rate": 0.001,
    "average": 0.9,
    "method": {
        "without": [],
        "synthetic": 0.5,
        "consistency": 0.5,
        "pseudo_labels": 1.0,
        "ramp": 0.3,
    },
    "network": {"backbone": "residual-unet", "features": 8},
    "tasks": {
        "liver": {"group": "ct", "crop": [16, 32, 32], "batch": 1, "keep": "largest"},
        "left_atrium": {"group": "lge_mr", "crop": [16, 32, 32], "batch": 1, "keep": "all"},
    },
}


def cases_of(folder: str) -> dict[str, list[str]]:
    return {
        "pool": [f"{folder}_0", f"{folder}_1"],
        "labelled_10": [f"{folder}_0"],
        "labelled_20": [f"{folder}_0", f"{folder}_1"],
        "devtest": [f"{folder}_2"],
    }


@pytest.fixture
def scale() -> dict:
    return SCALE


@pytest.fixture
def protocol_file(small_data: Path, tmp_path: Path) -> Path:
    data = shutil.copytree(small_data, tmp_path / "data")
    tasks = {
        "liver": {"dataset": "ct", "label": 1, **cases_of("ct")},
        "left_atrium": {"dataset": "mr", "label": 1, **cases_of("mr")},
    }
    for name, labels in (("ct", {"1": "liver", "2": "right kidney"}), ("mr", {"1": "left atrium"})):
        described = {"order": [f"{name}_{i}" for i in range(3)], "labels": labels}
        (data / name / "dataset.json").write_text(json.dumps(described))
    path = data / "protocol.json"
    path.write_text(json.dumps({"name": "small", "tasks": tasks}))
    return path
