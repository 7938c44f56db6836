"""Takes one measurement in this process and writes it as JSON; `inference.py` starts it.

Each way of segmenting has a process of its own, so that its peak memory is its own.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import SimpleITK as sitk
import torch

Measured = dict[str, Any]

FIRST = "spleen"
LAST = "pancreas"


def one_prompt(scan: sitk.Image, pack: Path) -> Measured:
    """One prompt on a scan that has not been seen."""
    return {"calls": _segment(scan, pack, [[FIRST]])}


def all_prompts(scan: sitk.Image, pack: Path) -> Measured:
    """All CT prompts of the pack at once, on a scan that has not been seen."""
    return {"calls": _segment(scan, pack, [_ct_prompts(pack)])}


def one_more(scan: sitk.Image, pack: Path) -> Measured:
    """All CT prompts but one, and then that one, which lies among the others."""
    others = [prompt for prompt in _ct_prompts(pack) if prompt != LAST]
    return {"calls": _segment(scan, pack, [others, [LAST]])}


def all_prompts_everywhere(scan: sitk.Image, pack: Path) -> Measured:
    """All CT prompts without the coarse pass."""
    return {"calls": _segment(scan, pack, [_ct_prompts(pack)], search=False)}


def one_prompt_everywhere(scan: sitk.Image, pack: Path) -> Measured:
    """One prompt without the coarse pass, and then another, everything being computed."""
    return {"calls": _segment(scan, pack, [[FIRST], [LAST]], search=False)}


def sliding_vnet(scan: sitk.Image, pack: Path) -> Measured:
    """The plain way; see `others.sliding_vnet`."""
    import others

    return others.sliding_vnet(scan, len(_ct_prompts(pack)))


def nnunet(scan: sitk.Image, pack: Path) -> Measured:
    """nnU-Net v2; see `others.nnunet`."""
    import others

    return others.nnunet(scan, len(_ct_prompts(pack)))


VARIANTS: dict[str, Callable[[sitk.Image, Path], Measured]] = {
    f.__name__: f
    for f in (
        one_prompt,
        all_prompts,
        one_more,
        one_prompt_everywhere,
        all_prompts_everywhere,
        sliding_vnet,
        nnunet,
    )
}


def _ct_prompts(pack: Path) -> list[str]:
    from versemi.modelpack import ModelPack

    return [task.id for task in ModelPack.load(pack).tasks if task.modality == "CT"]


def _segment(
    scan: sitk.Image, pack: Path, requests: list[list[str]], search: bool = True
) -> list[Measured]:
    from versemi.inference import Segmenter
    from versemi.modelpack import ModelPack

    segmenter = Segmenter(ModelPack.load(pack), "cpu", search=search)
    calls = []
    for tasks in requests:
        started = time.perf_counter()
        result = segmenter.segment(scan, tasks, modality="CT")
        calls.append(
            {
                "prompts": tasks,
                "seconds": time.perf_counter() - started,
                "steps": result.timings,
                "volumes_ml": result.volumes_ml,
                "device": result.device,
                "warnings": result.warnings,
            }
        )
    return calls


def peak_gb() -> float:
    """Most memory that this process has held so far, in GB (10^9 bytes)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Linux counts in KiB, macOS in bytes.
    return peak * (1 if sys.platform == "darwin" else 1024) / 1e9


def main() -> None:
    """Take the measurement that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("variant", choices=VARIANTS)
    parser.add_argument("--scan", type=Path, required=True)
    parser.add_argument("--pack", type=Path, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--result", type=Path, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    scan = sitk.ReadImage(str(arguments.scan))
    measured = VARIANTS[arguments.variant](scan, arguments.pack)
    measured["peak_gb"] = peak_gb()
    arguments.result.write_text(json.dumps(measured, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
