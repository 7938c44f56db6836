"""Accuracy of candidate backbones after equal training time, and their time per crop.

    python Testing/benchmarks/backbones.py [--minutes 3]

Each learns the left atrium from the protocol's eight labelled scans of a split of the pool, and is
measured on cases of that split; the protocol's own measuring cases are not touched. Writes
``out/bench/backbones.json`` and ``backbones.md``.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.networks.nets import DynUNet, SegResNet, UNet
from rich.console import Console
from rich.markdown import Markdown
from torch import Tensor, nn
from torch.utils.data import DataLoader

from versemi.inference.device import choose
from versemi.learning.cache import CachedCase
from versemi.learning.data import SampleDataset
from versemi.learning.objective import encode, supervised_losses
from versemi.learning.protocol import Protocol, runs_of
from versemi.learning.sources import build_sources
from versemi.network import PromptedNetwork
from versemi.network.backbones import ResidualUNetBackbone, VNetBackbone

REPOSITORY = Path(__file__).resolve().parents[2]
TASK = "left_atrium"
SPLIT = 1
FEATURES = 16
CHANNELS = (16, 32, 64, 128, 256)
_COMPUTE = choose("cpu")


class Plain(nn.Module):
    """A network of MONAI's as a backbone; the heads do not see its bottleneck."""

    divisor = 16
    bottleneck_channels = 1

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        return self.network(image), image.new_zeros((len(image), 1))


CANDIDATES: dict[str, Callable[[], nn.Module]] = {
    "residual U-Net of MONAI's blocks, 32-192 channels (ships)": lambda: ResidualUNetBackbone(
        FEATURES
    ),
    "MONAI UNet, two residual units, 16-256 channels": lambda: Plain(
        UNet(3, 1, FEATURES, CHANNELS, (2, 2, 2, 2), num_res_units=2)
    ),
    "MONAI DynUNet": lambda: Plain(
        DynUNet(
            3, 1, FEATURES, [3] * 5, [1, 2, 2, 2, 2], [2] * 4, list(CHANNELS), norm_name="instance"
        )
    ),
    "MONAI SegResNet": lambda: Plain(SegResNet(3, 16, 1, FEATURES)),
    "V-Net of the paper": lambda: VNetBackbone(FEATURES),
}


def main() -> int:
    """Run the comparison; 2 where the data is not there."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=3.0, help="training time of each")
    parser.add_argument("--out", type=Path, default=Path("out/bench"), help="where results go")
    arguments = parser.parse_args()
    console = Console()
    data = Path(os.environ.get("VERSEMI_DATA") or REPOSITORY.parent / "shared" / "data")
    if not (data / "versemi4.json").is_file():
        console.print(f"[red]The research data is not at {data}; nothing can be compared.[/]")
        return 2
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    split = out / "split.json"
    protocol = Protocol.load(data / "versemi4.json")
    split.write_text(json.dumps(protocol.split_pool(SPLIT)), encoding="utf-8")
    protocol = Protocol.load(split).beside(data)
    settings = runs_of(protocol, fraction=10, method="single")[TASK]
    entry = dict(settings.sources[0])
    training = build_sources([entry], data, out / "prepared", unlabelled=False)
    entry["labelled"] = entry["measure"]
    held = build_sources([entry], data, out / "prepared", unlabelled=False)[0].cases

    rows: list[dict[str, Any]] = []
    for name, make in CANDIDATES.items():
        torch.manual_seed(0)
        network = PromptedNetwork(make(), (TASK,), FEATURES)
        network.detach_from_image()
        row: dict[str, Any] = {"backbone": name, "parameters": _size(network)}
        row |= _speed(network)
        dataset = SampleDataset(
            training, (TASK,), steps=10**6, samples=1, seed=0, synthetic=0.0, unlabelled=False
        )
        row["steps"] = _train(network, dataset, arguments.minutes * 60)
        row["dice"] = float(np.mean([_dice(network, case) for case in held]))
        rows.append(row)
        console.print(row)
    (out / "backbones.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    page = _page(rows, arguments.minutes, len(held))
    (out / "backbones.md").write_text(page, encoding="utf-8")
    console.print(Markdown(page))
    return 0


def _size(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def _speed(network: PromptedNetwork) -> dict[str, float]:
    """Best of four of a training step and of inference on one crop, seconds."""
    image = torch.rand(1, 1, 48, 80, 80)
    steps, passes = [], []
    for _ in range(4):
        start = time.perf_counter()
        with _COMPUTE.precision():
            features, _ = network.encode(image)
        features.float().square().mean().backward()
        steps.append(time.perf_counter() - start)
        start = time.perf_counter()
        with _COMPUTE.context():
            network.encode(image)
        passes.append(time.perf_counter() - start)
    network.zero_grad()
    return {"step_seconds": min(steps), "inference_seconds": min(passes)}


def _train(network: PromptedNetwork, dataset: SampleDataset, seconds: float) -> int:
    """Train for a time, the rate falling along a cosine of it; returns the steps made."""
    optimizer = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], lr=1e-3)
    loader = DataLoader(dataset, batch_size=None, num_workers=1, collate_fn=_as_is)
    network.train()
    start = time.perf_counter()
    for step, sample in enumerate(loader):
        done = (time.perf_counter() - start) / seconds
        if done >= 1:
            return step
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * 0.5 * (1 + math.cos(math.pi * done))
        optimizer.zero_grad()
        batch = sample.labelled
        with _COMPUTE.precision():
            losses, _ = supervised_losses(encode(network, batch.image, batch.runs), batch)
        torch.stack(list(losses.values())).sum().backward()
        if all(torch.isfinite(p.grad).all() for p in network.parameters() if p.grad is not None):
            nn.utils.clip_grad_norm_(network.parameters(), 5.0)
            optimizer.step()
    return len(dataset)


@torch.inference_mode()
def _dice(network: PromptedNetwork, case: CachedCase) -> float:
    """Dice of a whole prepared case, padded to what the network takes."""
    network.eval()
    image, labels = np.asarray(case.image, dtype=np.float32), np.asarray(case.labels) > 0
    pad = [(0, -n % network.divisor) for n in image.shape]
    padded = torch.from_numpy(np.pad(image, pad, constant_values=-1.0))[None, None]
    with _COMPUTE.precision():
        logits = network(padded, torch.tensor([0]))[0, 0].float().numpy()
    found = logits[tuple(slice(n) for n in image.shape)] > 0
    return float(2 * (found & labels).sum() / (found.sum() + labels.sum()))


def _page(rows: list[dict[str, Any]], minutes: float, cases: int) -> str:
    lines = [
        "# Backbones",
        "",
        f"{minutes:g} minutes of training each on the left atrium with 8 labelled scans, measured "
        f"on {cases} others of the training pool (at the training spacing, last weights); times "
        f"of one crop of 80 x 80 x 48 voxels with {_COMPUTE.name} and {torch.get_num_threads()} "
        "threads.",
        "",
        "| backbone | parameters | training step | inference | steps made | Dice |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        lines.append(
            f"| {row['backbone']} | {row['parameters'] / 1e6:.2f} M | {row['step_seconds']:.2f} s "
            f"| {row['inference_seconds']:.2f} s | {row['steps']} | {row['dice']:.3f} |"
        )
    return "\n".join([*lines, ""])


def _as_is(item: Any) -> Any:
    return item


if __name__ == "__main__":
    raise SystemExit(main())
