"""Where and in what precision an encoder computes, and with how many threads."""

from __future__ import annotations

import os
from typing import Literal

import torch

from service.errors import InputError

Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["auto", "fp32", "bf16", "fp16"]

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def resolve_compute(device: Device, precision: Precision) -> tuple[str, str]:
    """The device and precision that `auto` comes to on this machine.

    fp16 on CUDA; on a CPU bf16 where it has instructions for it (without them bf16 is emulated and slower than fp32).
    Raises InputError where CUDA is asked for and absent.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("torch sees no CUDA device", where="device", todo="Use device=auto or cpu")
    on = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    if precision != "auto":
        return on, precision
    if on == "cuda":
        return on, "fp16"
    able = torch.cpu.get_capabilities()
    return on, "bf16" if able.get("avx512_bf16") or able.get("amx_bf16") else "fp32"


def available_threads(threads: int) -> int:
    """`threads`, or all cores that this process may use where it is 0."""
    return threads or len(os.sched_getaffinity(0))
