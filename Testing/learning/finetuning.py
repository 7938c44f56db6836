"""A small library of scans with two structures, and a pack that knows one of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from versemi.caselibrary import CaseLibrary
from versemi.learning.finetuning import course
from versemi.learning.finetuning.watch import Watch
from versemi.learning.objective import prompt_loss
from versemi.manifest import Manifest, PromptSettings
from versemi.modelpack import ModelPack, write_pack
from versemi.network import NetworkSettings, build_network, prompted
from versemi.preprocessing import GroupSettings, normalise
from versemi.tasks import FOREGROUND, TASKS, Task

SHAPE = (32, 32, 32)
SPACING = 4.0
LIMITS = (-125.0, 275.0)
#: HU of what is neither, of the liver and of the right kidney, which touch nowhere.
HOUNSFIELD = {"": -60.0, "liver": 60.0, "right_kidney": 200.0}


class TinyBackbone(nn.Module):
    """Enough to tell intensities apart, and a step of training takes no time."""

    divisor = 4
    bottleneck_channels = 16

    def __init__(self, features: int) -> None:
        super().__init__()
        self.first = nn.Conv3d(1, 8, 3, padding=1)
        self.second = nn.Conv3d(8, features, 1)
        self.deep = nn.Conv3d(8, self.bottleneck_channels, 4, stride=4)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        x = F.leaky_relu(self.first(image), 0.01)
        return F.leaky_relu(self.second(x), 0.01), self.deep(x).mean(dim=(2, 3, 4))


@contextmanager
def tiny_networks() -> Iterator[None]:
    """Packs of the U-Net have a tiny one meanwhile."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prompted, "ResidualUNetBackbone", TinyBackbone)
        yield


def clock_in_steps(patch: pytest.MonkeyPatch, steps: int, minutes: float = 1.0) -> None:
    """Let a step take so long that `minutes` hold `steps`, whatever the machine does besides."""
    clock = {"now": 0.0}
    patch.setattr(Watch, "used", property(lambda self: self._before + clock["now"]))
    before = course.FineTuning.on_train_batch_end

    def slow(self: course.FineTuning, *arguments: object) -> None:
        clock["now"] += minutes * 60 / steps
        before(self, *arguments)

    patch.setattr(course.FineTuning, "on_train_batch_end", slow)


def phantom(number: int) -> tuple[np.ndarray, np.ndarray]:
    """A scan and its label map, ``(z, y, x)``: two balls in soft noise."""
    rng = np.random.default_rng(number)
    labels = np.zeros(SHAPE, np.uint8)
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in SHAPE), indexing="ij"), axis=-1)
    for task, x, radius in (("liver", 9, 6), ("right_kidney", 23, 5)):
        centre = np.array([*rng.uniform(12, 20, 2), x + rng.uniform(-1, 1)])
        labels[((grid - centre) ** 2).sum(axis=-1) < radius**2] = TASKS[task].label
    values = np.full(SHAPE, HOUNSFIELD[""])
    for task in ("liver", "right_kidney"):
        values[labels == TASKS[task].label] = HOUNSFIELD[task]
    return values + rng.normal(0, 15, SHAPE), labels


def image(values: np.ndarray) -> sitk.Image:
    """An image of the phantoms' spacing."""
    made = sitk.GetImageFromArray(values)
    made.SetSpacing((SPACING,) * 3)
    return made


def only(labels: np.ndarray, prompts: Sequence[str]) -> np.ndarray:
    """A label map without what it is not to cover."""
    return np.where(np.isin(labels, [TASKS[p].label for p in prompts]), labels, 0).astype(np.uint8)


def fill(
    folder: Path, corrected: int, unlabelled: int = 0, prompts: Sequence[str] = ("liver",)
) -> CaseLibrary:
    """A library of CT cases ``case_0``, ``case_1``, ..., the corrected ones first."""
    library = CaseLibrary.create(folder)
    for number in range(corrected + unlabelled):
        values, labels = phantom(number)
        known = number < corrected
        library.add(
            image(values.astype(np.int16)),
            name=f"case {number}",
            modality="CT",
            labels=image(only(labels, prompts)) if known else None,
            prompts=prompts if known else (),
        )
    return library


def make_parent(
    folder: Path,
    taught: Sequence[str] = ("right_kidney",),
    steps: int = 60,
    own: Sequence[Task] = (),
    foreground: bool = True,
) -> ModelPack:
    """A pack that has learnt some prompts well and has yet to learn the others."""
    torch.manual_seed(0)
    tasks = [TASKS["liver"], TASKS["right_kidney"], TASKS["left_atrium"], *own]
    settings = NetworkSettings(
        prompts=(*(task.id for task in tasks), *([FOREGROUND] if foreground else [])),
        backbone="residual-unet",
        features=8,
    )
    network = build_network(settings)
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    index = torch.tensor([settings.prompts.index(p) for p in taught])
    for step in range(steps):
        values, labels = phantom(1000 + step % 4)
        scan = torch.from_numpy(normalise(values, LIMITS))[None, None]
        truth = torch.stack([torch.from_numpy(labels == TASKS[p].label) for p in taught])
        logits = network(scan, index)[0].flatten(1)
        loss = prompt_loss(logits, truth.flatten(1), torch.ones_like(logits)).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    group = GroupSettings((SPACING,) * 3, (16, 32, 32), "window", LIMITS)
    manifest = Manifest(
        name="small",
        version="1.0",
        network=settings.to_json(),
        prompts=tuple(PromptSettings(t, dice=0.8 if t.id in taught else None) for t in tasks),
        groups={"ct": group, "lge_mr": group},
    )
    return write_pack(folder, network, manifest, {"LICENSE": "For tests only.\n"})
