"""One training run from settings to the end: scans, networks, steps."""

from __future__ import annotations

import json
import os
import platform
import zipfile
from collections.abc import Sequence
from pathlib import Path

import lightning as L
import torch
import yaml
from lightning.pytorch.callbacks import Callback

from versemi.errors import InputError
from versemi.export import write_text
from versemi.learning.answering import Answering
from versemi.learning.answers import Answers, rounds_of, trial_of
from versemi.learning.callbacks import KeptLog, TrainingTime
from versemi.learning.configuration import RunSettings
from versemi.learning.data import SampleDataset
from versemi.learning.pictures import Pictures
from versemi.learning.sources import build_sources
from versemi.learning.trainer import LAST, PromptedTraining, run
from versemi.modelpack import ModelPack
from versemi.network import GroupNetworks, build_network

#: Steps, samples per step, seconds and hardware of a finished run.
TRAINED = "training.json"


def train(
    settings: RunSettings,
    data: Path,
    out: Path,
    *,
    cache: Path,
    device: str = "auto",
    devices: int = 1,
    nodes: int = 1,
    workers: int = 1,
    start: ModelPack | None = None,
    callbacks: tuple[Callback, ...] = (),
) -> GroupNetworks:
    """Train, or go on with a run that was stopped; returns the averaged networks.

    Args:
        settings: the run, its length included; they are written to ``settings.yaml``.
        data: folder that holds the data sets' folders.
        out: folder of the run: checkpoints, logs and pictures.
        cache: folder for prepared scans.
        device: as for :class:`Segmenter`.
        devices, nodes: processes on this machine, and machines.
        workers: processes that prepare crops.
        start: pack whose weights to start from; random ones without.
        callbacks: more of Lightning's callbacks.

    Raises:
        InputError: scans or labels are missing or wrong, a crop or `start` does not fit the
            network, or `out` holds another run or a damaged checkpoint.
        OutputError: a file of the run cannot be written.
    """
    _check_checkpoint(out / LAST)
    groups = settings.used_groups()
    before = _networks_of(start, settings, groups) if start else None
    sources = build_sources(
        settings.sources,
        data,
        cache,
        unlabelled=settings.method.unlabelled,
        groups=settings.groups,
    )
    described = {**settings.described(), "start": start.digest if start else None}
    write_text(yaml.safe_dump(described, sort_keys=False), out / "settings.yaml")
    answering = None
    if settings.method.answers:
        method = settings.method
        answers = Answers(
            out / "answers",
            rounds_of(method.begin, method.renew, settings.steps),
            trial_of(method.begin, settings.steps) if method.stable else None,
        )
        answering = Answering(answers, sources, settings, device)
    dataset = SampleDataset(
        sources,
        settings.prompts,
        steps=settings.steps,
        samples=settings.samples,
        seed=settings.seed,
        synthetic=settings.method.synthetic if settings.method.has("synthetic") else 0.0,
        unlabelled=settings.method.unlabelled,
        begin=settings.method.begin,
        blank=settings.method.blank,
        mixed=settings.method.mixed,
        answers=answering.answers if answering else None,
    )
    L.seed_everything(settings.seed, verbose=False)
    networks = before or GroupNetworks(build_network(settings.network))
    partner = build_network(settings.network) if settings.method.name == "cps" else None
    training = PromptedTraining(
        networks,
        settings.method,
        steps=settings.steps,
        rate=settings.rate,
        average=settings.average,
        partner=partner,
        described=described,
        groups=groups,
    )
    clock = TrainingTime()
    run(
        training,
        dataset,
        out,
        device=device,
        devices=devices,
        nodes=nodes,
        workers=workers,
        answering=answering,
        callbacks=(clock, KeptLog(out), Pictures(dataset, out / "pictures"), *callbacks),
    )
    trained = {
        "steps": settings.steps,
        "samples": settings.samples,
        "seconds": clock.seconds,
        "hardware": hardware(),
    }
    write_text(json.dumps(trained) + "\n", out / TRAINED)
    return training.averages().mapped(lambda network: network.eval().cpu())


def _networks_of(start: ModelPack, settings: RunSettings, groups: Sequence[str]) -> GroupNetworks:
    """What a pack gives a run to begin with.

    Raises:
        InputError: it does not fit the run.
    """
    networks = start.build_networks().mapped(lambda network: network.train())
    known = networks.shared.prompts
    if known != settings.prompts:
        raise InputError(
            f"The pack to start from knows {', '.join(known)}; this run wants "
            f"{', '.join(settings.prompts)}. Start from a pack with the same prompts."
        )
    several = len({id(networks.of(group)) for group in groups}) > 1
    if several and not settings.method.has("group-networks"):
        raise InputError(
            f"Groups of the pack {start.name} {start.version} have networks of their own, and this "
            "run trains one for all of them; let it have group-networks, or start from a pack with "
            "one network."
        )
    return networks


def hardware() -> str:
    """The machine in words."""
    if torch.cuda.is_available():
        return str(torch.cuda.get_device_name())
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                name = line.split(":", 1)[1].strip()
                break
    return f"{torch.get_num_threads()} of {os.cpu_count()} cores of {name}"


def _check_checkpoint(path: Path) -> None:
    """Told before the scans are prepared; torch's own words would be of its archive."""
    if path.is_file() and not zipfile.is_zipfile(path):
        raise InputError(
            f"The checkpoint {path} is damaged; take it away to begin the run anew, or put back a"
            " copy of it."
        )
