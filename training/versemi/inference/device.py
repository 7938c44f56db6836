"""Which processor computes, and in which precision."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch

from versemi.errors import InputError

DEVICES = ("auto", "cpu", "cuda", "mps")


@dataclass(frozen=True)
class Compute:
    """A device with the precision that is fast on it.

    Attributes:
        device: where the network runs.
        autocast: type of the convolutions, or None for float32 throughout.
    """

    device: torch.device
    autocast: torch.dtype | None

    @property
    def name(self) -> str:
        """For people, as ``cpu (bfloat16)``."""
        precision = str(self.autocast or torch.float32).removeprefix("torch.")
        return f"{self.device.type} ({precision})"

    @property
    def channels_last(self) -> bool:
        """Whether windows are faster with their channels last; only where that was measured."""
        avx2 = torch.backends.cpu.get_cpu_capability() == "AVX2"
        return self.device.type == "cpu" and self.autocast is None and avx2

    def precision(self) -> AbstractContextManager[Any]:
        """Run the enclosed code in the device's precision."""
        if self.autocast is None:
            return nullcontext()
        return torch.autocast(self.device.type, self.autocast)

    @contextmanager
    def context(self) -> Iterator[None]:
        """Run the enclosed code without gradients, in the device's precision."""
        with torch.inference_mode(), self.precision():
            yield


def choose(device: str = "auto") -> Compute:
    """Choose a device; ``auto`` takes CUDA, then MPS, then the CPU.

    Raises:
        InputError: the name is unknown, or this machine or this torch lacks the device.
    """
    if device not in DEVICES:
        raise InputError(f"There is no device '{device}'; choose one of {', '.join(DEVICES)}.")
    has_cuda = torch.cuda.is_available()
    has_mps = torch.backends.mps.is_available()
    if device == "auto":
        device = "cuda" if has_cuda else "mps" if has_mps else "cpu"
    if (device == "cuda" and not has_cuda) or (device == "mps" and not has_mps):
        raise InputError(
            f"The device '{device}' is not available to PyTorch {torch.__version__} on this "
            "machine; choose 'auto' or 'cpu', or install a PyTorch made for it."
        )
    if device == "cuda":
        fast = torch.cuda.is_bf16_supported()
        return Compute(torch.device("cuda"), torch.bfloat16 if fast else torch.float16)
    if device == "mps":
        return Compute(torch.device("mps"), None)
    return Compute(torch.device("cpu"), torch.bfloat16 if _cpu_is_fast_at_bf16() else None)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether torch failed for want of memory, on whatever device."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and (
        "out of memory" in text
        or "can't allocate memory" in text
        # ITK's own words.
        or "failed to allocate memory" in text
    )


def _cpu_is_fast_at_bf16() -> bool:
    """Whether the CPU multiplies bf16 in hardware; without it, bf16 is slower than float32."""
    for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"):
        probe = getattr(torch.cpu, name, None)
        if probe is not None and probe():
            return True
    return False
