"""Times a training step, side by side with the published arrangement: a backbone pass a prompt.

Run by ``make bench``. Same network, crops, voxels and loss terms, in one process; the losses of
both are compared before anything is timed. Writes ``out/bench/training.json`` and ``training.md``.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.markdown import Markdown
from torch import Tensor

from versemi.inference.device import choose
from versemi.learning import methods
from versemi.learning.data import RUN, MicroBatch, Sample, Unlabelled
from versemi.learning.methods import MethodSettings, Networks, build_method
from versemi.learning.mixing import MixedLabels
from versemi.learning.objective import Encoded, at_runs, encode
from versemi.network import NetworkSettings, PromptedNetwork, build_network
from versemi.tasks import FOREGROUND, TASKS

PROMPTS = ("left_atrium", "lung_tumour", "spleen", "pancreas")
SHAPE = (48, 80, 80)


class PassForEachPrompt(Encoded):
    """A crop whose every prompt costs a pass of its own, as in the published code.

    Where no gradient is wanted the last pass serves, so that only the passes that the published
    code makes too are counted.
    """

    def __init__(self, network: PromptedNetwork, image: Tensor, runs: Tensor) -> None:
        self.network = network
        self._image = image
        self._runs = runs
        self._last: Encoded | None = None

    def logits(self, prompts: Sequence[str]) -> Tensor:
        if not torch.is_grad_enabled():
            return self._encoded().logits(prompts)
        answers = []
        for prompt in prompts:
            self._last = None
            answers.append(self._encoded().logits([prompt]))
        return torch.cat(answers)

    def _encoded(self) -> Encoded:
        if self._last is None:
            features, pooled = self.network.encode(self._image)
            self._last = Encoded(self.network, at_runs(features.flatten(2), self._runs), pooled)
        return self._last


def pass_for_each(network: PromptedNetwork, image: Tensor, runs: Sequence[Tensor]) -> list[Encoded]:
    """Stands in for :func:`versemi.learning.objective.encode` in the published arrangement."""
    if not torch.is_grad_enabled():
        return encode(network, image, runs)
    return [PassForEachPrompt(network, image[i : i + 1], runs[i]) for i in range(len(image))]


def sample() -> Sample:
    """A synthetic-task crop of two tasks, and an unlabelled crop mixed with a labelled one."""
    chance = torch.Generator().manual_seed(0)

    def ball(prompt: str, centre: int) -> MixedLabels:
        z, y, x = torch.meshgrid(*(torch.arange(n) for n in SHAPE), indexing="ij")
        inside = (z - 24) ** 2 + (y - centre) ** 2 + (x - 40) ** 2 < 200
        return MixedLabels.plain(inside.to(torch.uint8) * TASKS[prompt].label, (prompt,))

    box = (slice(8, 40), slice(20, 60), slice(20, 60))
    image = torch.rand((1, 1, *SHAPE), generator=chance) * 2 - 1
    runs = torch.arange(200_000 // RUN)
    mixed = ball("spleen", 30).with_box(box, ball("left_atrium", 50), box)
    labelled = MicroBatch(
        image, [mixed], ["synthetic"], [[FOREGROUND, "spleen", "left_atrium"]], runs
    )
    nothing = MixedLabels.plain(torch.zeros(SHAPE, dtype=torch.uint8), ())
    half = nothing.with_box(box, ball("pancreas", 40), box)
    asked = [[FOREGROUND, *PROMPTS]]
    strong, other = (
        MicroBatch(image, [labels], ["unlabelled"], asked, runs[: len(runs) // 2])
        for labels in (nothing, half)
    )
    return Sample(0, "benchmark", "ct", labelled, Unlabelled(image, strong, other))


def main() -> int:
    """Run the benchmark; 1 where the two arrangements disagree."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("out/bench"), help="where results go")
    parser.add_argument("--repeat", type=int, default=8, help="steps of each; the fastest counts")
    arguments = parser.parse_args()
    console = Console()
    compute = choose("cpu")
    torch.manual_seed(0)
    network = build_network(NetworkSettings((*PROMPTS, FOREGROUND)))
    teacher = build_network(NetworkSettings((*PROMPTS, FOREGROUND)))
    data = sample()
    # With every term; pseudo-labels of whole scans would cost a step nothing.
    method = build_method(MethodSettings(without=(), whole_scans=False))

    def step(encoder: Callable[..., list[Encoded]]) -> float:
        network.zero_grad()
        methods.encode = encoder
        with compute.precision():
            losses = method(Networks(network, teacher), data, 1.0)
        total = torch.stack(list(losses.values())).sum()
        total.backward()
        return float(total.detach())

    def teacher_pass() -> None:
        assert data.unlabelled is not None
        with torch.no_grad(), compute.precision():
            encode(teacher, data.unlabelled.weak, data.unlabelled.mixed.runs_of_each)

    one, many = step(encode), step(pass_for_each)
    if abs(one - many) > 0.01 * abs(many):
        console.print(f"[red]The losses differ: {one:.4f} in one pass, {many:.4f} in many.[/]")
        return 1
    seconds = {
        "one pass for all prompts": _fastest(lambda: step(encode), arguments.repeat),
        "one pass for each prompt": _fastest(lambda: step(pass_for_each), arguments.repeat),
        "of which the teacher": _fastest(teacher_pass, arguments.repeat),
    }
    one_pass, many_passes, of_teacher = seconds.values()
    ratio = (many_passes - of_teacher) / (one_pass - of_teacher)
    results = {
        "seconds": seconds,
        "ratio": ratio,
        "losses": [one, many],
        "device": compute.name,
        "threads": torch.get_num_threads(),
        "crop": SHAPE,
        "prompts": len(PROMPTS),
    }
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    (out / "training.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    page = _page(results)
    (out / "training.md").write_text(page, encoding="utf-8")
    console.print(Markdown(page))
    return 0


def _fastest(work: Callable[[], object], repeat: int) -> float:
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def _page(results: dict[str, Any]) -> str:
    rows = [f"| {name} | {value:.2f} |" for name, value in results["seconds"].items()]
    verdict = "met" if results["ratio"] >= 2 else "**missed**"
    return "\n".join(
        [
            "# Time of a training step",
            "",
            f"Forward and backward pass of VerSemi's losses on one labelled and one unlabelled "
            f"crop of {' x '.join(str(n) for n in results['crop'])} voxels, {results['prompts']} "
            f"prompts and *foreground*, {results['device']}, {results['threads']} threads; the "
            f"fastest of several steps. Both arrangements give the same loss "
            f"({results['losses'][0]:.4f} and {results['losses'][1]:.4f}).",
            "",
            "| arrangement | seconds |",
            "|---|---:|",
            *rows,
            "",
            f"Without the teacher, one pass for all prompts is {results['ratio']:.2f} times as "
            f"fast as one for each; wanted are at least 2: {verdict}.",
            "",
        ]
    )


if __name__ == "__main__":
    raise SystemExit(main())
