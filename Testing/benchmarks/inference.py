"""Times segmenting on a CPU, side by side with the plain way and with nnU-Net v2.

Run by ``make bench``. Every way has a child process of its own, one after the other, with the
same number of threads. Writes ``out/bench/inference.json`` and ``inference.md``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.markdown import Markdown

import report
import scan
from versemi.errors import PackError
from versemi.modelpack import ModelPack, default_pack_path

HERE = Path(__file__).resolve().parent
OURS = ("one_prompt", "all_prompts", "one_more", "one_prompt_everywhere", "all_prompts_everywhere")
OTHERS = ("sliding_vnet", "nnunet")


def main() -> int:
    """Run the benchmark; 2 where the pack cannot be used, 1 where a measurement failed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--pack", type=Path, help="model pack; the one that ships by default")
    parser.add_argument("--out", type=Path, default=Path("out/bench"), help="where results go")
    parser.add_argument("--threads", type=int, default=_cores(), help="threads of every way")
    parser.add_argument(
        "--repeat", type=int, default=3, help="runs of each of our ways; the fastest counts"
    )
    arguments = parser.parse_args()
    console = Console()
    try:
        pack = ModelPack.load(arguments.pack or default_pack_path())
    except PackError as error:
        console.print(f"[red]{error}[/]")
        return 2
    out: Path = arguments.out.resolve()
    what = scan.make(out / "scan.nrrd")
    console.print(f"On {what}; {arguments.threads} threads.")

    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    if load > 0.5:
        console.print(
            f"[yellow]Other work is going on here (load {load:.1f}); times will be off.[/]"
        )

    measured: dict[str, dict[str, Any]] = {}
    for variant in (*OURS, *OTHERS):
        runs = []
        for number in range(arguments.repeat if variant in OURS else 1):
            console.print(f"{variant}, run {number + 1}", style="dim")
            runs.append(_measure(variant, out, Path(pack.path), arguments.threads))
        measured[variant] = report.fastest(runs)

    facts = {
        "scan": what,
        "pack": f"{pack.name} {pack.version}",
        "processor": _processor(),
        "load": round(load, 1),
        "threads": arguments.threads,
        "repeat": arguments.repeat,
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    results = {"facts": facts, "measured": measured, "targets": report.targets(measured)}
    (out / "inference.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    page = report.page(facts, measured)
    (out / "inference.md").write_text(page, encoding="utf-8")
    console.print(Markdown(page))
    console.print(f"Written to {out / 'inference.md'} and {out / 'inference.json'}.")
    return 0


def _measure(variant: str, out: Path, pack: Path, threads: int) -> dict[str, Any]:
    result = out / f"{variant}.json"
    command = [sys.executable, str(HERE / "measure.py"), variant]
    command += ["--scan", str(out / "scan.nrrd"), "--pack", str(pack)]
    command += ["--threads", str(threads), "--result", str(result)]
    # The libraries below torch (ITK, OpenMP) keep to the same number of threads.
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": str(threads),
        "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": str(threads),
    }
    ended = subprocess.run(command, env=environment, check=False)
    if ended.returncode != 0:
        raise SystemExit(f"The measurement '{variant}' ended with exit code {ended.returncode}.")
    measured: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
    result.unlink()
    return measured


def _cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _processor() -> str:
    """The processor by name, and what of it makes bf16 fast."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        lines = info.read_text(encoding="utf-8").splitlines()
        name = next((s.split(":", 1)[1].strip() for s in lines if s.startswith("model name")), name)
    return f"{name} ({torch.backends.cpu.get_cpu_capability()})"


if __name__ == "__main__":
    raise SystemExit(main())
