"""A training run described in YAML: which scans, which prompts, how long."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from versemi.errors import InputError
from versemi.learning.augmentation import GeometryRange
from versemi.learning.cache import cached_case
from versemi.learning.data import Source
from versemi.network import NetworkSettings
from versemi.preprocessing import DEFAULT_GROUPS
from versemi.tasks import FOREGROUND, get_task


@dataclass(frozen=True)
class RunSettings:
    """A whole run; see ``base.yaml`` for the meaning of each value."""

    seed: int
    steps: int
    rate: float
    average: float
    mix: float
    network: NetworkSettings
    sources: tuple[Mapping[str, Any], ...]
    pack: Mapping[str, Any]

    @property
    def prompts(self) -> tuple[str, ...]:
        """Every prompt that a source covers, *foreground* last."""
        return self.network.prompts


def load_settings(path: Path | None = None) -> RunSettings:
    """Read a run's YAML; without a path, the run that made the shipped pack.

    Raises:
        InputError: the file cannot be read, or a value is missing or wrong.
    """
    name = str(path) if path else "base.yaml"
    try:
        text = (
            path.read_text(encoding="utf-8")
            if path
            else resources.files("versemi.learning").joinpath("base.yaml").read_text("utf-8")
        )
        data = yaml.safe_load(text)
        found = {get_task(p).id for source in data["sources"] for p in source["labels"].values()}
        ordered = sorted(found, key=lambda p: get_task(p).label)
        return RunSettings(
            seed=int(data["seed"]),
            steps=int(data["steps"]),
            rate=float(data["rate"]),
            average=float(data["average"]),
            mix=float(data["mix"]),
            network=NetworkSettings(
                prompts=(*ordered, FOREGROUND),
                backbone=str(data["network"]["backbone"]),
                features=int(data["network"]["features"]),
            ),
            sources=tuple(data["sources"]),
            pack=dict(data["pack"]),
        )
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"The run settings {name} cannot be used: {error!r}.") from None


def measuring_cases(source: Mapping[str, Any], data: Path) -> list[str]:
    """Names of the source's cases that are kept for measuring and never trained on."""
    rule = source.get("measure", [])
    if isinstance(rule, list):
        return [str(name) for name in rule]
    if "last" in rule:
        return _order(data / source["folder"])[-int(rule["last"]) :]
    protocol = json.loads((data / rule["protocol"]).read_text(encoding="utf-8"))
    return [str(name) for name in protocol["tasks"][rule["task"]]["devtest"]]


def training_cases(source: Mapping[str, Any], data: Path) -> list[str]:
    """Names of the source's cases that are trained on, in the order of the data set."""
    held = set(measuring_cases(source, data))
    return [name for name in _order(data / source["folder"]) if name not in held]


def build_sources(settings: RunSettings, data: Path, cache: Path) -> list[Source]:
    """Prepare every training scan and describe the sources of the run.

    Args:
        settings: the run.
        data: folder that holds the data sets' folders.
        cache: folder for prepared scans.

    Raises:
        InputError: a folder or a label is missing.
    """
    sources = []
    for entry in settings.sources:
        sources.append(_source(entry, data, cache, 1.0, float(entry["weight"])))
        if entry.get("coarse_weight"):
            factor = DEFAULT_GROUPS[entry["group"]].coarse
            sources.append(_source(entry, data, cache, factor, float(entry["coarse_weight"])))
    return sources


def _source(
    entry: Mapping[str, Any], data: Path, cache: Path, scale: float, weight: float
) -> Source:
    folder = data / entry["folder"]
    group = DEFAULT_GROUPS[entry["group"]]
    names = training_cases(entry, data)
    if not names:
        raise InputError(f"No case of {folder} is left to train on; add labelled cases.")
    values = {int(v): get_task(p).label for v, p in entry["labels"].items()}
    cases = []
    for name in names:
        image = folder / "imagesTr" / f"{name}.nii.gz"
        label = folder / "labelsTr" / f"{name}.nii.gz"
        for path in (image, label):
            if not path.is_file():
                raise InputError(f"{path} is missing although dataset.json names {name}.")
        cases.append(cached_case(image, label, values, group, scale, cache))
    z, y, x = (float(s) * scale for s in reversed(group.spacing))
    flips = entry.get("flips", (0.0, 0.0, 0.0))
    return Source(
        name=entry["name"] if scale == 1.0 else f"{entry['name']}_coarse",
        modality=get_task(next(iter(entry["labels"].values()))).modality,
        prompts=tuple(entry["labels"].values()),
        cases=tuple(cases),
        spacing=(z, y, x),
        crop=tuple(entry["crop"]),
        batch=int(entry.get("batch", 1)),
        weight=weight,
        overhang=float(entry.get("overhang", 0.125)),
        geometry=GeometryRange(flips=tuple(float(f) for f in flips)),  # type: ignore[arg-type]
    )


def _order(folder: Path) -> list[str]:
    try:
        described = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{folder / 'dataset.json'} cannot be read: {error}.") from None
    if "order" in described:
        return [str(name) for name in described["order"]]
    return sorted(p.name.removesuffix(".nii.gz") for p in (folder / "labelsTr").glob("*.nii.gz"))
